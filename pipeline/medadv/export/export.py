"""`medadv export`: stored samples into files that other software reads."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medadv.common.errors import IntegrityError, SpecError
from medadv.common.files import all_or_nothing, writable_folder
from medadv.common.progress import Progress
from medadv.common.record import Json
from medadv.corpus.folder import Workspace, refuse_in_corpus
from medadv.corpus.manifest import Manifest, ShardEntry
from medadv.corpus.opening import open_corpus, reading
from medadv.corpus.receipt import Receipt
from medadv.evidence.published import load_published_victim
from medadv.evidence.rescore import predict
from medadv.export.dicom import write_dicom
from medadv.export.item import Item, Written
from medadv.export.marks import SERIES
from medadv.export.names import image_file, mask_files, refuse_repeats, series_of
from medadv.export.native import Native, to_native
from medadv.export.nifti import write_boxes, write_nifti
from medadv.export.png import is_class, write_labels, write_png
from medadv.store.codecs import require_codec
from medadv.store.reader import adversarial_image, open_shard, read_answer, read_texts
from medadv.victims.several import against


@dataclass(frozen=True)
class Request:
    """What to write. samples: ids, all when empty; attack: the corpus's first when None."""

    kind: str
    out: Path
    attack: str | None = None
    clean: bool = False
    samples: tuple[str, ...] = ()
    grid: str = "stored"
    lossy: bool = False
    weights: tuple[Path, ...] = ()
    trust_code: bool = False
    links: bool = False
    """Follow files of the corpus that are symbolic links."""
    code: Path | None = None
    """Folder of the code of a victim that is a python: factory."""


@dataclass(frozen=True)
class Exported:
    """What was written.  metrics: for --lossy, mean score of the samples as stored and as exported.  files: their number."""

    samples: int
    attack: str
    grid: str
    notice: str
    metrics: dict[str, float] | None
    files: int
    out: str


def export(root: Path, request: Request, progress: Progress) -> Exported:
    """Write the files.

    Raises:
        SpecError: an unknown attack or sample, a file that would be written twice, a format that cannot hold the images, resampling
            without --lossy, --lossy without --grid native, an `out` in use or in a corpus, or the corpus needs hdf5plugin.
        IntegrityError: a damaged shard.
    """
    manifest = open_corpus(root, links=request.links, tell=progress.message)
    with reading(root):
        return _export(root, manifest, request, progress)


def _export(root: Path, manifest: Manifest, request: Request, progress: Progress) -> Exported:
    require_codec(manifest.execution.codec)
    attack = request.attack or next(iter(manifest.attacks))
    if attack not in manifest.attacks:
        raise SpecError(f"attack {attack!r} is not in this corpus; there are {', '.join(manifest.attacks)}")
    if request.lossy and request.grid != "native":
        raise SpecError("--lossy resamples for --grid native, and without it nothing is resampled: add --grid native, or leave it out")
    refuse_in_corpus(request.out)
    if request.out.exists() and any(writable_folder(request.out).iterdir()):
        raise SpecError(f"{request.out} is not empty; give a new folder")
    how = manifest.preprocess
    if request.grid == "native" and how.as_ == "slices" and (how.spacing or how.orientation):
        # Which volume a slice was cut from, and how that lay, is not stored.
        raise SpecError(
            "these slices were cut from volumes that had been resampled or reoriented, and lead back to no grid of their own: take --grid "
            "stored, or make a corpus of volumes"
        )
    kinds: list[str | None] = [attack, None] if request.clean else [attack]
    wanted = set(request.samples)
    listed = list(_listed(root, manifest))
    if missing := sorted(wanted - {sample for sample, _ in listed}):
        raise SpecError(f"no sample {missing[0]} in this corpus; the ids stand in shards/*.json")
    refuse_repeats(_names(root, manifest, request.kind, kinds, wanted))
    with all_or_nothing(request.out) as folder:
        made = _made(root, manifest, replace(request, out=folder), kinds, _patients(listed), progress)
        summary: dict[str, Json] = {"samples": made.samples, "attack": attack, "grid": request.grid, "notice": SERIES}
        if made.metrics is not None:
            summary["metrics"] = made.metrics
        (folder / "export.json").write_text(json.dumps({**summary, "corpus_content_root": manifest.content_root}, indent=1))
    return Exported(made.samples, attack, request.grid, SERIES, made.metrics, made.files + 1, str(request.out))


@dataclass(frozen=True)
class _Made:
    """Images and labels as written.  samples, files: their numbers.  metrics: see `Exported`."""

    samples: int
    files: int
    metrics: dict[str, float] | None


