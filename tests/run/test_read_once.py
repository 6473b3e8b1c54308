"""What many samples share is read once, however many there are: opened files, parsed headers, unpacked volumes and hashes are counted."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from tests.conftest import draw_pictures
from tests.run.shared_reading import AFFINE, CSV, DICOM, SHARD, TURNED, counted, load, loaded, opens, plan, rewritten, series, volume
from tests.run.slices import planned_slices
from tests.transforms.ct_phantoms import ct_slice, enhanced, segmentation, stored_values, write_nifti, write_series

from medadv.batches import equipment
from medadv.common.errors import NothingFoundError
from medadv.datasets import file_hashes as files
from medadv.plan.frozen import thaw
from medadv.run import worker
from medadv.run.job import Job
from medadv.run.lock import held
from medadv_transforms import nifti


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
