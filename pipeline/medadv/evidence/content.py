"""Hold an open shard against its receipt: array hashes, bounds on the lattice, results, attributes. Memory holds one piece of a sample."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from medadv.common.hashing import ArrayHash, hash_array
from medadv.common.record import NoJsonError, RecordError, parse
from medadv.corpus.manifest import Manifest
from medadv.corpus.opening import UNREADABLE
from medadv.corpus.receipt import Receipt, SampleRecord
from medadv.datasets.labels import Array
from medadv.evidence.finding import Finding
from medadv.evidence.universal import given
from medadv.scoring.success import SuccessRule
from medadv.spec.attack import AttackSettings
from medadv.store.layout import (
    ATTACKABLE,
    FORMAT,
    FORMAT_VERSION,
    OUTSIDE_CONTENT,
    PERTURBATION,
    RESULTS,
    START,
    WARM,
    Stored,
    is_move,
    perturbation_dtype,
)
from medadv.store.reader import datasets, sample_blocks
from medadv_transforms.units import LATTICES


def check_content(
    name: str, file: Any, receipt: Receipt, manifest: Manifest, shared: Mapping[str, Array]
) -> tuple[list[Finding], dict[str, Array]]:
    """Everything wrong with what a shard decodes to, and its arrays that are not image-sized, which what follows needs no second time.

    name: for the findings; file: the open shard.  shared: by attack, the perturbation (C, *spatial) that every sample is given.
    """
    small: dict[str, Array] = {}
    return list(_content(name, file, receipt, manifest, shared, small)), small


def _content(
    name: str, file: Any, receipt: Receipt, manifest: Manifest, shared: Mapping[str, Array], small: dict[str, Array]
) -> Iterator[Finding]:
    """small: filled with what was read, each array once."""
    try:
        arrays = {key: item for key, item in datasets(file).items() if key not in OUTSIDE_CONTENT}
        yield from _attributes(name, file, receipt, manifest)
        yield from _inventory(name, arrays, receipt)
        ids = [record.id for record in receipt.records]
        on_grid = _on_grid(arrays, receipt)
        for key, expected in receipt.arrays.items():
            if key in on_grid or key not in arrays:
                continue
            try:
                small[key] = np.asarray(arrays[key][...])
            except OSError:
                yield Finding(name, "cannot be read", array=key)
            else:
                if hash_array(small[key]) != expected:
                    yield Finding(name, "differs from its receipt", array=key)
        if "sample_id" in small and [bytes(value).decode() for value in small["sample_id"]] != ids:
            yield Finding(name, "sample ids differ from the receipt's records", array="sample_id")
        yield from _results(name, small, receipt, manifest)
        yield from _pixels(name, arrays, receipt, manifest, shared, on_grid)
    except UNREADABLE as error:
        yield Finding(name, f"cannot be read ({type(error).__name__})")


def _attributes(name: str, file: Any, receipt: Receipt, manifest: Manifest) -> Iterator[Finding]:
    data = manifest.data
    expected = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "plan": receipt.plan,
        "modality": data.modality,
        "task": data.task,
        "unit": data.unit,
    }
    for key, value in expected.items():
        if file.attrs.get(key) != value:
            yield Finding(name, f"attribute {key} is {file.attrs.get(key)!r}, not {value!r}")
    if sorted(file["attacks"]) != sorted(manifest.attacks):
        yield Finding(name, f"attacks {sorted(file['attacks'])} differ from the manifest's")
        return
    for attack, settings in manifest.attacks.items():
        attributes = file[f"attacks/{attack}"].attrs
        if not same_settings(attributes, settings) or float(attributes["epsilon"]) != settings.epsilon or attributes["norm"] != "linf":
            yield Finding(name, f"settings of {attack} differ from the manifest's")
        parse(SuccessRule, str(attributes["success_rule"]))


def same_settings(attributes: Any, settings: AttackSettings) -> bool:
    """Whether an attack's group in a shard states the settings that the manifest does. ValueError where it states no JSON."""
    try:
        return parse(AttackSettings, str(attributes["parameters"])) == settings
    except NoJsonError:
        raise
    except RecordError:
        return False


