"""Target files: Prometheus' format, watched, and never believed when they are broken."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from exporter.config import Defaults, FileSdConfig, load_config
from exporter.targets import Target
from exporter.targets.file_sd import FileDiscovery

_clock = iter(range(1, 1000))


def _write(path: Path, content: str) -> None:
    """Write a file with a modification time of its own, however fast the test is."""
    path.write_text(content, encoding="utf-8")
    stamp = 1_700_000_000 + next(_clock)
    os.utime(path, (stamp, stamp))


def _discovery(folder: Path, *files: str) -> FileDiscovery:
    config = FileSdConfig(files=tuple(str(folder / name) for name in files or ("*.yml", "*.json")))
    return FileDiscovery([config], Defaults(), ["wire-tls12"], {"readers", "others"})


def _names(targets: tuple[Target, ...]) -> list[str]:
    return [target.name for target in targets]


def test_yaml_and_json_with_labels_and_settings(tmp_path: Path) -> None:
    """Groups of targets with labels; __role__, __address__ and __expect__ are settings."""
    _write(
        tmp_path / "a.yml", "- targets: [exch01.test, exch02.test]\n  labels: {site: hanoi, __expect__: wire-tls12}\n"
    )
    group: dict[str, Any] = {"targets": ["edge01.test"], "labels": {"__role__": "edge", "__address__": "192.0.2.7"}}
    _write(tmp_path / "b.json", json.dumps([group]))

    found = _discovery(tmp_path).look()

    assert found.errors == ()
    first, _, edge = found.targets
    assert (first.name, dict(first.labels), first.expect, first.role) == (
        "exch01.test", {"site": "hanoi"}, "wire-tls12", "mailbox",
    )  # fmt: skip
    assert (edge.name, edge.role, edge.address, dict(edge.labels)) == ("edge01.test", "edge", "192.0.2.7", {})


def test_changes_are_seen(tmp_path: Path) -> None:
    """A changed, a new and a deleted file."""
    discovery = _discovery(tmp_path)
    assert discovery.look().targets == ()

    _write(tmp_path / "a.yml", "- targets: [exch01.test]")
    assert _names(discovery.look().targets) == ["exch01.test"]
    _write(tmp_path / "a.yml", "- targets: [exch02.test]")
    _write(tmp_path / "b.yml", "- targets: [exch03.test]")
    assert _names(discovery.look().targets) == ["exch02.test", "exch03.test"]
    (tmp_path / "a.yml").unlink()
    assert _names(discovery.look().targets) == ["exch03.test"]


BAD = {
    "no yaml": ("- targets: [", "line 1, column"),
    "no list": ("targets: [a]", "a list is needed"),
    "an unknown key": ("- targets: [a]\n  port: 25", "[0].port: there is no such key"),
    "no targets": ("- labels: {site: x}", "[0].targets: Field required"),
    "a name with a port": ("- targets: ['exch01:25']", "[0].targets[0]: name: 'exch01:25': a host name"),
    "a label that UTF-8 cannot hold": (
        '- targets: [a]\n  labels: {site: "\\ud800"}',
        "a text that UTF-8 can hold is needed",
    ),
    "a reserved label": ("- targets: [a]\n  labels: {job: x}", "reserved label name: job"),
    "an unknown setting": ("- targets: [a]\n  labels: {__port__: x}", "reserved label name: __port__"),
    "an unknown role": ("- targets: [a]\n  labels: {__role__: hub}", "role: 'hub'"),
    "an unknown profile": ("- targets: [a]\n  labels: {__expect__: tls14}", "'tls14' is not among profiles"),
    "unknown credentials": (
        "- targets: [a]\n  labels: {__credentials__: reader}",
        "[0].labels.__credentials__: 'reader' is not among credentials",
    ),
    "credentials of an address": (
        "- targets: [10.0.0.1]\n  labels: {__credentials__: readers}",
        "[0].targets[0]: credentials needs the server's name, and 10.0.0.1 is an address",
    ),
    "two sources of host facts": (
        "- targets: [a]\n  labels: {__credentials__: readers, __facts_file__: a.txt}",
        "[0].targets[0]: facts_file and credentials: one of the two",
    ),
    "a server twice": ("- targets: [a, A]", "'A' is there twice"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_a_file_that_becomes_invalid_keeps_its_old_targets(tmp_path: Path, content: str, message: str) -> None:
    """And says so once for each change, while it is counted as broken at each look."""
    discovery = _discovery(tmp_path)
    _write(tmp_path / "a.yml", "- targets: [exch01.test]")
    _write(tmp_path / "b.yml", "- targets: [exch02.test]")
    discovery.look()

    _write(tmp_path / "a.yml", content)
    broken, quiet = discovery.look(), discovery.look()

    assert _names(broken.targets) == _names(quiet.targets) == ["exch01.test", "exch02.test"]
    assert message in str(broken.errors[0])
    assert str(broken.errors[0]).startswith(str(tmp_path / "a.yml"))
    assert quiet.errors == ()
    assert broken.broken == quiet.broken == 1


def test_a_file_that_recovers_is_believed_again(tmp_path: Path) -> None:
    """The fault does not stick."""
    discovery = _discovery(tmp_path)
    _write(tmp_path / "a.yml", "- targets: [")
    assert discovery.look().errors
    _write(tmp_path / "a.yml", "- targets: [exch01.test]")

    found = discovery.look()

    assert (_names(found.targets), found.errors) == (["exch01.test"], ())


def test_an_empty_file_has_no_targets(tmp_path: Path) -> None:
    """As in Prometheus."""
    _write(tmp_path / "a.yml", "")

    assert _discovery(tmp_path).look().targets == ()


def test_the_same_server_in_two_files_is_one_target(tmp_path: Path) -> None:
    """The first file, in the order of their names, decides."""
    _write(tmp_path / "a.yml", "- targets: [exch01.test]\n  labels: {site: a}")
    _write(tmp_path / "b.yml", "- targets: [exch01.test]\n  labels: {site: b}")

    found = _discovery(tmp_path).look()

    assert [dict(target.labels) for target in found.targets] == [{"site": "a"}]
    assert found.repeated == ("exch01.test",)


def test_a_file_that_could_not_be_read_is_tried_again(tmp_path: Path) -> None:
    """Rights that are mended do not change the content."""
    (tmp_path / "a.yml").symlink_to(tmp_path / "elsewhere")
    discovery = _discovery(tmp_path)
    assert [discovery.look().broken, discovery.look().broken] == [1, 1]
    _write(tmp_path / "elsewhere", "- targets: [exch01.test]")

    assert _names(discovery.look().targets) == ["exch01.test"]


class TestFactsFile:
    def test_it_is_relative_to_the_target_file(self, tmp_path: Path) -> None:
        """Wherever the configuration is. It stands for a week; it is a setting and no label."""
        (tmp_path / "sites").mkdir()
        _write(
            tmp_path / "sites" / "hanoi.yml",
            "- targets: [exch01.test]\n  labels: {site: hanoi, __facts_file__: facts/exch01.txt}\n"
            "- targets: [exch02.test]\n  labels: {site: hanoi}",
        )

        first, second = _discovery(tmp_path, "sites/*.yml").look().targets

        assert (first.facts_file, first.facts_max_age) == (str(tmp_path / "sites/facts/exch01.txt"), 7 * 86400)
        assert (second.facts_file, second.facts_max_age) == ("", 0.0)
        assert dict(first.labels) == dict(second.labels) == {"site": "hanoi"}

    def test_an_absolute_path_is_where_it_says(self, tmp_path: Path) -> None:
        """As in the configuration."""
        group = {"targets": ["exch01.test"], "labels": {"__facts_file__": "/srv/facts/exch01.txt"}}
        _write(tmp_path / "a.json", json.dumps([group]))

        (target,) = _discovery(tmp_path).look().targets

        assert target.facts_file == "/srv/facts/exch01.txt"

    def test_another_path_is_another_target(self, tmp_path: Path) -> None:
        """The refresh loop compares what it had with what it gets."""
        discovery = _discovery(tmp_path)
        _write(tmp_path / "a.yml", "- targets: [exch01.test]\n  labels: {__facts_file__: a.txt}")
        before = discovery.look().targets
        _write(tmp_path / "a.yml", "- targets: [exch01.test]\n  labels: {__facts_file__: b.txt}")

        (after,) = discovery.look().targets

        assert (after,) != before
        assert after.facts_file == str(tmp_path / "b.txt")

    @pytest.mark.parametrize("address", ["10.0.0.1", "fd00::25"])
    def test_an_address_has_none(self, tmp_path: Path, address: str) -> None:
        """A document says the host's name. As the address to connect to it is good."""
        _write(tmp_path / "a.yml", f"- targets: ['{address}']\n  labels: {{__facts_file__: a.txt}}")
        refused = _discovery(tmp_path).look()
        _write(
            tmp_path / "a.yml",
            f"- targets: [exch01.test]\n  labels: {{__facts_file__: a.txt, __address__: '{address}'}}",
        )

        assert f"facts_file needs the server's name, and {address} is an address" in str(refused.errors[0])
        assert refused.targets == ()
        assert _discovery(tmp_path).look().errors == ()

    def test_nor_has_a_path_that_is_none(self, tmp_path: Path) -> None:
        """The label is named by what it sets."""
        _write(tmp_path / "a.yml", '- targets: [exch01.test]\n  labels: {__facts_file__: "a\\0b"}')

        (error,) = _discovery(tmp_path).look().errors

        assert "[0].targets[0]: facts_file.path: " in str(error)

    def test_an_empty_one_is_none(self, tmp_path: Path) -> None:
        """As every label is to Prometheus."""
        _write(tmp_path / "a.yml", '- targets: [exch01.test]\n  labels: {__facts_file__: ""}')

        (target,) = _discovery(tmp_path).look().targets

        assert (target.facts_file, dict(target.labels)) == ("", {})

    def test_its_age_cannot_be_said(self, tmp_path: Path) -> None:
        """Only the configuration has a place for it."""
        _write(tmp_path / "a.yml", "- targets: [exch01.test]\n  labels: {__facts_max_age__: 2d}")

        (error,) = _discovery(tmp_path).look().errors

        assert "reserved label name: __facts_max_age__" in str(error)


