"""What many samples share is read once, however many there are: opened files, parsed headers, unpacked volumes and hashes are counted."""

import gzip
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from tests.conftest import draw_pictures
from tests.run.slices import planned_slices
from tests.transforms.ct_phantoms import ct_slice, enhanced, segmentation, stored_values, write_nifti, write_series

from medadv.batches import equipment
from medadv.batches.loading import LoadedBatch, batches
from medadv.common.errors import NothingFoundError
from medadv.datasets import file_hashes as files
from medadv.datasets import opened
from medadv.datasets.file_hashes import FileHashes
from medadv.datasets.reader import Reader
from medadv.datasets.sample import Sample
from medadv.datasets.source import Source
from medadv.plan.cut import cut
from medadv.plan.frozen import thaw
from medadv.plan.model import PlannedShard
from medadv.prepare.survey import survey
from medadv.run import worker
from medadv.run.job import Job
from medadv.run.lock import held
from medadv.spec.data import DataSettings, PreprocessSettings
from medadv.spec.execution import ExecutionSettings
from medadv.spec.reading import parse_spec
from medadv_transforms import nifti, read_ct_slice, read_mask

VICTIM: Any = SimpleNamespace(as_label=lambda label: label)
SHARD = 4
AFFINE = np.diag([-0.5, -0.75, 2.0, 1.0])

_watched: list[tuple[Path, Counter[str]]] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _watched and isinstance(arguments[0], str | os.PathLike):
        for folder, counts in _watched:
            if Path(arguments[0]).is_relative_to(folder):
                counts[Path(arguments[0]).name] += 1


sys.addaudithook(_hook)


@contextmanager
def opens(folder: Path) -> Iterator[Counter[str]]:
    """How often each file below a folder is opened inside."""
    counts: Counter[str] = Counter()
    _watched.append((folder, counts))
    try:
        yield counts
    finally:
        _watched.pop()


def counted(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, key: Any) -> Counter[Any]:
    """Calls of a function from now on, by what `key` makes of their arguments."""
    counts: Counter[Any] = Counter()
    plain = getattr(owner, name)

    def counting(*arguments: Any, **options: Any) -> Any:
        counts[key(*arguments, **options)] += 1
        return plain(*arguments, **options)

    monkeypatch.setattr(owner, name, counting)
    return counts


def plan(folder: Path, preprocess: dict[str, Any] | None = None, **data: Any) -> tuple[Reader, list[PlannedShard]]:
    """Survey a folder and cut it into shards of four."""
    modality = data.get("modality", "ct")
    normalize = {"window": [-1000, 400]} if modality == "ct" else {"mean": [0.5], "std": [0.5]}
    spec = parse_spec(
        {
            "name": "x",
            "data": {"modality": modality, "task": "segmentation", "path": ".", **data},
            "preprocess": {"as": "slices", **(preprocess or {})} if modality == "ct" else {"size": [32, 32]},
            "victim": {"network": "monai:unet", "normalize": normalize},
            "attacks": {"a": {"attack": "pgd", "epsilon": 4}},
        },
        "spec",
    )
    seen = survey(spec, folder, FileHashes(folder / "cache.json"), b"key")
    shards = cut([(item.shape.shape, item.sample) for item in seen.found], ExecutionSettings(batch_size=2, shard_size=SHARD))
    return Reader(seen.root, spec.data, spec.preprocess), [PlannedShard.of_line(s.line()) for s in shards]


def load(reader: Reader, shards: list[PlannedShard], hashes: FileHashes | None = None) -> list[LoadedBatch]:
    """What a worker loads of the shards, one after the other."""
    hashes = hashes or FileHashes(None)
    return [batch for shard in shards for batch in batches(shard, reader, VICTIM, hashes=hashes)]


def loaded(found: list[LoadedBatch]) -> list[Sample]:
    assert [record for batch in found for record in batch.quarantined] == []
    return [item.sample for batch in found for item in batch.loaded]


def codes(found: list[LoadedBatch]) -> list[str]:
    return [record.code for batch in found for record in batch.quarantined]


