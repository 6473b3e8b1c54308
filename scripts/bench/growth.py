#!/usr/bin/env python
"""Whether cost grows with the work: time and peak memory a sample at 100, 1,000 and 10,000 samples, and what is not linear.

    OMP_NUM_THREADS=1 python scripts/bench/growth.py [dicom nifti volumes csv coco yolo] [--sizes 100 1000] [--steps run verify ...]

Images of 32 x 32, a victim of a few thousand weights, one attack of one step, one worker. Every step runs in a process of its own, forked
when everything is imported; what it takes with 16 samples is start-up, and taken off. `shards` is the part of `run` from the first receipt
to the last. Processor time counts all processes of a step, and is what a verdict rests on: other work on the machine hardly changes it. The
smallest figure of several repeats is taken. Memory is the peak of the process itself, and after `+` of the largest that it started.

Named is what takes more than 1.3 times the time a sample of the size before, or 64 MiB more memory, still when both sizes are measured
again. A difference that start-up itself shows between its repeats is none; a dash stands where the smaller size took no longer than that.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from growth_cost import Cost, measured
from growth_data import CASES, build

from medadv.common.progress import SILENT
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
AGAIN = 2
"""How often what looks not linear is measured again, at both sizes in turn."""


def plan(folder: Path) -> None:
    """`medadv plan`, without a corpus."""
    describe(folder / "spec.yaml", Options(out=folder / "none"), SILENT)


def run(folder: Path) -> None:
    """`medadv run`, from nothing."""
    shutil.rmtree(folder / "corpus", ignore_errors=True)
    nothing_new(folder)


def nothing_new(folder: Path) -> None:
    """`medadv run` on a corpus that is complete."""
    run_spec(folder / "spec.yaml", Options(), SILENT)


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
    "nothing new": nothing_new,
    "verify": verify,
    "report": report,
    "epoch": epoch,
}
SHARDS = "shards"


class Growth:
    """What the steps of one case took at each size. Data and corpora stay in `scratch`, so that a step can be measured again."""

    def __init__(self, case: str, sizes: Sequence[int], scratch: Path) -> None:
        self.case, self.sizes, self.scratch = case, sizes, scratch
        self.found: dict[tuple[str, int], list[Cost]] = defaultdict(list)

    def draw(self, count: int) -> None:
        """Write the data of a size."""
        measured(lambda: build(self.case, self.folder(count), count))

    def folder(self, count: int) -> Path:
        """Where data and corpus of a size lie."""
        return self.scratch / f"{self.case}-{count}"

    def measure(self, step: str, count: int) -> None:
        """Do a step once. `shards` are part of a run; their seconds are those of `count` samples at the rate found."""
        step = "run" if step == SHARDS else step
        cost = measured(lambda: STEPS[step](self.folder(count)))
        self.found[step, count].append(cost)
        if step == "run":
            receipts = sorted((self.folder(count) / "corpus" / "shards").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
            seconds = receipts[-1].stat().st_mtime - receipts[0].stat().st_mtime
            samples = sum(json.loads(path.read_bytes())["samples"] for path in receipts[1:])
            if samples:
                seconds *= count / samples
                self.found[SHARDS, count].append(Cost(seconds, seconds, cost.own_mib, cost.others_mib))

    def least(self, step: str, count: int, what: str) -> float:
        """The smallest figure of a step at a size."""
        return min((float(getattr(cost, what)) for cost in self.found[step, count]), default=0.0)

    def start_up(self, step: str, clock: str) -> float:
        """Seconds of a step with few samples."""
        return self.least(step, FEW, clock) if step != SHARDS else 0.0

    def noise(self, step: str) -> float:
        """By how many processor seconds start-up differs from repeat to repeat."""
        most = max((cost.processor for cost in self.found[step, FEW]), default=0.0)
        return max(SHORTEST_NOISE_S, most - self.start_up(step, "processor"))

    def seconds(self, step: str, count: int, clock: str) -> float:
        """Without start-up."""
        return max(0.0, self.least(step, count, clock) - self.start_up(step, clock))

    def each(self, step: str, count: int, clock: str, noise: float = 0.0) -> float:
        """Seconds a sample, start-up taken off."""
        return (self.seconds(step, count, clock) + noise) / (count - (FEW if step != SHARDS else 0))

    def not_linear(self, step: str, before: int, count: int) -> list[str]:
        """What grows faster than the work from one size to the next."""
        ratio = self.each(step, count, "processor") / self.each(step, before, "processor", self.noise(step))
        found = [f"{ratio:.2f} times the time a sample"] if ratio > ALLOWED else []
        more = max(self.least(step, count, which) - self.least(step, before, which) for which in ("own_mib", "others_mib"))
        found += [f"{more:.0f} MiB more"] if more > ALLOWED_MIB else []
        return [f"{self.case}, {step}: {what} at {count:,} than at {before:,}" for what in found]

    def row(self, step: str) -> str:
        """A line of the table."""
        cells = [f"{self.start_up(step, 'processor'):.2f}"]
        cells += [" / ".join(f"{1e3 * self.each(step, count, clock):.2f}" for count in self.sizes) for clock in ("processor", "wall")]
        ratios = [
            f"{self.each(step, count, 'processor') / self.each(step, before, 'processor'):.2f}"
            if self.seconds(step, before, "processor") > self.noise(step)
            else "-"
            for before, count in pairwise(self.sizes)
        ]
        peaks = [[self.least(step, count, which) for count in self.sizes] for which in ("own_mib", "others_mib")]
        cells += [" / ".join(ratios), " + ".join(" / ".join(f"{peak:.0f}" for peak in each) for each in peaks if any(each))]
        return f"| {self.case} | {step} | {' | '.join(cells)} |"


def grown(case: str, sizes: Sequence[int], steps: Sequence[str], repeats: int | None) -> list[str]:
    """Print the rows of a case; what is not linear in them."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        growth = Growth(case, sizes, Path(scratch))
        for count in (FEW, *sizes):
            growth.draw(count)
            tell(f"{case}: {count} samples drawn", began)
            for _ in range(repeats or REPEATS.get(count, 1)):
                for step in steps:
                    growth.measure(step, count)
            tell(f"{case}: {count} samples measured", began)
        shown = [*steps, *([SHARDS] if growth.found[SHARDS, sizes[0]] else [])]
        for step in shown:
            for before, count in pairwise(sizes):
                for _ in range(AGAIN):
                    if growth.not_linear(step, before, count):
                        tell(f"{case}: {step} of {before} and {count} once more", began)
                        growth.measure(step, before)
                        growth.measure(step, count)
        print("\n".join(growth.row(step) for step in shown), flush=True)
        tell(f"{case} is done", began)
        return [line for step in shown for before, count in pairwise(sizes) for line in growth.not_linear(step, before, count)]