class TestCredentials:
    def _look(self, folder: Path, labels: str, default: str | None) -> tuple[Target, ...]:
        _write(folder / "a.yml", f"- targets: [exch01.test, 10.0.0.1]\n  labels: {{{labels}}}")
        files = FileSdConfig(files=(str(folder / "*.yml"),))
        found = FileDiscovery([files], Defaults(credentials=default), [], ["readers", "others"]).look()
        assert found.errors == ()
        return found.targets

    def test_the_default_is_for_names(self, tmp_path: Path) -> None:
        """As for the configuration's own servers: those that are called by an address stay without."""
        named, address = self._look(tmp_path, "site: hanoi", "readers")

        assert (named.credentials, address.credentials) == ("readers", "")

    def test_a_group_has_its_own(self, tmp_path: Path) -> None:
        """A setting, and no label of the metrics."""
        _write(tmp_path / "b.yml", "- targets: [exch02.test]\n  labels: {__credentials__: others}")

        *_, target = self._look(tmp_path, "site: hanoi", "readers")

        assert (target.name, target.credentials, dict(target.labels)) == ("exch02.test", "others", {})

    def test_or_none(self, tmp_path: Path) -> None:
        """Whatever the default is."""
        assert [each.credentials for each in self._look(tmp_path, "__credentials__: none", "readers")] == ["", ""]

    def test_an_empty_one_is_not_there(self, tmp_path: Path) -> None:
        """As every label is to Prometheus."""
        first, _ = self._look(tmp_path, '__credentials__: ""', "readers")

        assert (first.credentials, dict(first.labels)) == ("readers", {})

    def test_a_facts_file_wins_over_the_default(self, tmp_path: Path) -> None:
        """What a host says comes from one place."""
        _write(tmp_path / "b.yml", "- targets: [exch02.test]\n  labels: {__facts_file__: a.txt}")

        *_, target = self._look(tmp_path, "site: hanoi", "readers")

        assert (target.facts_file, target.credentials) == (str(tmp_path / "a.txt"), "")


def test_a_folder_with_brackets_is_a_folder(tmp_path: Path) -> None:
    """Only what the configuration says is a pattern."""
    folder = tmp_path / "[etc]"
    folder.mkdir()
    _write(folder / "a.yml", "- targets: [exch01.test]")
    (folder / "tls-readiness.yml").write_text("file_sd_configs: [{files: ['a*.yml']}]")
    config = load_config(folder / "tls-readiness.yml", ["wire-tls12", "wire-tls12-only"])

    found = FileDiscovery(config.file_sd_configs, config.defaults, config.profiles, config.credentials).look()

    assert _names(found.targets) == ["exch01.test"]
