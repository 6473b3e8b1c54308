"""What tests of runs share: scripts/schedule/jobqueue.py without dask-jobqueue."""

import sys
from types import ModuleType

import pytest
from tests.conftest import load_script


@pytest.fixture
def jobqueue(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module; its `SLURMCluster` is nothing until the test puts something in its place."""
    stand_in = ModuleType("dask_jobqueue")
    stand_in.SLURMCluster = None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "dask_jobqueue", stand_in)
    return load_script("schedule/jobqueue.py")
