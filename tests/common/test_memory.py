"""What this machine is said to hold, against Dask's own answer."""

import resource
from pathlib import Path
from typing import Any

import pytest
from distributed import system

from medadv.common import machine


def test_the_memory_limit_is_dasks() -> None:
    assert machine.memory_limit() == system.memory_limit() == system.MEMORY_LIMIT


@pytest.mark.parametrize(
    "limits",
    [
        {"memory.max": "max"},
        {"memory.max": "max", "memory.high": 1 << 30, "memory.low": 0},
        {"memory.max": 1 << 30, "memory.low": 1 << 20},
        {"memory/memory.limit_in_bytes": 1 << 31, "memory/memory.soft_limit_in_bytes": 1 << 30},
        {"memory/memory.limit_in_bytes": (1 << 63) - 4096},
        {"memory.max": 1 << 32, "rss": 1 << 28},
    ],
)
def test_it_is_dasks_in_every_container(limits: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resident = limits.pop("rss", -1)
    (tmp_path / "memory").mkdir()
    for name, value in limits.items():
        (tmp_path / name).write_text(f"{value}\n")
    # Dask opens its paths by their full names.
    real = machine.CGROUP
    monkeypatch.setattr(system, "open", lambda path: (tmp_path / Path(path).relative_to(real)).open(), raising=False)
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (-1, resident))
    wanted = [value for value in (*limits.values(), resident) if isinstance(value, int) and 0 < value < 1 << 33]
    assert machine.memory_limit() == system.memory_limit()
    assert not wanted or machine.memory_limit() == min(wanted)
