"""`medadv compare`: from a run spec to its comparison. Nothing of a corpus is read or written."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medadv.compare.curves import curve
from medadv.compare.measure import Batch, Bench, Row, table
from medadv.compare.write import write_csv, write_json, write_png
from medadv.datasets.read import Reader, Sample, stacked_regions
from medadv.errors import SpecError
from medadv.plan.files import FileHashes
from medadv.plan.settings import resolve_device
from medadv.plan.survey import Found, settle_masks, survey
from medadv.spec.run import RunSpec, load_spec
from medadv.spec.victim import VictimSettings
from medadv.victims.base import Victim
from medadv.victims.loading import load_victim
from medadv.victims.segmentation import Segmenter
from medadv_transforms import InputError
from medadv_transforms.units import LATTICES

CURVE_SAMPLES = 16

# Called with the spec's name, done, in all, and what was done.
Progress = Callable[[str, int, int, str], None]


@dataclass(frozen=True)
class Comparison:
    """What one spec gave. files: CSV, JSON and PNG."""

    name: str
    metric: str
    rows: list[Row]
    files: list[Path]


def compare(
    spec_path: Path, out: Path | None, limit: int, overrides: Sequence[str], trust_code: bool, progress: Progress
) -> Comparison:
    """Compare the attacks of one spec on its first `limit` samples (in content order, which is as good as random).

    out: folder for NAME.csv, NAME.json and NAME.png; `comparisons` beside the spec by default.
    Raises SpecError for a wrong spec, or one whose inputs cannot be read.
    """
    spec = load_spec(spec_path, list(overrides))
    base = spec_path.resolve().parent
    folder = out or base / "comparisons"
    device = torch.device(resolve_device(spec.execution.device))
    torch.set_num_threads(spec.execution.threads)
    samples = read_samples(spec, base, limit, trust_code)
    shape = samples[0][1].image.shape
    victim = _load(spec.victim, spec, base, device, shape, trust_code)
    second = None if spec.second_victim is None else _load(spec.second_victim, spec, base, device, shape, trust_code)
    lattice = LATTICES[samples[0][1].unit]
    batches = list(as_batches(samples, victim, spec.execution.batch, device))
    bench = Bench(victim, second, batches, lattice, spec.execution.seed)
    progress(spec.name, 0, len(spec.attacks) + 1, "")
    rows = table(bench, spec.attacks, lambda name, done, total: progress(spec.name, done, total, name))
    few = Bench(victim, None, _first(batches, CURVE_SAMPLES), lattice, spec.execution.seed)
    curves = [curve(few, name, settings) for name, settings in spec.attacks.items()]
    metric = rows[0].scores["as_is"].name
    about = {
        "spec": spec.name,
        "task": spec.data.task,
        "unit": lattice.unit,
        "metric": metric,
        "samples": len(samples),
        "curve_samples": sum(len(batch.labels) for batch in few.batches),
        "seed": spec.execution.seed,
    }
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{spec.name}.{ending}" for ending in ("csv", "json", "png")]
    write_csv(files[0], rows)
    write_json(files[1], rows, curves, about)
    write_png(files[2], rows, curves, f"{spec.name}: {metric} on {len(samples)} samples", metric)
    return Comparison(spec.name, metric, rows, files)


def read_samples(spec: RunSpec, base: Path, limit: int, trust_code: bool = False) -> list[tuple[str, Sample]]:
    """Id and content of the first samples that can be read."""
    seen = survey(spec, base, FileHashes(None), b"compare")
    if spec.data.task == "segmentation":
        victim = _load(spec.victim, spec, base, torch.device("cpu"), seen.found[0].shape.shape, trust_code)
        assert isinstance(victim, Segmenter)
        seen, _ = settle_masks(seen, spec, victim.highest)
    reader = Reader(seen.root, spec.data, spec.preprocess, spec.victim.head == "sigmoid")
    samples: list[tuple[str, Sample]] = []
    found: Found
    for found in seen.found:
        if len(samples) == limit:
            break
        try:
            samples.append((found.sample.id, reader.read(found.sample.source)))
        except InputError:
            continue
    if not samples:
        raise SpecError(f"{spec.name}: none of {len(seen.found)} inputs can be read; `medadv run` says why in quarantine.jsonl")
    return samples


def as_batches(samples: Sequence[tuple[str, Sample]], victim: Victim, size: int, device: torch.device) -> Iterator[Batch]:
    """Consecutive samples of one shape and spacing, `size` at a time."""
    groups: dict[Any, list[tuple[str, Sample]]] = {}
    for name, sample in samples:
        groups.setdefault((sample.image.shape, sample.spacing_mm), []).append((name, sample))
    for group in groups.values():
        for start in range(0, len(group), size):
            names, parts = zip(*group[start : start + size], strict=True)
            images = torch.from_numpy(np.stack([s.image for s in parts])).to(device, torch.float32)
            if any(s.label is None for s in parts):
                labels = [victim.own_label(p) for p in victim.predict(images)]
            else:
                labels = [_label(victim, s) for s in parts]
            regions = stacked_regions(parts)
            region = None if regions is None else torch.from_numpy(regions).to(images)
            yield Batch(images, labels, list(names), region, parts[0].spacing_mm)


def _label(victim: Victim, sample: Sample) -> Any:
    try:
        return victim.as_label(sample.label)
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


def _load(
    settings: VictimSettings, spec: RunSpec, base: Path, device: torch.device, shape: tuple[int, ...], trust_code: bool
) -> Victim:
    return load_victim(settings, spec.data.task, base, device=device, sample_shape=shape, trust_code=trust_code)[0]
