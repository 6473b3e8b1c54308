"""What tests of runs share: scripts/schedule/jobqueue.py without dask-jobqueue."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

JOBQUEUE = Path(__file__).resolve().parents[2] / "scripts" / "schedule" / "jobqueue.py"


@pytest.fixture
def jobqueue(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module; its `SLURMCluster` is nothing until the test puts something in its place."""
    stand_in = ModuleType("dask_jobqueue")
    stand_in.SLURMCluster = None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "dask_jobqueue", stand_in)
    loader = importlib.util.spec_from_file_location("jobqueue", JOBQUEUE)
    assert loader is not None
    assert loader.loader is not None
    script = importlib.util.module_from_spec(loader)
    loader.loader.exec_module(script)
    return script
