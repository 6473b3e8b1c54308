"""How is one perturbation fitted to many samples? Planned batch by planned batch, pass by pass, from where it was left off."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from medadv.attacks import universal
from medadv.attacks.problem import Problem
from medadv.batches.judging import batch_of
from medadv.batches.loading import batches
from medadv.common.errors import RunError
from medadv.common.files import write_file
from medadv.common.hashing import canonical_json
from medadv.common.threads import helpers
from medadv.datasets.file_hashes import FileHashes
from medadv.datasets.labels import Array
from medadv.datasets.reader import Reader
from medadv.plan.model import PlannedShard
from medadv.spec.attack import AttackSettings
from medadv.store.layout import perturbation_dtype
from medadv.victims.victim import Victim

SAVE_EVERY_S = 20.0
"""How much of a fit a kill may cost."""


@dataclass
class _State:
    """delta: (C, *spatial) float32, before the step number `place`.  left_out: ids of samples that could not be read."""

    delta: Array
    place: int = 0
    left_out: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Fit:
    """What is fitted, and to what.

    samples: all of one shape, with the size of the batches.  seed: of a random start.  identity: hash of all that decides its bits; a
    state that was kept under another one is passed over.
    """

    settings: AttackSettings
    samples: PlannedShard
    seed: int
    identity: str


def fit(
    fit: Fit, victim: Victim, reader: Reader, device: torch.device, kept: Path | None, proceed: Callable[[int, int], None]
) -> tuple[Array, int]:
    """The perturbation (C, *spatial) in its stored type, and how many samples it was fitted to.

    Args:
        fit: see there.
        victim: on the device, in the plan's profile.
        reader: of the samples.
        device: where the victim is.
        kept: file of the state, written now and then, and whenever this ends otherwise than by a kill; None keeps nothing.
        proceed: called before each batch with how many are done and how many there are; may raise to stop.

    Raises:
        RunError: none of the samples can be read.  OSError: a disk failed.
    """
    state = _resumed(kept, fit) or _State(universal.first(fit.samples.shape, fit.settings, fit.seed).numpy())
    count = len(fit.samples.batches)
    total = fit.settings.steps * count if fit.settings.epsilon else 0
    delta = torch.from_numpy(state.delta).to(device)
    hashes, saved = FileHashes(None), time.monotonic()
    try:
        while state.place < total:
            rest = fit.samples.samples[state.place % count * fit.samples.batch_size :]
            for batch in batches(replace(fit.samples, samples=rest), reader, victim.scored, (), helpers(device.type), hashes):
                proceed(state.place, total)
                if batch.loaded:
                    part = batch_of(batch.loaded, victim.scored, device)
                    targets = victim.attacked.targets(part.labels, device, fit.settings.goal)
                    problem = Problem.of(victim.attacked, part.images, targets, fit.settings, part.lattice, part.region, None)
                    delta = universal.step(problem, delta, part.region, state.place / total)
                state.left_out.update(record.sample for record in batch.quarantined if record.sample)
                state.place += 1
                if time.monotonic() - saved > SAVE_EVERY_S:
                    _save(kept, fit, state, delta)
                    saved = time.monotonic()
    finally:
        _save(kept, fit, state, delta)
    used = len(fit.samples.samples) - len(state.left_out)
    if not used:
        raise RunError("none of the samples that a universal perturbation is fitted to can be read")
    whole = universal.finished(delta, fit.settings.epsilon).cpu().numpy()
    return whole.astype(perturbation_dtype(fit.settings.epsilon)), used


def _save(path: Path | None, fit: Fit, state: _State, delta: torch.Tensor) -> None:
    """A line of JSON, then the values."""
    if path is None:
        return
    head = {"identity": fit.identity, "place": state.place, "left_out": sorted(state.left_out)}
    path.parent.mkdir(exist_ok=True)
    write_file(path, canonical_json(head) + b"\n" + delta.cpu().numpy().astype("<f4").tobytes())


def _resumed(path: Path | None, fit: Fit) -> _State | None:
    """What was kept of the same fit; None where there is nothing, or it cannot be read."""
    if path is None:
        return None
    try:
        head, _, values = path.read_bytes().partition(b"\n")
        said = json.loads(head)
        if said["identity"] != fit.identity:
            return None
        delta = np.frombuffer(values, "<f4").reshape(fit.samples.shape).astype(np.float32)
        return _State(delta, int(said["place"]), set(said["left_out"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
