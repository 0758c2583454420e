from __future__ import annotations

from collections.abc import Iterator

import pytest
from samba_controller import SambaController, running


@pytest.fixture(scope="session")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SambaController]:
    """One controller for all tests of this folder: it takes seconds to make."""
    with running(tmp_path_factory.mktemp("controller")) as controller:
        yield controller