def _inventory(name: str, arrays: dict[str, Stored], receipt: Receipt) -> Iterator[Finding]:
    """Arrays that are missing or too many, and chunks without a checksum."""
    for key in sorted(receipt.arrays.keys() - arrays.keys()):
        yield Finding(name, "missing", array=key)
    for key in sorted(arrays.keys() - receipt.arrays.keys()):
        yield Finding(name, "not in the receipt", array=key)
    for key in arrays:
        if arrays[key].chunks is not None and not arrays[key].fletcher32:
            yield Finding(name, "carries no Fletcher32 checksum", array=key)


def _on_grid(arrays: dict[str, Stored], receipt: Receipt) -> list[str]:
    """Arrays that hold one image-sized part a sample."""
    count, spatial = len(receipt.records), arrays["image"].shape[2:]
    shapes = {key: arrays[key].shape for key in receipt.arrays if key in arrays}
    return [key for key, shape in shapes.items() if shape[:1] == (count,) and shape[-len(spatial) :] == spatial]


def _results(name: str, arrays: dict[str, Array], receipt: Receipt, manifest: Manifest) -> Iterator[Finding]:
    """Stored results against the receipt's records."""
    for attack, settings in manifest.attacks.items():
        stored = f"attacks/{attack}/{ATTACKABLE}" in arrays
        if stored != (settings.goal != "untruth"):
            yield Finding(name, "belongs to attacks with a goal" if stored else "missing", array=f"attacks/{attack}/{ATTACKABLE}")
        yield from _began(name, arrays, attack, settings)
        for record in receipt.records:
            if record.attacks[attack].success and record.attacks[attack].attackable == 0:
                yield Finding(name, f"{attack} succeeds where it had nothing to do", record.id)
        for result in (*RESULTS, ATTACKABLE):
            key = f"attacks/{attack}/{result}"
            if key not in arrays:
                continue
            for value, record in zip(arrays[key].tolist(), receipt.records, strict=True):
                if value != (said := getattr(record.attacks[attack], result)):
                    yield Finding(name, f"is {value}, the receipt says {said}", record.id, key)


def _began(name: str, arrays: dict[str, Array], attack: str, settings: AttackSettings) -> Iterator[Finding]:
    """Whether what says where samples began is there, and only where an attack starts from another corpus."""
    key = f"attacks/{attack}/{WARM}"
    if (key in arrays) != settings.warm:
        yield Finding(name, "missing" if settings.warm else "belongs to attacks that start from another corpus", array=key)
    elif settings.warm and not np.isin(arrays[key], (0, 1)).all():
        yield Finding(name, "is neither 0 nor 1 everywhere", array=key)


def _pixels(
    name: str, arrays: dict[str, Stored], receipt: Receipt, manifest: Manifest, shared: Mapping[str, Array], on_grid: list[str]
) -> Iterator[Finding]:
    """Image-sized arrays, piece by piece and side by side, so that each is decoded once."""
    wholes = {key: ArrayHash(arrays[key].dtype, arrays[key].shape) for key in on_grid}
    perturbations = {f"attacks/{attack}/{PERTURBATION}": (attack, s.epsilon) for attack, s in manifest.attacks.items()}
    starts = {f"attacks/{attack}/{START}": (attack, s.epsilon) for attack, s in manifest.attacks.items() if s.warm}
    moves = perturbations | starts
    for key in [key for key in arrays if key.endswith(f"/{START}") and is_move(key) and key not in starts]:
        yield Finding(name, "belongs to attacks that start from another corpus", array=key)
    for key in starts.keys() - arrays.keys():
        yield Finding(name, "missing", array=key)
    for key, (_, epsilon) in moves.items():
        if key in arrays and (arrays[key].dtype != perturbation_dtype(epsilon) or arrays[key].shape != arrays["image"].shape):
            yield Finding(name, f"is {arrays[key].dtype} {arrays[key].shape} at epsilon {epsilon:g}", array=key)
            return
    unreadable: set[str] = set()
    for index, record in enumerate(receipt.records):
        parts = {key: ArrayHash(arrays[key].dtype, arrays[key].shape[1:]) for key in on_grid}
        bounds = {key: Bounds(epsilon) for key, (_, epsilon) in moves.items()}
        region = _region(arrays, index) if shared else None
        share = given(shared, arrays["image"].shape[1:], region, LATTICES[manifest.data.unit])
        for group in _aligned(arrays, on_grid):
            for blocks in _together(arrays, group, index, parts):
                for key, block in blocks.items():
                    parts[key].add(block)
                    wholes[key].add(block)
                    if key in bounds and "image" in blocks:
                        bounds[key].add(blocks["image"], block, LATTICES[manifest.data.unit])
                    if key in share and "image" in blocks:
                        share[key].add(blocks["image"], block)
        broken = [key for key in on_grid if key not in parts]
        unreadable.update(broken)
        for key in broken:
            yield Finding(name, "cannot be read", record.id, key)
        for key, expected in record.hashes.items():
            if key in parts and parts[key].result() != expected:
                yield Finding(name, "differs from its receipt", record.id, key)
        for key, (attack, _) in moves.items():
            if key in parts and "image" in parts:
                yield from bounds[key].findings(name, record, key)
                if key in perturbations:
                    yield from bounds[key].sizes(name, record, attack, key)
                if key in share and not share[key].same:
                    yield Finding(name, f"is not what all samples of {attack} share, inside the sample's bounds", record.id, key)
    for key in on_grid:
        if key not in unreadable and wholes[key].result() != receipt.arrays[key]:
            yield Finding(name, "differs from its receipt", array=key)


