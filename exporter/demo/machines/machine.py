"""What a simulated machine is made of: a registry, WMI objects, files, certificates, logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

_DOCUMENTED: Final = ("REG_DWORD", "REG_QWORD", "REG_SZ", "REG_EXPAND_SZ", "REG_MULTI_SZ", "REG_BINARY")


@dataclass(frozen=True, slots=True)
class RegistryValue:
    """One value of a registry key.

    Attributes:
        type: REG_DWORD and its like.
        value: a number; a text; several texts of a REG_MULTI_SZ; base64 of a REG_BINARY.
    """

    type: str
    value: int | str | tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """As the collector script writes it: a type that it has no form for is *other*, without the data."""
        if self.type not in _DOCUMENTED:
            return {"type": "other", "value": None}
        return {"type": self.type, "value": list(self.value) if isinstance(self.value, tuple) else self.value}


RegistryKeys = Mapping[str, Mapping[str, RegistryValue]]
"""Per path below HKEY_LOCAL_MACHINE, with backslashes, the values by their names; a key may have none."""


class Registry:
    """HKEY_LOCAL_MACHINE as Windows looks things up in it: upper and lower case are the same.

    The 32-bit view is nothing special: 64-bit programs see it as the subkey Wow6432Node of SOFTWARE.
    """

    def __init__(self, keys: RegistryKeys) -> None:
        self._values: dict[str, dict[str, RegistryValue]] = {}
        self._subkeys: dict[str, dict[str, str]] = {}
        for path, values in keys.items():
            self._create(path)
            self._values[path.upper()].update({name.upper(): value for name, value in values.items()})

    def _create(self, path: str) -> None:
        self._values.setdefault(path.upper(), {})
        parent, backslash, name = path.rpartition("\\")
        if backslash:
            self._create(parent)
            self._subkeys.setdefault(parent.upper(), {}).setdefault(name.upper(), name)

    def exists(self, path: str) -> bool:
        """Whether the key is there; those above a key that is there are as well."""
        return path.upper() in self._values

    def value(self, path: str, name: str) -> RegistryValue | None:
        """The value, or None where it or its key is not there."""
        return self._values.get(path.upper(), {}).get(name.upper())

    def subkeys(self, path: str) -> tuple[str, ...]:
        """The names of the keys right below, in the registry's own order, which is the upper-case names'."""
        found = self._subkeys.get(path.upper(), {})
        return tuple(found[name] for name in sorted(found))


@dataclass(frozen=True, slots=True)
class CertificateDescription:
    """A self-signed certificate of LocalMachine\\My, and what uses it.

    Attributes:
        subject: its distinguished name, as RFC 4514 writes them.
        names: the DNS names that it is for.
        key: rsa1024, rsa2048 or ec256.
        hash: what it is signed with: sha1, sha256, sha384 or sha512.
        days: until it expires.
        bindings: HTTP.sys' bindings by address, such as 0.0.0.0:443.
        sni: those by name, such as mail.contoso.test:443.
        rdp: whether Remote Desktop was told to use it.
    """  # noqa: D301  # a path, not an escape

    subject: str
    names: tuple[str, ...] = ()
    key: str = "rsa2048"
    hash: str = "sha256"
    days: int = 365
    bindings: tuple[str, ...] = ()
    sni: tuple[str, ...] = ()
    rdp: bool = False


@dataclass(frozen=True, slots=True)
class Machine:
    """A simulated Windows machine, told from no moment in particular: ages stand for dates.

    Attributes:
        name: of its file, without the suffix.
        description: what is notable about it, and that it is a simulation.
        role: mailbox, edge or domain-controller.
        windows: its version of Windows Server, such as 2008 R2.
        host: the NetBIOS name.
        fqdn: the DNS name.
        powershell: the version of Windows PowerShell.
        clr: the version of the common language runtime that PowerShell runs on.
        elevated: whether the script runs there with an administrator's rights.
        registry: all but what `certificates` bind.
        wmi: per class, its objects; a class that is not named is not there.
        files: per full path, the four numbers of the file's version.
        certificates: the computer's own store.
        logs: per full path, the text of a log file.
        pending_updates: what Windows Update would install: title, and numbers (without KB) as ``kb``.
        errors: per section and item, what reading it fails with: kind, type and message.
        up: since when it has been running.
        utc_offset: what its local time is ahead of UTC.
    """

    name: str
    description: str
    role: str
    windows: str
    host: str
    fqdn: str
    powershell: str
    clr: str
    elevated: bool
    registry: RegistryKeys
    wmi: Mapping[str, Sequence[Mapping[str, Any]]]
    files: Mapping[str, str]
    certificates: tuple[CertificateDescription, ...] = ()
    logs: Mapping[str, str] = field(default_factory=dict)
    pending_updates: tuple[Mapping[str, Any], ...] = ()
    errors: Mapping[str, Mapping[str, Mapping[str, str]]] = field(default_factory=dict)
    up: timedelta = timedelta(days=12)
    utc_offset: timedelta = timedelta(hours=1)