def tell(what: str, began: float) -> None:
    """A line beside the table."""
    print(f"{time.monotonic() - began:6.0f} s  {what}", file=sys.stderr, flush=True)


def main() -> None:
    """Ask for everything, or for some cases, sizes and steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; all unless given")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 10000])
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--repeats", type=int, help="of every size; two of 100 samples and one of more unless given")
    arguments = parser.parse_args()
    if unknown := set(arguments.cases) - set(CASES):
        parser.error(f"no case {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    # All but a plan is of a corpus.
    steps = [step for step in STEPS if step in arguments.steps or (step == "run" and arguments.steps != ["plan"])]
    torch.set_num_threads(1)
    began = time.monotonic()
    heads = ["case", "step", "start-up, s", "processor ms a sample", "wall ms a sample", "times the size before", "peak MiB"]
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|", flush=True)
    named: list[str] = []
    for case in arguments.cases or list(CASES):
        sizes = sorted(count for count in arguments.sizes if count <= 1000 or case in LARGE)
        named += grown(case, sizes, steps, arguments.repeats)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"\n{time.monotonic() - began:.0f} s; load at the end {load} on {len(os.sched_getaffinity(0))} cores.")
    print("\n".join(f"Not linear: {line}." for line in named) or "Nothing is named as not linear.")


if __name__ == "__main__":
    main()
