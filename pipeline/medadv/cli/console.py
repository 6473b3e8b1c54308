"""Messages and progress on standard error: a bar in a terminal, plain lines elsewhere; results alone go to standard output."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from medadv.common.printable import printable

if TYPE_CHECKING:
    from medadv.corpus.manifest import Metrics
    from medadv.run.run import Result

LINE_EVERY_S = 10.0
PHASES = {"inputs": "reading inputs", "shards": "making shards", "sanity": "checking the attack", "verify": "verifying"}
PHASES |= {"fetch": "fetching small files"}


def stderr() -> Console:
    """rich on standard error, without colours or bars in pipes and files, also where FORCE_COLOR asks for them, as Jupyter's kernels do."""
    return Console(stderr=True, soft_wrap=True, highlight=False, force_terminal=sys.stderr.isatty())


def say(text: str) -> None:
    """One plain line on standard error."""
    print(printable(text), file=sys.stderr, flush=True)


def tell(text: str) -> None:
    """One plain line on standard output."""
    print(printable(text))


class Reporter:
    """Progress as a bar or as lines."""

    def __init__(self, bar: Progress | None) -> None:
        self.bar = bar
        self.tasks: dict[str, int] = {}
        self.last = time.monotonic()

    def __call__(self, phase: str, done: int, total: int, text: str = "") -> None:
        """Show progress; in a pipe at most every ten seconds, and at the end of a long phase."""
        label = PHASES.get(phase, phase)
        if self.bar is not None:
            if phase not in self.tasks:
                self.tasks[phase] = self.bar.add_task(label, total=total, text="")
            self.bar.update(self.tasks[phase], completed=done, total=total, text=text)  # type: ignore[arg-type]
            return
        now = time.monotonic()
        if now - self.last >= LINE_EVERY_S or (done == total and now - self.last > 2):
            self.last = now
            say(f"{label}: {done} of {total}{f' ({text})' if text else ''}")

    def message(self, text: str) -> None:
        """A line of its own; rich keeps it above its bar."""
        say(text)


@contextmanager
def reporter() -> Iterator[Reporter]:
    """A reporter for the time of a command."""
    console = stderr()
    if not console.is_terminal:
        yield Reporter(None)
        return
    what, beside = TextColumn("{task.description}"), TextColumn("{task.fields[text]}")
    with Progress(what, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), beside, console=console, transient=True) as bar:
        yield Reporter(bar)


def tell_made(result: "Result") -> None:
    """What a run made, in lines."""
    manifest = result.manifest
    new = f"{result.new_shards} new shards" if result.new_shards else "nothing new"
    tell(f"{result.corpus}: {manifest.samples} samples, {manifest.quarantined} quarantined, {new}")
    for name, metrics in manifest.metrics.items():
        tell(
            f"  {name}: {metrics.metric} {number(metrics.clean)} clean, {number(metrics.adversarial)} adversarial "
            f"(re-read), {_success(metrics)}"
        )
    tell(f"  content root {manifest.content_root}")


def tell_result(result: "Result") -> None:
    """What a run made, and what its victim is worth; what is to be believed least comes last, where it is seen."""
    tell_made(result)
    if baseline := result.manifest.baseline:
        tell(
            f"  clean {baseline.metric} {number(baseline.clean)}, an answer that ignores the image has "
            f"{number(baseline.ignoring_image)} ({baseline.answer})"
        )
        if baseline.warning:
            tell(f"  WARNING: {baseline.warning}")


def _success(metrics: "Metrics") -> str:
    if metrics.success is None:
        return "none could be attacked: no success rate"
    rate = f"success {metrics.success:.0%}" + (f" ({metrics.goal})" if metrics.goal else "")
    return rate + (f" of {metrics.attackable} that could be attacked" if metrics.attackable else "")


def number(value: float | None) -> str:
    """A figure in a line."""
    return "n/a" if value is None else f"{value:.3f}"
