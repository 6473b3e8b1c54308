"""Sources that stay open: what changes meanwhile is noticed, what they give is that of a fresh reader, and they stay within bounds."""

import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tests.conftest import draw_pictures
from tests.run.shared_reading import AFFINE, CSV, DICOM, SHARD, VICTIM, codes, counted, load, loaded, plan, rewritten, series, volume
from tests.transforms.ct_phantoms import enhanced, segmentation, stored_values, write_nifti

from medadv.batches.loading import batches
from medadv.datasets import file_hashes as files
from medadv.datasets import opened
from medadv.datasets.file_hashes import FileHashes
from medadv.datasets.reader import Reader
from medadv.datasets.source import Source
from medadv.plan.model import PlannedShard
from medadv.spec.data import DataSettings, PreprocessSettings
from medadv_transforms import nifti, read_ct_slice, read_mask


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
