"""`medadv demo`: phantoms, victims trained on the spot, three corpora through the same code as any run, their reports, and one table."""

import math
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from typing import Any

import torch

from medadv.common.errors import IntegrityError
from medadv.common.files import writable_folder
from medadv.common.progress import Passing, Progress
from medadv.common.record import Json
from medadv.demo.duration import seconds_needed
from medadv.demo.phantoms import write_phantoms
from medadv.demo.specs import PARTS, Part, samples, stacked, write_spec
from medadv.demo.training import train
from medadv.demo.weights import write_victim
from medadv.evidence.verify import verify
from medadv.prepare.request import Options
from medadv.report.page import write_report
from medadv.run.run import Result, run

SEED = 0
POLL_S = 0.5
BAR = 100
"""Parts of a bar for what is told as a fraction."""
DRAWING = 0.2
"""Of a victim's bar, for its images."""


@dataclass(frozen=True)
class Shown:
    """One corpus of the demo."""

    result: Result
    part: Part
    report: Path
    seconds: float

    @property
    def unit(self) -> str:
        """Of epsilon."""
        return "HU" if self.part.name == "ct" else "grey levels"

    def as_dict(self) -> dict[str, Json]:
        """As `medadv run --json` has it, with what the demo adds."""
        return {
            **self.result.as_dict(),
            "modality": self.part.name,
            "task": self.part.recipe.task,
            "epsilon": self.part.epsilon,
            "unit": self.unit,
            "report": str(self.report),
            "seconds": self.seconds,
        }


def demo(root: Path, progress: Progress) -> list[Shown]:
    """Make the demo under `root`; what is there already is kept. Returns one result per corpus.

    Raises IntegrityError when a corpus made here does not verify, SpecError when `root` cannot be written to.
    """
    writable_folder(root)
    specs = {part.name: write_spec(root, part) for part in PARTS}
    if missing := [part for part in PARTS if not (_listing(root, part).exists() and _card(root, part).exists())]:
        cores = len(os.sched_getaffinity(0))
        minutes = math.ceil(seconds_needed(missing, PARTS, cores) / 60)
        busy = "; it has other work now, so longer" if os.getloadavg()[0] > cores / 2 else ""
        progress.message(f"about {minutes} min on this processor ({_processor(cores)}), by what a few phantoms and steps took{busy}")
        _train(root, missing, specs, progress)
    return [_corpus(root, part, specs[part.name], progress) for part in PARTS]


def _processor(cores: int) -> str:
    return f"{cores} core{'s' if cores > 1 else ''}, {torch.backends.cpu.get_cpu_capability()}"


def _listing(root: Path, part: Part) -> Path:
    return root / "specs" / str(part.data["path"])


def _card(root: Path, part: Part) -> Path:
    return root / "victims" / f"{part.recipe.name}.json"


def _corpus(root: Path, part: Part, spec: Path, progress: Progress) -> Shown:
    started = time.monotonic()
    show = Passing(progress, f"corpus {part.name}")
    result = run(spec, Options(command="medadv demo"), show)
    if problems := verify(result.corpus):
        raise IntegrityError(f"the demo's corpus does not verify: {problems[0]}")
    show("report", BAR, BAR, "writing the report")
    report = write_report(result.corpus)
    return Shown(result, part, report, round(time.monotonic() - started, 1))


def _train(root: Path, missing: list[Part], specs: dict[str, Path], progress: Progress) -> None:
    """Draw and train what is missing, side by side in single-threaded processes: that repeats exactly, and two cores are used."""
    # The detector takes longest, so it comes first.
    missing.sort(key=lambda part: part.recipe.task != "detection")
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(2, mp_context=context) as pool:
        told = manager.Queue()
        futures = [pool.submit(train_part, str(root), part, str(specs[part.name]), told) for part in missing]
        running = set(futures)
        while running:
            running = wait_for(running, timeout=POLL_S).not_done
            try:
                while True:
                    name, share, text = told.get_nowait()
                    progress(f"the {name} victim", round(BAR * share), BAR, text)
            except Empty:
                pass
        for future in futures:
            future.result()


def train_part(root: str, part: Part, spec: str, told: Any) -> None:
    """Draw what one victim is trained on, train it, and write its weights and card; progress goes to the queue `told`."""
    torch.set_num_threads(1)
    begin = 0.0

    def tell(share: float, text: str) -> None:
        told.put((part.name, begin + (1 - begin) * share if begin else DRAWING * share, text))

    if not _listing(Path(root), part).exists():
        write_phantoms(part.name, Path(root) / "phantoms", seed=SEED, progress=tell)
    if _card(Path(root), part).exists():
        return
    begin = DRAWING
    images, labels = stacked(samples(Path(spec), part.train))
    held_out = stacked(samples(Path(spec), part.held_out))
    state, metrics = train(part.recipe, images, labels, held_out, seed=SEED, progress=tell)
    write_victim(Path(root) / "victims", part.recipe, state, metrics, trained_on=len(images), held_out=len(held_out[1]), seed=SEED)


def rows(shown: list[Shown]) -> list[tuple[str, ...]]:
    """The table: one row per corpus and attack, the header first."""
    head = ("modality", "task", "samples", "epsilon", "attack", "metric", "trivial", "clean", "adversarial (re-read)")
    table: list[tuple[str, ...]] = [head]
    for each in shown:
        manifest, part = each.result.manifest, each.part
        for name, metrics in manifest.metrics.items():
            values = (manifest.baseline and manifest.baseline.ignoring_image, metrics.clean, metrics.adversarial)
            numbers = ("n/a" if value is None else f"{value:.3f}" for value in values)
            epsilon = f"{part.epsilon} {each.unit}"
            table.append((part.name, part.recipe.task, str(manifest.samples), epsilon, name, metrics.metric, *numbers))
    return table
