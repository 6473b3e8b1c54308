"""What something costs in a process of its own, its children included: seconds, processor seconds, peak memory."""

import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import psutil

POLL_S = 0.05


@dataclass(frozen=True)
class Cost:
    """What a step took once. wall, processor: seconds.  own_mib, others_mib: peaks of its process, and of the largest that it started."""

    wall: float
    processor: float
    own_mib: float
    others_mib: float = 0.0


def high_water(process: int) -> float:
    """Largest resident size of a process so far, MiB; 0 when it is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def _step(action: Callable[[], None], answer: Connection) -> None:
    wall, processor = time.perf_counter(), time.process_time()
    action()
    answer.send(Cost(time.perf_counter() - wall, time.process_time() - processor, high_water(os.getpid())))


def measured(action: Callable[[], None]) -> Cost:
    """Do something in a process of its own; watch the processes that it starts."""
    here, there = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_step, args=(action, there))
    process.start()
    spent: dict[int, float] = {}
    peak = 0.0
    while not here.poll(POLL_S) and process.is_alive():
        for child in psutil.Process(process.pid).children(recursive=True):
            try:
                times = child.cpu_times()
            except psutil.NoSuchProcess:
                continue
            spent[child.pid] = times.user + times.system
            peak = max(peak, high_water(child.pid))
    if not here.poll():
        raise SystemExit("a step failed, as said above")
    own = here.recv()
    process.join()
    return Cost(own.wall, own.processor + sum(spent.values()), own.own_mib, peak)
