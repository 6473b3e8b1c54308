#!/usr/bin/env python
"""Whether cost grows with the work: time and peak memory a sample at 100, 1,000 and 10,000 samples, and what is not linear.

    OMP_NUM_THREADS=1 python scripts/bench/growth.py [dicom nifti volumes csv coco yolo] [--sizes 100 1000] [--steps run verify ...]

Images of 32 x 32, a victim of a few thousand weights, one attack of one step, one worker. Every step runs in a process of its own, forked
when everything is imported; what it takes with 16 samples is start-up, and taken off. `shards` is the part of `run` from the first receipt
to the last. Processor time counts all processes of a step, and is what a verdict rests on: other work on the machine hardly changes it. The
shortest of several repeats is taken. Memory is the peak of the process itself, and after `+` of the largest that it started.

Named is what takes more than 1.3 times the time a sample of the size before, or 64 MiB more memory. A difference that start-up itself shows
between its repeats is none; a dash stands where the smaller size took no longer than that.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import psutil
import torch
from growth_data import CASES, build

from medadv.evidence.verify import find_damage
from medadv.prepare.describe import describe
from medadv.prepare.request import Options
from medadv.report.page import write_report
from medadv.run.run import run as run_spec
from medadv.training.dataset import CorpusDataset

FEW = 16
"""Samples of the run whose time is start-up."""
ALLOWED = 1.3
ALLOWED_MIB = 64.0
SHORTEST_NOISE_S = 0.05
LARGE = ("dicom", "csv")
"""Cases that are taken to 10,000 samples; the others end at 1,000."""
REPEATS = {FEW: 2, 100: 2}
POLL_S = 0.05


def plan(folder: Path) -> None:
    """`medadv plan`."""
    describe(folder / "spec.yaml", Options(), lambda *_: None)


def run(folder: Path) -> None:
    """`medadv run`."""
    run_spec(folder / "spec.yaml", Options(), lambda *_: None)


def verify(folder: Path) -> None:
    """`medadv verify`."""
    assert find_damage(folder / "corpus") == []


def report(folder: Path) -> None:
    """`medadv report`."""
    write_report(folder / "corpus")


def epoch(folder: Path) -> None:
    """Every pair of the corpus once, in random order."""
    dataset = CorpusDataset(folder / "corpus")
    for index in np.random.default_rng(0).permutation(len(dataset)).tolist():
        dataset[index]


STEPS: dict[str, Callable[[Path], None]] = {
    "plan": plan,
    "run": run,
    "nothing new": run,
    "verify": verify,
    "report": report,
    "epoch": epoch,
}
SHARDS = "shards"


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


def shards(folder: Path) -> tuple[float, int]:
    """Seconds from the first receipt to the last, and the samples made in between."""
    receipts = sorted((folder / "corpus" / "shards").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    times = [path.stat().st_mtime for path in receipts]
    return times[-1] - times[0], sum(json.loads(path.read_bytes())["samples"] for path in receipts[1:])


def one_size(case: str, count: int, steps: Sequence[str], scratch: Path, repeats: int | None) -> dict[str, list[Cost]]:
    """All repeats of the steps of a case with so many samples; for `shards` the seconds that `count` samples take at the rate found."""
    folder = scratch / f"{case}-{count}"
    began = time.monotonic()
    measured(lambda: build(case, folder, count))
    drawn = time.monotonic() - began
    found: dict[str, list[Cost]] = {}
    for _ in range(repeats or REPEATS.get(count, 1)):
        shutil.rmtree(folder / "corpus", ignore_errors=True)
        for step in steps:
            cost = measured(lambda step=step: STEPS[step](folder))  # type: ignore[misc]
            found.setdefault(step, []).append(cost)
            if step == "run":
                seconds, samples = shards(folder)
                if samples:
                    seconds *= count / samples
                    found.setdefault(SHARDS, []).append(Cost(seconds, seconds, cost.own_mib, cost.others_mib))
    shutil.rmtree(folder)
    took = time.monotonic() - began - drawn
    print(f"{case}: {count} samples drawn in {drawn:.0f} s, all steps in {took:.0f} s", file=sys.stderr, flush=True)
    return found


def compared(case: str, step: str, found: dict[int, dict[str, list[Cost]]], sizes: Sequence[int]) -> tuple[str, list[str]]:
    """A row of the table, and what is not linear in it."""
    start = [] if step == SHARDS else found[FEW][step]
    few = FEW if start else 0
    startup = {clock: min((getattr(cost, clock) for cost in start), default=0.0) for clock in ("processor", "wall")}
    noise = max(SHORTEST_NOISE_S, max((cost.processor for cost in start), default=0.0) - startup["processor"])
    spent = {clock: {n: max(0.0, min(getattr(c, clock) for c in found[n][step]) - startup[clock]) for n in sizes} for clock in startup}
    each = {clock: {n: seconds / (n - few) for n, seconds in values.items()} for clock, values in spent.items()}
    peaks = [{n: min(getattr(cost, which) for cost in found[n][step]) for n in sizes} for which in ("own_mib", "others_mib")]
    ratios, named = [], []
    for before, count in pairwise(sizes):
        base = spent["processor"][before]
        ratio = each["processor"][count] / (base / (before - few)) if base > noise else None
        ratios.append("-" if ratio is None else f"{ratio:.2f}")
        if each["processor"][count] > ALLOWED * (base + noise) / (before - few):
            ratio = each["processor"][count] / ((base + noise) / (before - few))
            named.append(f"{case}, {step}: at least {ratio:.2f} times the time a sample at {count:,} that it takes at {before:,}")
        for peak in peaks:
            if peak[count] - peak[before] > ALLOWED_MIB:
                named.append(f"{case}, {step}: {peak[count] - peak[before]:.0f} MiB more at {count:,} than at {before:,}")
    cells = [" / ".join(f"{1e3 * each[clock][count]:.2f}" for count in sizes) for clock in startup]
    cells += [" / ".join(ratios), " + ".join(" / ".join(f"{peak[count]:.0f}" for count in sizes) for peak in peaks if any(peak.values()))]
    return f"| {case} | {step} | {startup['processor']:.2f} | {' | '.join(cells)} |", named


def one_case(case: str, sizes: Sequence[int], steps: Sequence[str], scratch: Path, repeats: int | None) -> tuple[list[str], list[str]]:
    """Rows of the table, and what is not linear."""
    began = time.monotonic()
    found = {count: one_size(case, count, steps, scratch, repeats) for count in (FEW, *sizes)}
    rows, named = [], []
    for step in [s for s in (*steps, SHARDS) if s in found[sizes[0]]]:
        row, wrong = compared(case, step, found, sizes)
        print(row, flush=True)
        rows.append(row)
        named += wrong
    print(f"{case}: {time.monotonic() - began:.0f} s in all", file=sys.stderr, flush=True)
    return rows, named


def table(cases: Sequence[str], sizes: Sequence[int], steps: Sequence[str], repeats: int | None) -> list[str]:
    """Measure the cases; lines of a report."""
    heads = ["case", "step", "start-up, s", "processor ms a sample", "wall ms a sample", "times the size before", "peak MiB"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    print("\n".join(lines), flush=True)
    named: list[str] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        for case in cases:
            allowed = [count for count in sizes if count <= 1000 or case in LARGE]
            rows, wrong = one_case(case, allowed, steps, Path(scratch), repeats)
            lines += rows
            named += wrong
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    end = [f"{time.monotonic() - began:.0f} s; load {load} on {len(os.sched_getaffinity(0))} cores."]
    end += [f"Not linear: {line}." for line in named] or ["Nothing is named as not linear."]
    print("\n".join(end), flush=True)
    return [*lines, "", *end]


def main() -> None:
    """Ask for everything, or for some cases, sizes and steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; all unless given")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 10000])
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--repeats", type=int, help="of every size; two of 100 samples and one of more unless given")
    parser.add_argument("--write", type=Path, help="also write the table to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if unknown := set(arguments.cases) - set(CASES):
        parser.error(f"no case {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    lines = table(arguments.cases or list(CASES), sorted(arguments.sizes), arguments.steps, arguments.repeats)
    if arguments.write:
        arguments.write.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