def _region(arrays: dict[str, Stored], index: int) -> Array | None:
    """Where a sample may be perturbed, None for everywhere, or where that cannot be read, which is told elsewhere."""
    try:
        return np.asarray(arrays["region"][index]) if "region" in arrays else None
    except OSError:
        return None


def _aligned(arrays: dict[str, Stored], on_grid: list[str]) -> Iterator[list[str]]:
    """Image, perturbations and starts, whose pieces correspond; then the others one by one."""
    shape = arrays["image"].shape
    yield [key for key in on_grid if key == "image" or (is_move(key) and arrays[key].shape == shape)]
    yield from ([key] for key in on_grid if key != "image" and not (is_move(key) and arrays[key].shape == shape))


def _together(arrays: dict[str, Stored], keys: list[str], index: int, alive: dict[str, ArrayHash]) -> Iterator[dict[str, Array]]:
    """Corresponding pieces of one sample of several arrays; an array that cannot be read leaves `alive`."""
    running = {key: sample_blocks(arrays[key], index) for key in keys}
    while running:
        blocks: dict[str, Array] = {}
        for key in list(running):
            try:
                blocks[key] = next(running[key])
            except StopIteration:
                del running[key]
            except OSError:
                del running[key], alive[key]
        if blocks:
            yield blocks


class Bounds:
    """What is said of a perturbation, gathered piece by piece."""

    def __init__(self, epsilon: float) -> None:
        self.epsilon = epsilon
        self.linf = 0
        self.squares = 0
        self.outside = False

    def add(self, image: Array, delta: Array, lattice: Any) -> None:
        """Corresponding pieces of clean image and perturbation."""
        wide = delta.astype(np.int32)
        self.linf = max(self.linf, int(np.abs(wide).max(initial=0)))
        self.squares += int(np.square(wide, dtype=np.int64).sum())
        wide += image
        self.outside |= bool(wide.size) and bool(wide.min() < lattice.low or wide.max() > lattice.high)

    def findings(self, name: str, record: SampleRecord, key: str) -> Iterator[Finding]:
        """Bound and range of the lattice."""
        if self.linf > self.epsilon:
            yield Finding(name, f"{key.rpartition('/')[2]} of {self.linf} is larger than epsilon {self.epsilon:g}", record.id, key)
        if self.outside:
            yield Finding(name, f"image + {key.rpartition('/')[2]} leaves the range of the stored units", record.id, key)

    def sizes(self, name: str, record: SampleRecord, attack: str, key: str) -> Iterator[Finding]:
        """The norms that the record states."""
        stated = record.attacks[attack]
        if stated.linf != self.linf or not np.isclose(stated.l2, np.sqrt(self.squares), rtol=1e-9):
            yield Finding(name, f"linf {self.linf} and l2 {np.sqrt(self.squares):.4f} differ from the receipt's", record.id, key)
