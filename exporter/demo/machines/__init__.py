"""Simulated Windows machines: virtual ones, at the level that the collector script reads.

Each is a small description, ``<name>.yml``, over the defaults of its version of Windows, ``windows.yml``. None of them
exists; `exporter.demo.machines.document` writes what the script would print there.
"""

from __future__ import annotations

from typing import Final

from exporter.demo.machines.loading import load, machine_of, names
from exporter.demo.machines.machine import (
    CertificateDescription,
    Machine,
    Registry,
    RegistryKeys,
    RegistryValue,
)

__all__ = [
    "MACHINES",
    "CertificateDescription",
    "Machine",
    "Registry",
    "RegistryKeys",
    "RegistryValue",
    "load",
    "load_all",
    "machine_of",
]

MACHINES: Final[tuple[str, ...]] = names()
"""The names of the machines that come with the exporter."""


def load_all() -> tuple[Machine, ...]:
    """All of them, in the order of their names."""
    return tuple(load(name) for name in MACHINES)
