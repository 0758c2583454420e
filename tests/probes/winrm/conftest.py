"""What the visits to simulated hosts have in common."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from winrm_hosts import Pki, pki

from exporter.demo.winrm import SimulatedHosts


@pytest.fixture(scope="module")
def hosts() -> Iterator[SimulatedHosts]:
    """A fleet to which tests add the hosts that they need."""
    with SimulatedHosts() as fleet:
        yield fleet


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """An authority, and what it and others issued."""
    return pki(tmp_path_factory.mktemp("pki"))
