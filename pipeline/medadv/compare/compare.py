"""`medadv compare`: from a run spec to its comparison. Nothing of a corpus is read or written."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medadv.batches.batch import Batch, on_device
from medadv.common.errors import SpecError
from medadv.common.files import all_or_nothing, writable_folder
from medadv.common.machine import set_threads
from medadv.common.progress import Progress
from medadv.compare.curves import curve
from medadv.compare.shared import shared_of
from medadv.compare.table import Bench, Row, table
from medadv.compare.write import write_csv, write_json, write_png
from medadv.corpus.folder import refuse_in_corpus
from medadv.datasets.file_hashes import FileHashes
from medadv.datasets.reader import Reader
from medadv.datasets.sample import Sample
from medadv.prepare.fit import highest_class, second_victim
from medadv.prepare.goal_classes import with_indices
from medadv.prepare.losses import fitted
from medadv.prepare.plausible import check_head, check_settings
from medadv.prepare.settings import resolve_device
from medadv.prepare.survey import Found, settle_masks, survey
from medadv.spec.base import refuse_reserved
from medadv.spec.data import class_names
from medadv.spec.run_spec import RunSpec
from medadv.victims.importers.resolve import read_spec
from medadv.victims.loading import VictimRequest
from medadv.victims.victim import TaskModel
from medadv_transforms import InputError

CURVE_SAMPLES = 16


@dataclass(frozen=True)
class Compared:
    """A sample that attacks are compared on.  group: such as its patient, whose samples are drawn together for intervals."""

    id: str
    group: str
    content: Sample


@dataclass(frozen=True)
class Comparison:
    """What one spec gave. files: CSV, JSON and PNG."""

    name: str
    metric: str
    rows: list[Row]
    files: list[Path]


def compare(spec_path: Path, out: Path | None, limit: int, overrides: Sequence[str], trust_code: bool, progress: Progress) -> Comparison:
    """Compare the attacks of one spec on its first `limit` samples (in content order, which is as good as random).

    out: folder for NAME.csv, NAME.json and NAME.png; `comparisons` beside the spec by default.
    Raises SpecError for a wrong spec, one whose inputs cannot be read, or a folder that cannot be written to.
    """
    spec, told = read_spec(spec_path, overrides, trust_code)
    spec.alone("compare")
    for text in told:
        progress.message(text)
    refuse_reserved(spec.attacks)
    base = spec_path.resolve().parent
    refuse_in_corpus(out or base)
    folder = writable_folder(out or base / "comparisons")
    device = torch.device(resolve_device(spec.execution.device))
    set_threads(spec.execution.threads)
    samples, names = read_samples(spec, base, limit, trust_code)
    shape, x_first = samples[0].content.image.shape, samples[0].content.x_first
    request = VictimRequest(spec.victim, spec.data.task, base, trust_code, x_first)
    victim = request.load(device, shape)
    check_head(spec, victim)
    second = second_victim(spec, request, victim, device, shape, first=True)
    attacks, replaced = fitted(with_indices(spec.attacks, victim.scored, names), victim.scored)
    for text in replaced:
        progress.message(text)
    for name in [name for name, settings in attacks.items() if settings.warm]:
        attacks = {**attacks, name: attacks[name].model_copy(update={"start": None})}
        progress.message(f"{name} is compared from a start of its own, not from that of another corpus")
    batches = list(as_batches(samples, victim.scored, spec.execution.batch, device))
    common = shared_of(spec, attacks, base, limit, victim, device, progress)
    groups = {sample.id: sample.group for sample in samples}
    bench = Bench(
        victim,
        None if second is None else second.scored,
        batches,
        spec.execution.seed,
        {name: made for name, (made, _) in common.items()},
        groups,
    )
    progress(spec.name, 0, len(attacks) + 1, "")
    rows = table(bench, attacks, lambda name, done, total: progress(spec.name, done, total, name))
    few = Bench(victim, None, _first(batches, CURVE_SAMPLES), spec.execution.seed)
    curves = [curve(few, name, settings) for name, settings in attacks.items() if settings.each == (settings.alone,) and not settings.start]
    metric = rows[0].scores["as_is"].name
    about = {
        "spec": spec.name,
        "task": spec.data.task,
        "unit": bench.lattice.unit,
        "metric": metric,
        "samples": len(samples),
        "groups": len(set(groups.values())),
        "attackable": int(bench.attackable().sum()),
        "curve_samples": sum(len(batch.labels) for batch in few.batches),
        "seed": spec.execution.seed,
        **({"fitted_samples": {name: count for name, (_, count) in common.items()}} if common else {}),
    }
    names = [f"{spec.name}.{ending}" for ending in ("csv", "json", "png")]
    with all_or_nothing(folder) as made:
        write_csv(made / names[0], rows)
        write_json(made / names[1], rows, curves, about)
        write_png(made / names[2], rows, curves, f"{spec.name}: {metric} on {len(samples)} samples", metric)
    return Comparison(spec.name, metric, rows, [folder / name for name in names])


def read_samples(spec: RunSpec, base: Path, limit: int, trust_code: bool = False) -> tuple[list[Compared], list[str]]:
    """The first samples that can be read, and the names of the data's classes, as far as there are any."""
    seen = survey(spec, base, FileHashes(None), b"compare")
    check_settings(spec, seen.found[0].shape)
    if spec.data.task == "segmentation":
        victim = VictimRequest(spec.victim, spec.data.task, base, trust_code).load(torch.device("cpu"), seen.found[0].shape.shape)
        seen, _ = settle_masks(seen, spec, highest_class(victim))
    reader = Reader(seen.root, spec.data, spec.preprocess, spec.victim.head == "sigmoid")
    samples: list[Compared] = []
    found: Found
    for found in seen.found:
        if len(samples) == limit:
            break
        try:
            samples.append(Compared(found.sample.id, found.sample.group, reader.read(found.sample.source)))
        except InputError:
            continue
    if not samples:
        raise SpecError(f"{spec.name}: none of {len(seen.found)} inputs can be read; `medadv run` says why in quarantine.jsonl")
    return samples, list(seen.classes or class_names(spec.data))


def as_batches(samples: Sequence[Compared], judge: TaskModel, size: int, device: torch.device) -> Iterator[Batch]:
    """Consecutive samples of one shape and spacing, `size` at a time."""
    alike: dict[Any, list[Compared]] = {}
    for sample in samples:
        alike.setdefault((sample.content.image.shape, sample.content.spacing_mm), []).append(sample)
    for several in alike.values():
        for start in range(0, len(several), size):
            names, parts = zip(*[(each.id, each.content) for each in several[start : start + size]], strict=True)
            if any(s.label is None for s in parts):
                own = judge.predict(on_device(np.stack([s.image for s in parts]), device))
                labels = [judge.own_label(p) for p in own]
            else:
                labels = [_label(judge, s) for s in parts]
            yield Batch.of(parts, labels, names).on(device)


def _label(judge: TaskModel, sample: Sample) -> Any:
    try:
        return judge.as_label(sample.label)
    except ValueError as error:
        raise SpecError(f"data.label: {error}") from None


def _first(batches: Sequence[Batch], count: int) -> list[Batch]:
    """Whole batches until `count` samples are reached, at least one."""
    chosen: list[Batch] = []
    for batch in batches:
        if sum(len(b.labels) for b in chosen) >= count:
            break
        chosen.append(batch)
    return chosen
