"""Targets from files, in Prometheus' file_sd format.

A file is a list of groups ``{targets: [name, …], labels: {…}}`` in YAML or JSON. A label ``__role__``, ``__address__``,
``__expect__``, ``__credentials__`` or ``__facts_file__`` (the path alone) sets what the key of that name sets for a
server in the configuration file; the others become labels.
"""

from __future__ import annotations

import glob
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from exporter.config import NO_CREDENTIALS, ConfigError, Defaults, FileSdConfig, ServerConfig, describe, load_yaml
from exporter.files import stamp
from exporter.targets import Target, merge, target_of


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid")

    targets: list[str]
    labels: dict[str, str] = {}


_GROUPS = TypeAdapter(list[_Group])
_SETTINGS = {"__role__": "role", "__address__": "address", "__expect__": "expect"}
_FACTS_FILE = "__facts_file__"
_CREDENTIALS = "__credentials__"


@dataclass(frozen=True, slots=True)
class _Read:
    """What a file held when it was read last."""

    stamp: tuple[int, ...] | None
    targets: tuple[Target, ...]
    broken: bool = False


@dataclass(frozen=True, slots=True)
class Discovered:
    """What one look at the files found.

    Attributes:
        targets: all of them.
        errors: why files could not be used that changed since the last look; their old targets stay.
        broken: how many files cannot be used now.
        repeated: names that are in several files; the first file, in the order of their names, decides.
    """

    targets: tuple[Target, ...]
    errors: tuple[ConfigError, ...] = ()
    broken: int = 0
    repeated: tuple[str, ...] = ()


class FileDiscovery:
    """Looks at the files again and again; keeps the last good content of each."""

    def __init__(
        self,
        configs: Sequence[FileSdConfig],
        defaults: Defaults,
        profiles: Sequence[str],
        credentials: Collection[str],
    ) -> None:
        self._patterns = [pattern for config in configs for pattern in config.files]
        self._defaults = defaults
        self._profiles = profiles
        self._credentials = frozenset({NO_CREDENTIALS, *credentials})
        self._read: dict[Path, _Read] = {}

    def look(self) -> Discovered:
        """Read the files that changed. Blocks on the file system; a file that is gone takes its targets with it."""
        paths = sorted({Path(found) for pattern in self._patterns for found in glob.glob(pattern)})  # noqa: PTH207
        errors = []
        current: dict[Path, _Read] = {}
        for path in paths:
            old = self._read.get(path)
            current_stamp = stamp(path)
            if old is not None and current_stamp is not None and old.stamp == current_stamp:
                current[path] = old
                continue
            try:
                current[path] = _Read(current_stamp, self._load(path))
            except ConfigError as error:
                if old is None or not old.broken or old.stamp != current_stamp:
                    errors.append(error)
                current[path] = _Read(current_stamp, old.targets if old else (), broken=True)
        self._read = current
        targets, repeated = merge(*(read.targets for read in current.values()))
        return Discovered(targets, tuple(errors), sum(read.broken for read in current.values()), repeated)

    def _load(self, path: Path) -> tuple[Target, ...]:
        document = load_yaml(path)
        try:
            groups = _GROUPS.validate_python(document if document is not None else [])
        except ValidationError as error:
            raise ConfigError(str(path), describe(error, document)) from error
        errors: list[str] = []
        targets = []
        for index, group in enumerate(groups):
            for position, name in enumerate(group.targets):
                settings = _server(name, group.labels, path.parent)
                try:
                    server = ServerConfig.model_validate(settings)
                except ValidationError as error:
                    errors += [f"[{index}].targets[{position}]: {line}" for line in describe(error, settings)]
                    continue
                if server.expect is not None and server.expect not in self._profiles:
                    errors.append(f"[{index}].labels.__expect__: {server.expect!r} is not among profiles")
                if server.credentials is not None and server.credentials not in self._credentials:
                    errors.append(f"[{index}].labels.{_CREDENTIALS}: {server.credentials!r} is not among credentials")
                targets.append(target_of(server, self._defaults))
        _, repeated = merge(targets)
        errors += [f"{name!r} is there twice" for name in repeated]
        if errors:
            raise ConfigError(str(path), errors)
        return tuple(targets)


def _server(name: str, labels: Mapping[str, str], folder: Path) -> dict[str, Any]:
    settings: dict[str, Any] = {key: labels[label] for label, key in _SETTINGS.items() if label in labels}
    if labels.get(_FACTS_FILE):  # to Prometheus, an empty label is none
        settings["facts_file"] = {"path": str(folder / labels[_FACTS_FILE])}
    if labels.get(_CREDENTIALS):
        settings["credentials"] = labels[_CREDENTIALS]
    own = {key: value for key, value in labels.items() if key not in {*_SETTINGS, _FACTS_FILE, _CREDENTIALS}}
    return {**settings, "name": name, "labels": own}