def series(folder: Path, count: int) -> list[Path]:
    return write_series(folder, [ct_slice(z) for z in range(count)])


def volume(folder: Path, count: int) -> None:
    """A CT of `count` slices with a mask, and a csv that names both."""
    folder.mkdir(parents=True, exist_ok=True)
    values = np.stack([stored_values(z).T.astype(np.int16) - 1000 for z in range(count)], -1)
    write_nifti(folder / "ct.nii.gz", values, AFFINE)
    write_nifti(folder / "mask.nii.gz", (values > -950).astype(np.float32), AFFINE)
    (folder / "t.csv").write_text("file,mask\nct.nii.gz,mask.nii.gz\n")


TURNED = {"orientation": "RAS", "spacing": [1.0, 0.5, 2.0]}
CSV = {"layout": "csv", "path": "t.csv", "label": "mask"}
DICOM = {"layout": "dicom", "label": "none"}


@pytest.mark.parametrize("count", [8, 16])
def test_headers_and_hashes_of_a_series_are_made_once(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = series(tmp_path, count)
    parsed = counted(monkeypatch, pydicom, "dcmread", lambda file, stop_before_pixels: (Path(file.name).name, stop_before_pixels))
    hashed = counted(monkeypatch, files, "hash_file", lambda path: path.name)
    with opens(tmp_path) as planning:
        reader, shards = plan(tmp_path, **DICOM)
    # The layout sorts the series by its headers, then the reader orders the slices; the first one's pixels are looked at.
    assert parsed == {**{(p.name, True): 2 for p in paths}, ("0.dcm", False): 1}
    assert hashed == {p.name: 1 for p in paths}
    assert len(shards) == count // SHARD
    parsed.clear()
    stats = counted(monkeypatch, Path, "stat", lambda path, **_: path.suffix)
    with opens(tmp_path) as making:
        assert len(loaded(load(reader, shards))) == count
    assert parsed == {(p.name, pixels): 1 for p in paths for pixels in (True, False)}
    assert hashed == {p.name: 2 for p in paths}
    # A header is opened twice: to be parsed, and to see whether it would inflate without end. A slice is opened once and held.
    assert making == {p.name: 1 + 2 + 1 for p in paths}
    assert max(planning[p.name] for p in paths) == 1 + 2 * 2 + 2
    # The files are looked at once a shard, and each slice's own ten times at most.
    assert stats[".dcm"] <= count * (count // SHARD + 10)


@pytest.mark.parametrize("count", [8, 16])
def test_a_volume_and_its_mask_are_unpacked_once(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume(tmp_path, count)
    reader, shards = plan(tmp_path, **CSV)
    read = counted(monkeypatch, nifti, "_read_bytes", lambda path, limit: (path.name, "all" if limit is None else "header"))
    hashed = counted(monkeypatch, files, "hash_file", lambda path: path.name)
    with opens(tmp_path) as making:
        samples = loaded(load(reader, shards))
    assert len(samples) == count
    assert read == {("ct.nii.gz", "header"): 1, ("ct.nii.gz", "all"): 1, ("mask.nii.gz", "all"): 1}
    assert hashed == {"ct.nii.gz": 1, "mask.nii.gz": 1}
    assert making == {"ct.nii.gz": 3, "mask.nii.gz": 2}


@pytest.mark.parametrize("count", [8, 16])
def test_a_segmentation_object_and_a_multi_frame_object_are_parsed_once(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    enhanced(count).save_as(data / "ct.dcm", enforce_file_format=True)
    segmentation([(1, z, stored_values(z) % 7 == 0) for z in range(count)]).save_as(tmp_path / "seg.dcm", enforce_file_format=True)
    reader, shards = plan(tmp_path, layout="dicom", path="data", label="seg.dcm")
    parsed = counted(monkeypatch, pydicom, "dcmread", lambda file, stop_before_pixels: (Path(file.name).name, stop_before_pixels))
    samples = loaded(load(reader, shards))
    assert len(samples) == count
    assert parsed == {(name, pixels): 1 for name in ("ct.dcm", "seg.dcm") for pixels in (True, False)}


@pytest.mark.parametrize("count", [8, 16])
def test_a_volume_that_is_turned_and_resampled_is_unpacked_once(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume(tmp_path / "volume", count)
    reader, shards = plan(tmp_path / "volume", TURNED, **CSV)
    read = counted(monkeypatch, nifti, "_read_bytes", lambda path, limit: (path.name, "all" if limit is None else "header"))
    samples = loaded(load(reader, shards))
    assert [sample.facts["orientation"] for sample in samples] == ["RAS"] * count
    assert read == {("ct.nii.gz", "header"): 1, ("ct.nii.gz", "all"): 1, ("mask.nii.gz", "all"): 1}
    paths = series(tmp_path / "series", count)
    reader, shards = plan(tmp_path / "series", TURNED, **DICOM)
    parsed = counted(monkeypatch, pydicom, "dcmread", lambda file, stop_before_pixels: (Path(file.name).name, stop_before_pixels))
    assert len(loaded(load(reader, shards))) == sum(len(shard.samples) for shard in shards) > SHARD
    assert parsed == {(p.name, pixels): 1 for p in paths for pixels in (True, False)}


def test_masks_of_one_class_each_are_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume(tmp_path, 8)
    mask = nib.load(tmp_path / "mask.nii.gz")
    write_nifti(tmp_path / "rest.nii.gz", (mask.get_fdata() == 0).astype(np.uint8), AFFINE)
    (tmp_path / "t.csv").write_text("file,mask,rest\nct.nii.gz,mask.nii.gz,rest.nii.gz\n")
    reader, shards = plan(tmp_path, **{**CSV, "label": ["mask", "rest"]})
    read = counted(monkeypatch, nifti, "_read_bytes", lambda path, limit: (path.name, limit is None))
    samples = loaded(load(reader, shards))
    assert {value for sample in samples for value in np.unique(sample.label).tolist()} == {1, 2}
    assert (read["mask.nii.gz", True], read["rest.nii.gz", True]) == (1, 1)


@pytest.mark.parametrize("below", [False, True])
def test_the_unit_of_a_series_without_a_rescale_is_asked_for_once(below: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signed = {"RescaleIntercept": "0", "PixelRepresentation": 1, "BitsStored": 16, "HighBit": 15}
    arrays = [stored_values(z).astype(np.int16) - 2000 * (below and z == 7) for z in range(8)]
    paths = write_series(tmp_path, [ct_slice(z, array=array, **signed) for z, array in enumerate(arrays)])
    if not below:
        with pytest.raises(NothingFoundError, match="not-hu"):
            plan(tmp_path, **DICOM)
    reader, shards = plan(tmp_path, offset=-1024, **DICOM)
    parsed = counted(monkeypatch, pydicom, "dcmread", lambda file, stop_before_pixels: (Path(file.name).name, stop_before_pixels))
    samples = {sample.affine[2, 3]: sample for sample in loaded(load(reader, shards)) if sample.affine is not None}
    moved = 0 if below else -1024
    for place, array in zip(sorted(samples), arrays, strict=True):
        assert np.array_equal(samples[place].image[0], np.clip(array.T + moved, -1024, 3071))
        assert samples[place].facts.get("offset_hu") == (None if below else -1024)
    # Once to look for a value below zero, and once to be read.
    assert parsed == {**{(p.name, True): 1 for p in paths}, **{(p.name, False): 2 for p in paths}}


@pytest.mark.parametrize("layout", ["csv", "coco", "yolo"])
@pytest.mark.parametrize("count", [8, 16])
def test_label_files_are_read_by_the_plan_alone(layout: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_pictures(tmp_path / "images", count)
    (tmp_path / "images" / "labels.csv").unlink()
    names = [f"{number:03d}.png" for number in range(count)]
    (tmp_path / "t.csv").write_text("\n".join(["file,grade", *(f"images/{name},0" for name in names)]))
    boxes = [{"image_id": number, "category_id": 1, "bbox": [1, 2, 3, 4]} for number in range(count)]
    images = [{"id": number, "file_name": f"images/{name}"} for number, name in enumerate(names)]
    (tmp_path / "c.json").write_text(json.dumps({"images": images, "annotations": boxes, "categories": [{"id": 1}]}))
    (tmp_path / "labels").mkdir()
    for name in names:
        (tmp_path / "labels" / name).with_suffix(".txt").write_text("0 0.5 0.5 0.5 0.5\n")
    choice = {
        "csv": {"layout": "csv", "path": "t.csv", "label": "grade", "task": "classification"},
        "coco": {"layout": "coco", "path": "c.json", "task": "detection"},
        "yolo": {"layout": "yolo", "task": "detection"},
    }[layout]
    with opens(tmp_path) as planning:
        reader, shards = plan(tmp_path, modality="endoscopy", **choice)
    tables = {"csv": {"t.csv"}, "coco": {"c.json"}, "yolo": {Path(name).with_suffix(".txt").name for name in names}}[layout]
    assert {name: planning[name] for name in planning if not name.endswith(".png")} == dict.fromkeys(tables, 1)
    assert {planning[name] for name in names} == {2}, "its hash and its header"
    with opens(tmp_path) as making:
        assert len(loaded(load(reader, shards))) == count
    assert making == dict.fromkeys(names, 1), "its hash and its pixels are of the same bytes"


def test_rows_that_give_one_volume_other_labels_contradict_each_other(tmp_path: Path) -> None:
    volume(tmp_path, 8)
    shutil.copy(tmp_path / "mask.nii.gz", tmp_path / "other.nii.gz")
    rewritten(tmp_path / "other.nii.gz", "plain")
    (tmp_path / "t.csv").write_text("file,mask\nct.nii.gz,mask.nii.gz\nct.nii.gz,other.nii.gz\n")
    with pytest.raises(NothingFoundError, match="16 cannot be used"):
        plan(tmp_path, **CSV)


def rewritten(path: Path, how: str) -> None:
    """Change one value of a file; `hidden` puts size and time of modification back."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    if how != "touched":
        content[-1] ^= 1
    path.write_bytes(content)
    if how == "hidden":
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    else:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))


@pytest.mark.parametrize("how", ["plain", "hidden"])
@pytest.mark.parametrize("kind", ["series", "turned", "volume", "mask"])
def test_what_changes_while_a_source_is_open_is_noticed(kind: str, how: str, tmp_path: Path) -> None:
    """As when nothing is kept: whatever file of a source changes, its slices are no longer those that were planned."""
    changed = {"series": "7.dcm", "turned": "7.dcm", "volume": "ct.nii.gz", "mask": "mask.nii.gz"}[kind]
    if kind in ("series", "turned"):
        series(tmp_path, 12)
    else:
        volume(tmp_path, 12)
    turned = {"orientation": "RAS"} if kind == "turned" else None
    reader, shards = plan(tmp_path, turned, **(DICOM if kind in ("series", "turned") else CSV))
    hashes = FileHashes(None)
    assert len(loaded(load(reader, shards[:1], hashes))) == SHARD
    rewritten(tmp_path / changed, how)
    assert codes(load(reader, shards[1:2], hashes)) == ["changed-input"] * SHARD
    (tmp_path / changed).unlink()
    assert codes(load(reader, shards[2:], hashes)) == ["changed-input"] * SHARD


def test_a_slice_that_changes_within_a_shard_is_noticed(tmp_path: Path) -> None:
    paths = series(tmp_path, 4)
    reader, shards = plan(tmp_path, **DICOM)
    hashes = FileHashes(None)
    making = batches(shards[0], reader, VICTIM, hashes=hashes)
    assert len(next(making).loaded) == 2  # the second batch is being loaded, or was
    for path in paths:
        rewritten(path, "plain")
    list(making)
    assert codes(load(reader, shards, hashes)) == ["changed-input"] * 4


def test_a_file_that_was_only_touched_is_hashed_again_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = series(tmp_path, 12)
    reader, shards = plan(tmp_path, **DICOM)
    hashes = FileHashes(None)
    loaded(load(reader, shards[:1], hashes))
    rewritten(paths[7], "touched")
    hashed = counted(monkeypatch, files, "hash_file", lambda path: path.name)
    assert len(loaded(load(reader, shards[1:], hashes))) == 2 * SHARD
    assert hashed == {"7.dcm": 1}


def test_what_is_refused_for_one_slice_is_not_read_again_for_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume(tmp_path, 8)
    mask = nib.load(tmp_path / "mask.nii.gz")
    nib.save(nib.Nifti1Image(mask.get_fdata().astype(np.float32) + 0.5, mask.affine, mask.header), tmp_path / "mask.nii.gz")
    reader, shards = plan(tmp_path, **CSV)
    read = counted(monkeypatch, nifti, "_read_bytes", lambda path, limit: (path.name, limit is None))
    assert codes(load(reader, shards)) == ["label-values"] * 8
    assert read["mask.nii.gz", True] == 1
    content = gzip.decompress((tmp_path / "ct.nii.gz").read_bytes())
    (tmp_path / "ct.nii.gz").write_bytes(gzip.compress(content[:-64]))
    reader, shards = plan(tmp_path, **CSV)
    read.clear()
    assert codes(load(reader, shards)) == ["length-mismatch"] * 8
    assert read["ct.nii.gz", True] == 1


def _sources(folder: Path) -> list[tuple[Path, Source]]:
    """A volume with masks in three forms, and a series and a multi-frame object with a segmentation."""
    series(folder / "series", 6)
    enhanced(6).save_as(folder / "frames.dcm", enforce_file_format=True)
    volume(folder, 6)
    places = {1: (0,), 2: (0, 1), 9: (4,)}
    frames = [(number, z, np.isin(stored_values(z) % 5, held)) for z in range(5) for number, held in places.items()]
    segmentation(frames).save_as(folder / "seg.dcm", enforce_file_format=True)
    oblique = np.array([[0.96, -0.28, 0, 0], [0.28, 0.96, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) @ AFFINE
    write_nifti(folder / "turned.nii.gz", np.full((12, 12, 6), 3, np.int16), oblique)
    names = tuple(f"series/{z}.dcm" for z in range(6))
    images = [("ct.nii.gz",), ("frames.dcm",), names]
    masks = {("ct.nii.gz",): ["mask.nii.gz", "turned.nii.gz"]}
    return [(folder, Source(image, {"mask": [mask]})) for image in images for mask in masks.get(image, ["seg.dcm"])]


@pytest.mark.parametrize("overlapping", [False, True])
def test_slices_are_those_of_a_reader_that_keeps_nothing(overlapping: bool, tmp_path: Path) -> None:
    label_map = {"all": [1, 2, 3, 9], "second": [2]} if overlapping else {"first": [1, 3], "ninth": [9]}
    data = DataSettings(modality="ct", task="segmentation", layout="dicom", path=".", label_map=label_map)
    compared = 0
    for root, whole in _sources(tmp_path):
        reader = Reader(root, data, PreprocessSettings.model_validate({"as": "slices"}), overlapping)
        for source in reader.expand(whole):
            plain = read_ct_slice([root / name for name in source.images], source.index or 0)
            try:
                expected = read_mask([root / name for name in source.masks], plain, label_map, multilabel=overlapping)
            except Exception as error:
                with pytest.raises(type(error), match=str(error)):
                    reader.read(source)
                continue
            sample = reader.read(source)
            assert np.array_equal(sample.image, plain.image)
            assert sample.affine is not None
            assert np.array_equal(sample.affine, plain.affine)
            assert np.array_equal(sample.label, expected[0])
            assert sample.label.dtype == np.uint8
            assert sample.facts == {**plain.facts, **({"label_warnings": expected[1]} if expected[1] else {})}
            compared += 1
    assert compared >= 20


def test_voxels_are_kept_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        volume(tmp_path / str(number), 6)
    size = 6 * stored_values(0).size * 2  # int16; the mask takes a byte a voxel
    data = DataSettings(modality="ct", task="segmentation", layout="dicom", path=".")
    sources = [Source((f"{n}/ct.nii.gz",), {"mask": [f"{n}/mask.nii.gz"]}, index=0) for n in range(3)]
    read = counted(monkeypatch, nifti, "_read_bytes", lambda path, limit: limit is None)

    def pass_over() -> int:
        reader = Reader(tmp_path, data, PreprocessSettings.model_validate({"as": "slices"}))
        read.clear()
        for source in sources * 2:
            reader.read(source)
        held = [shared.nbytes for shared in reader._sources._open]
        assert max(held) == size * 3 // 2
        assert len(held) == 1 or sum(held) <= opened.KEPT_BYTES
        return read[True]

    assert pass_over() == 6, "three volumes and three masks"
    monkeypatch.setattr(opened, "KEPT_BYTES", 1)
    assert pass_over() == 12, "only the last one stays open, however large"


def test_a_plan_names_the_files_of_a_series_once_a_shard(tmp_path: Path) -> None:
    series(tmp_path, 8)
    _, shards = plan(tmp_path, **DICOM)
    for shard in shards:
        line = shard.line().decode()
        assert [line.count(f'"{z}.dcm"') for z in range(8)] == [1] * 8
        spelt_out = json.loads(line)
        for sample in spelt_out["samples"]:
            sample["source"]["images"] = spelt_out["series"][0]
        del spelt_out["series"]
        assert PlannedShard.of_line(json.dumps(spelt_out)) == PlannedShard.of_line(line) == shard, "as plans had it before"
        assert len({id(s.source.images) for s in shard.samples}) == 1
    again = PlannedShard.of_line(shards[1].line(), shards[0].series)
    assert again.samples[0].source.images is shards[0].samples[0].source.images


def test_a_plan_of_pictures_has_no_series(tmp_path: Path) -> None:
    draw_pictures(tmp_path, 2)
    _, (shard,) = plan(tmp_path, modality="fundus", layout="csv", path="labels.csv", label="grade", task="classification")
    line = json.loads(shard.line())
    assert sorted(line) == ["batch_size", "index", "samples", "shape"]
    assert sorted(s["source"]["images"] for s in line["samples"]) == [["000.png"], ["001.png"]]


def test_hashes_without_a_cache_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "REMEMBERED", 2)
    hashes = FileHashes(None)
    for number in range(4):
        (tmp_path / str(number)).write_text(str(number))
        hashes.of(tmp_path / str(number))
    assert [Path(name).name for name in hashes.known] == ["2", "3"]


@pytest.mark.parametrize("count", [8, 16])
def test_a_worker_keeps_what_it_read_from_shard_to_shard(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs as a run hands them out, in this process."""
    paths = series(tmp_path / "data", count)
    workspace = planned_slices(tmp_path)
    parsed = counted(monkeypatch, pydicom, "dcmread", lambda file, stop_before_pixels: (Path(file.name).name, stop_before_pixels))
    hashed = counted(monkeypatch, files, "hash_file", lambda path: path.name)
    plans = counted(monkeypatch, equipment, "thaw", lambda folder: folder.name)
    with held(workspace.lock) as hold:
        made = []
        for shard in thaw(workspace.plan(0)).lines():
            made.append(worker.make(Job(str(workspace.root), 0, shard, False, str(hold.path), hold.token)))
            if len(made) == 1:
                assert {name: hashed[name] for name in hashed if name.endswith(".dcm")} == {p.name: 1 for p in paths}
                rewritten(paths[3], "touched")
    assert [result.samples for result in made] == [SHARD] * (count // SHARD)
    # The series is opened again, since a file of it was touched, and that one alone is hashed again.
    assert parsed == {**{(p.name, True): 2 for p in paths}, **{(p.name, False): 1 for p in paths}}
    assert {name: hashed[name] for name in hashed if name.endswith(".dcm")} == {p.name: 1 + (p == paths[3]) for p in paths}
    assert plans == {"0000": 1}