def _made(
    root: Path, manifest: Manifest, request: Request, kinds: list[str | None], patients: dict[str, str], progress: Progress
) -> _Made:
    files: list[Path] = []
    rows: list[Written] = []
    scored: list[tuple[Item, Native]] = []
    written: set[str] = set()
    for item in _items(root, manifest, kinds, set(request.samples), progress):
        native = to_native(item, request.lossy) if request.grid == "native" else Native(item, None)
        made = _write(request, native.item, manifest, patients)
        files += made
        written.add(item.sample)
        size = (native.item.image.shape[-1], native.item.image.shape[-2])
        name = made[0].relative_to(request.out).as_posix()
        rows.append(Written(name, item.sample, item.attack, native.item.label, size, native.item.affine))
        if native.back is not None and item.attack is not None:
            scored.append((item, native))
    if request.kind == "png" or any(is_class(row.label) for row in rows):
        files += write_labels(request.out, rows, manifest)
    if request.kind == "nifti":
        files += write_boxes(request.out, rows, manifest)
    return _Made(len(written), len(files), _scores(root, manifest, scored, request) if scored else None)


def _write(request: Request, item: Item, manifest: Manifest, patients: dict[str, str]) -> list[Path]:
    if request.kind == "dicom":
        grid = "native lossy" if request.grid == "native" and request.lossy else request.grid
        return write_dicom(request.out, item, manifest, patient=patients[series_of(item.sample)[0]], grid=grid)
    return write_nifti(request.out, item, manifest) if request.kind == "nifti" else write_png(request.out, item, manifest)


def _listed(root: Path, manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Id and group of every sample."""
    for entry in manifest.shards:
        path = root / entry.path
        yield from zip(read_texts(path, "sample_id"), read_texts(path, "group_id"), strict=True)


def _patients(listed: list[tuple[str, str]]) -> dict[str, str]:
    """Patient of every series: the group of its slices, or that of the first where each has one of its own, since no group was given."""
    found: dict[str, str] = {}
    for sample, group in listed:
        series, _ = series_of(sample)
        found[series] = min(found.get(series, group), group)
    return found


def _names(root: Path, manifest: Manifest, kind: str, kinds: list[str | None], wanted: set[str]) -> Iterator[str]:
    """Every file of the images and masks that an export writes."""
    for entry in manifest.shards:
        with open_shard(root / entry.path) as file:
            shape = getattr(file["label"], "shape", (0,))[1:]
            spatial = file["image"].ndim - 2
        samples = read_texts(root / entry.path, "sample_id")
        if samples != [record.id for record in _receipt(root, entry).records]:
            raise IntegrityError(f"{entry.path}: its receipt names other samples; run `medadv verify`")
        for sample in samples:
            if not wanted or sample in wanted:
                yield from (image_file(kind, sample, attack) for attack in kinds)
                yield from mask_files(kind, sample, shape, spatial)


def _receipt(root: Path, entry: ShardEntry) -> Receipt:
    receipt, problem = entry.receipt(root)
    if receipt is None:
        raise IntegrityError(f"{entry.path}: {problem}; run `medadv verify`")
    return receipt


def _items(root: Path, manifest: Manifest, kinds: list[str | None], wanted: set[str], progress: Progress) -> Iterator[Item]:
    for number, entry in enumerate(manifest.shards):
        receipt = _receipt(root, entry)
        with open_shard(root / entry.path) as file:
            for row, record in enumerate(receipt.records):
                if wanted and record.id not in wanted:
                    continue
                image = np.asarray(file["image"][row])
                affine = np.asarray(file["affine"][row]) if "affine" in file else None
                for kind in kinds:
                    shown = image if kind is None else adversarial_image(image, np.asarray(file[f"attacks/{kind}/perturbation"][row]))
                    axes, unit = str(file.attrs["spatial_axes"]), str(file.attrs["unit"])
                    yield Item(record.id, kind, shown, unit, axes, read_answer(file, "label", row), affine, record.facts)
        progress("export", number + 1, len(manifest.shards))


def _scores(root: Path, manifest: Manifest, scored: list[tuple[Item, Native]], request: Request) -> dict[str, float]:
    """Mean score of the adversarial samples as stored, and as the victim sees the exported files after its own preprocessing."""
    victim = load_published_victim(manifest, Workspace(root), scored[0][0].image.shape, request.weights, request.trust_code, request.code)
    stored, exported = [], []
    for item, native in scored:
        assert native.back is not None
        pair = np.stack([item.image, native.back(native.item.image)])
        assert item.attack is not None
        judge = against(victim, manifest.attacks[item.attack]).scored
        first, second = (judge.score(answer, item.label) for answer in predict(judge, pair, manifest))
        stored.append(first)
        exported.append(second)
    return {"score_stored": float(np.mean(stored)), "score_exported": float(np.mean(exported))}
