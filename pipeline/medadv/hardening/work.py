"""What does a hardening work with? Spec, folder, lock, and the corpora that `run` makes for it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from medadv.common.errors import MedadvError, SpecError
from medadv.common.files import write_file, writing_in
from medadv.common.hashing import canonical_json, hash_file
from medadv.common.log import Log
from medadv.common.progress import Progress
from medadv.common.record import Json
from medadv.common.stop import Stop
from medadv.corpus.manifest import Manifest
from medadv.corpus.opening import open_corpus
from medadv.evaluate.measure import read_shape
from medadv.hardening.folder import Home
from medadv.plan.frozen import differences, whole
from medadv.prepare.request import Options
from medadv.prepare.settings import resolve_device
from medadv.run.lock import held
from medadv.run.part import run_part
from medadv.run.run import run
from medadv.run.working import give_up
from medadv.spec.hardening import HardeningSettings
from medadv.spec.run_spec import RunSpec
from medadv.victims.loading import VictimRequest
from medadv.victims.victim import Victim

KEPT = "what is finished is kept, and the last epoch of training; run again to go on"
ANY_SETTING = ("output", "execution.workers", "execution.memory_gib")
"""What may be changed while a hardening lasts."""


@dataclass(frozen=True)
class Made:
    """A corpus that is there."""

    folder: Path
    manifest: Manifest

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, *spatial) of its first image."""
        return read_shape(self.folder, self.manifest)

    def ids(self) -> list[str]:
        """Of all samples, from its receipts."""
        receipts = [receipt for entry in self.manifest.shards if (receipt := entry.receipt(self.folder)[0]) is not None]
        return [record.id for receipt in receipts for record in receipt.records]


@dataclass
class Work:
    """A hardening that is worked on."""

    spec_path: Path
    spec: RunSpec
    settings: HardeningSettings
    home: Home
    options: Options
    progress: Progress
    stop: Stop
    log: Log
    newly_quarantined: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def base(self) -> Path:
        """Folder that the spec's paths start from."""
        return self.spec_path.resolve().parent

    @property
    def device(self) -> torch.device:
        """Where the model is trained."""
        return torch.device(resolve_device(self.spec.execution.device))

    def check(self) -> None:
        """Raise StoppedError where a signal came."""
        self.stop.check(KEPT)

    def corpus(self, folder: Path, spec: RunSpec) -> Made:
        """A corpus, made or completed as `run` does; with one worker and no scheduler in this process, which spares starting another."""
        self.check()
        first = not self.notes
        show = Phase(self.progress, f"{folder.parent.name}/{folder.name}", tells=first)
        options = replace(self.options, out=folder, change=lambda _: spec)
        if spec.execution.workers == 1 and not options.scheduler.is_given:
            run_part(self.spec_path, "1/1", options, show, self.stop)
        result = run(self.spec_path, options, show, self.stop)
        if first:
            self.notes += result.notes
        self.newly_quarantined += result.newly_quarantined
        return Made(folder, result.manifest)

    def made(self, number: int) -> Made:
        """The corpus of a generation that was made before."""
        folder = self.home.corpus(number)
        return Made(folder, open_corpus(folder))

    def victim(self, made: Made, weights: str | None = None) -> Victim:
        """The victim, or its network with other weights.  made: a corpus of such images.  weights: a file, relative to the spec."""
        changed = {} if weights is None else {"weights": weights, "weights_key": None}
        settings = self.spec.victim.model_copy(update=changed)
        request = VictimRequest(settings, self.spec.data.task, self.base, self.options.trust_code, made.manifest.x_first)
        return request.load(self.device, made.shape)


@dataclass(frozen=True)
class Phase:
    """Progress of a corpus among others.  tells: whether notes are passed on; every generation has the same."""

    to: Progress
    name: str
    tells: bool

    def __call__(self, phase: str, done: int, total: int, text: str = "") -> None:
        self.to(self.name, done, total, phase)

    def message(self, text: str) -> None:
        if self.tells:
            self.to.message(text)


@contextmanager
def working(
    spec_path: Path, spec: RunSpec, settings: HardeningSettings, options: Options, progress: Progress, stop: Stop
) -> Iterator[Work]:
    """Hold the folder of a hardening; failures of the machine become one line.

    Raises:
        LockedError: somebody else works on it.  SpecError: it was begun with other settings.  RunError: no space, no memory.
    """
    home = Home((options.out or spec_path.resolve().parent / "hardenings" / spec.name).resolve())
    log, hold = None, None
    try:
        home.make()
        with held(home.lock, "hardening") as hold, writing_in(hold.folder):
            log = Log(home.log, hardening=hold.token)
            log("start", command=options.command)
            _refuse_change(home, _frozen(spec, spec_path.resolve().parent))
            yield Work(spec_path, spec, settings, home, options, progress, stop, log)
            log("finished")
    except (OSError, MemoryError, RuntimeError) as error:
        give_up(error, hold, log, home.root, f"another process took this hardening over; {KEPT}")
    except MedadvError as error:
        if log is not None:
            log("failed", error=str(error), exit_code=error.exit_code)
        raise


def _frozen(spec: RunSpec, base: Path) -> dict[str, Json]:
    """What a hardening rests on from its beginning to its end."""
    assert spec.hardening is not None
    weights = base / spec.victim.weight_files[0]
    if not weights.is_file():
        raise SpecError(f"victim.weights: no such file {weights}")
    return {"spec": {**whole(spec), "hardening": spec.hardening.model_dump(mode="json")}, "weights_sha256": hash_file(weights)}


def _refuse_change(home: Home, now: dict[str, Json]) -> None:
    if not home.spec.exists():
        write_file(home.spec, canonical_json(now) + b"\n", mode=0o600)
        return
    free = tuple(f"spec.{key}:" for key in ANY_SETTING)
    changed = [line for line in differences(json.loads(home.spec.read_text()), now) if not line.startswith(free)]
    if changed:
        raise SpecError(
            f"{home.root} was begun with other settings: {'; '.join(changed[:5])}. "
            "Make another hardening with --out DIR, or put the settings back"
        )

