"""Secrets in files: what is taken for the password, and that nothing shows it."""

from __future__ import annotations

import hashlib
import traceback
from pathlib import Path

import pytest

from exporter.credentials.secret import MAX_BYTES, Keytab, Password, SecretError, read_keytab, read_password

SECRET = "geheim-\u20ac-Pa55w0rd"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "winrm.password"


def _fault(path: Path) -> str:
    """Why there is no password in a file; whatever of that could be logged."""
    with pytest.raises(SecretError) as caught:
        read_password(path)
    return "".join(traceback.format_exception(caught.value)).rpartition("SecretError: ")[2].strip()


class TestPassword:
    @pytest.mark.parametrize(
        ("content", "password"),
        [
            (f"{SECRET}", SECRET),
            (f"{SECRET}\n", SECRET),
            (f"{SECRET}\r\n", SECRET),
            (f"{SECRET}\n\n", SECRET),
            (f"{SECRET}\nsecond line\n", SECRET),
            (f"\ufeff{SECRET}\r\n", SECRET),
            ("  spaces and\ttabs \n", "  spaces and\ttabs "),
            ("one\rline\n", "one\rline"),
            ("two\r\r\n", "two\r"),
            ("\u2028 is no line break\u0085\n", "\u2028 is no line break\u0085"),
            ("#:'\"\\$%\n", "#:'\"\\$%"),
            (" \n", " "),
        ],
    )
    def test_is_the_first_line_without_its_line_break(self, path: Path, content: str, password: str) -> None:
        """Whatever an editor ends it with, or begins the file with; everything else in it counts."""
        path.write_bytes(content.encode())

        assert read_password(path) == Password(password)

    def test_may_be_long(self, path: Path) -> None:
        path.write_text("x" * MAX_BYTES, encoding="ascii")

        assert read_password(path).text == "x" * MAX_BYTES

    def test_shows_nowhere(self, path: Path) -> None:
        """Neither where it is printed nor where it is part of what is printed."""
        path.write_text(f"{SECRET}\n", encoding="utf-8")
        password = read_password(path)

        for shown in (repr(password), str(password), f"{password}", repr([password]), f"{password!a}"):
            assert "Pa55w0rd" not in shown

    def test_is_known_by_its_text(self) -> None:
        """The guard and the tickets compare secrets, and keep them in dictionaries."""
        assert Password("one") == Password("one") != Password("two")
        assert len({Password("one"), Password("one"), Password("two")}) == 2

    @pytest.mark.parametrize("content", ["", "\n", "\r\n", "\nsecond line\n", "\ufeff\n"])
    def test_that_is_empty_is_none(self, path: Path, content: str) -> None:
        """An empty one is a logon attempt that can only fail."""
        path.write_bytes(content.encode())

        assert _fault(path) == f"{path}: its first line is empty"

    def test_file_that_is_not_there(self, path: Path) -> None:
        assert _fault(path) == f"{path}: No such file or directory"

    def test_file_that_is_a_folder(self, path: Path) -> None:
        path.mkdir()

        assert _fault(path) == f"{path}: Is a directory"

    def test_file_in_another_encoding(self, path: Path) -> None:
        """Guessing would send a wrong password. Nothing of what it holds is said."""
        for content in (SECRET.encode("utf-16"), "geheim-ä-Pa55w0rd".encode("latin-1")):
            path.write_bytes(content)

            assert _fault(path) == f"{path}: not UTF-8"

    def test_file_that_is_too_long_is_another(self, path: Path) -> None:
        """Such as a log, of which nobody's account should be tried with the first line."""
        path.write_text("x" * (MAX_BYTES + 1), encoding="ascii")

        assert _fault(path) == f"{path}: longer than {MAX_BYTES} bytes"

    def test_file_without_an_end_is_another(self) -> None:
        assert _fault(Path("/dev/zero")) == f"/dev/zero: longer than {MAX_BYTES} bytes"

    def test_file_is_read_anew_each_time(self, path: Path) -> None:
        path.write_text("one\n", encoding="ascii")
        one = read_password(path)
        path.write_text("two\n", encoding="ascii")

        assert (one, read_password(path)) == (Password("one"), Password("two"))


class TestKeytab:
    def test_is_what_its_file_holds(self, path: Path) -> None:
        path.write_bytes(b"\x05\x02keys")

        assert read_keytab(path) == Keytab(path, hashlib.sha256(b"\x05\x02keys").hexdigest())
        assert hash(read_keytab(path)) == hash(read_keytab(path))

    def test_is_the_same_while_its_content_is(self, path: Path) -> None:
        """Whoever sets its rights, or puts the same keys there once more, has made no new secret to be tried."""
        path.write_bytes(b"\x05\x02keys")
        seen = {read_keytab(path)}
        path.chmod(0o600)
        seen.add(read_keytab(path))
        new = path.with_suffix(".new")
        new.write_bytes(b"\x05\x02keys")
        new.replace(path)
        seen.add(read_keytab(path))

        assert len(seen) == 1

    def test_is_another_when_its_content_is(self, path: Path) -> None:
        """Of the same length, too."""
        seen = set()
        for content in (b"\x05\x02keys", b"\x05\x02KEYS", b"\x05\x02more keys"):
            path.write_bytes(content)
            seen.add(read_keytab(path))

        assert len(seen) == 3

    def test_that_is_not_there(self, path: Path) -> None:
        with pytest.raises(SecretError, match=f"^{path}: No such file or directory$"):
            read_keytab(path)

    def test_that_is_too_long_is_another_file(self) -> None:
        with pytest.raises(SecretError, match=f"^/dev/zero: longer than {MAX_BYTES} bytes$"):
            read_keytab(Path("/dev/zero"))
