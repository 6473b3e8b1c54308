"""Boxes in space against MONAI's own box transforms, on volumes as they lie, turned and resampled; and records that hold none."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.apps.detection.transforms.dictionary import AffineBoxToImageCoordinated, ConvertBoxModed
from monai.data.meta_tensor import MetaTensor
from pydantic import ValidationError

from medadv.common.errors import SpecError
from medadv.datasets.labels import Boxes
from medadv.datasets.layouts import list_samples
from medadv.datasets.reader import Reader
from medadv.datasets.sample import Sample
from medadv.datasets.space_boxes import between_grids, in_space, named_in_space
from medadv.spec.data import DataSettings, PreprocessSettings
from medadv.spec.reading import parse_spec
from medadv_transforms import InputError

SHAPE = (24, 20, 10)
# A volume as LUNA16's lie: voxels towards left and front, far from the world's origin.
AFFINE = np.array([[-1.5, 0, 0, 90.0], [0, -1.2, 0, -40.0], [0, 0, 2.0, -300.0], [0, 0, 0, 1]])
DATA: dict[str, Any] = {"modality": "ct", "task": "detection", "layout": "decathlon", "path": "dataset.json"}


def written(folder: Path, records: list[dict[str, Any]], affine: Any = AFFINE) -> None:
    """A volume in HU for each record, and their dataset.json."""
    for index, record in enumerate(records):
        volume = np.random.default_rng(index).integers(-900, 400, SHAPE).astype(np.int16)
        nib.save(nib.Nifti1Image(volume, affine), folder / f"{index}.nii.gz")
        record["image"] = f"{index}.nii.gz"
    (folder / "dataset.json").write_text(json.dumps({"training": records}))


def read(folder: Path, preprocess: dict[str, Any] | None = None, **data: Any) -> tuple[list[Sample], list[str]]:
    """Samples, and the codes of what was refused, while listing or reading."""
    settings, preprocessing = DataSettings.model_validate({**DATA, **data}), PreprocessSettings.model_validate(preprocess or {})
    listing = list_samples(settings, folder)
    reader, samples, codes = Reader(listing.root, settings, preprocessing), [], [each.code for each in listing.problems]
    for source in listing.sources:
        try:
            samples.append(reader.read(source))
        except InputError as error:
            codes.append(error.code)
    return samples, codes


# In voxels of AFFINE's grid, one only a voxel wide, and what is around them in LPS mm.
VOXELS = np.array([[4, 3, 2, 10, 9, 6], [12.5, 10, 5, 13.5, 11, 6]])


def as_written(mode: str, space: str) -> list[list[float]]:
    """VOXELS as a record has them, by MONAI."""
    affine = (np.diag([-1, -1, 1, 1]) if space == "lps" else np.eye(4)) @ AFFINE
    ends = np.stack([VOXELS[:, [a, b, c]] @ affine[:3, :3].T + affine[:3, 3] for a, b, c in ((0, 1, 2), (3, 4, 5))])
    corners = np.concatenate([ends.min(0), ends.max(0)], 1)
    return ConvertBoxModed("b", "xyzxyz", mode)({"b": corners})["b"].tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("mode", ["cccwhd", "xyzwhd", "xyzxyz", "xxyyzz", "xyxyzz"])
@pytest.mark.parametrize("space", ["lps", "ras"])
def test_every_way_of_writing_a_box_leads_to_its_voxels(tmp_path: Path, mode: str, space: str) -> None:
    written(tmp_path, [{"box": as_written(mode, space), "label": [0, 2]}])
    (sample,), codes = read(tmp_path, box_mode=mode, box_space=space, classes=["nodule", "scar", "cyst"])
    assert codes == []
    np.testing.assert_allclose(sample.label.boxes, VOXELS, atol=1e-4)
    assert sample.label.classes.tolist() == [1, 3]


@pytest.mark.parametrize(
    "preprocess",
    [{}, {"orientation": "RAS"}, {"orientation": "SPL"}, {"spacing": [0.8, 1.0, 1.0]}, {"orientation": "RAS", "spacing": [2, 2, 2]}],
)
def test_boxes_on_the_stored_grid_are_monais(tmp_path: Path, preprocess: dict[str, Any]) -> None:
    """MONAI's transforms of the bundle and its tutorials, by the affine of the volume that is stored."""
    boxes = as_written("cccwhd", "lps")
    written(tmp_path, [{"box": boxes, "label": [0, 0]}])
    (sample,), _ = read(tmp_path, preprocess)
    assert sample.affine is not None
    image = MetaTensor(torch.from_numpy(sample.image.astype(np.float32)), affine=torch.from_numpy(sample.affine))
    item = ConvertBoxModed("box", "cccwhd", "xyzxyz")({"image": image, "box": torch.tensor(boxes)})
    expected = AffineBoxToImageCoordinated("box", "image", affine_lps_to_ras=True)(item)["box"]
    np.testing.assert_allclose(sample.label.boxes, expected, atol=1e-3)
    assert in_space(sample.label, sample.affine) == [pytest.approx(box, abs=1e-4) for box in boxes]


def test_boxes_that_reach_beyond_the_volume(tmp_path: Path) -> None:
    """As in two dimensions: clipped, dropped with a warning; where nothing is left, the convention is likely wrong."""
    boxes = as_written("cccwhd", "lps")
    outside = [[c + 500 for c in box[:3]] + box[3:] for box in boxes]
    large = [[*boxes[0][:3], 1000, 2, 1000]]
    written(tmp_path, [{"box": boxes + outside, "label": [0, 0, 1, 1]}, {"box": outside, "label": [0, 0]}, {"box": large, "label": [0]}])
    samples, codes = read(tmp_path)
    assert codes == ["bad-box"]
    assert samples[0].label.classes.tolist() == [1, 1]
    assert samples[0].facts["label_warnings"] == ["2 boxes lie outside the stored image"]
    whole = samples[1].label.boxes[0]
    assert (whole[[0, 2, 3, 5]] == [0, 0, SHAPE[0], SHAPE[2]]).all()
    # Read as RAS, they lie on the other side of the patient.
    assert read(tmp_path, box_space="ras")[1] == ["bad-box"] * 3


def test_boxes_in_pixels_do_not_lie_on_volumes(tmp_path: Path) -> None:
    written(tmp_path, [{}])
    image = {"id": 1, "file_name": "0.nii.gz"}
    box = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}
    (tmp_path / "dataset.json").write_text(json.dumps({"images": [image], "annotations": [box], "categories": [{"id": 1}]}))
    assert read(tmp_path, layout="coco") == ([], ["unsupported-format"])


def test_a_volume_without_objects_says_so(tmp_path: Path) -> None:
    written(tmp_path, [{"box": [], "label": []}, {"label": [0]}, {"box": [[0, 0, 0, 1, 1, 1]]}])
    (empty,), codes = read(tmp_path)
    assert codes == ["missing-label", "missing-label"]
    assert empty.label.boxes.shape == (0, 6)


@pytest.mark.parametrize(
    ("box", "label", "code"),
    [
        ([[0, 0, 0, 1, 1]], [0], "bad-box"),
        ([[0, 0, 0, 1, 1, 0]], [0], "bad-box"),
        ([[0, 0, 0, 1, 1, -2]], [0], "bad-box"),
        ([[0, 0, 0, 1, 1, "2"]], [0], "bad-box"),
        ([[0, 0, 0, 1, 1, float("nan")]], [0], "bad-box"),
        ([[0, 0, 1e7, 1, 1, 1]], [0], "bad-box"),
        ([0, 0, 0, 1, 1, 1], [0], "bad-box"),
        ([[0, 0, 0, 1, 1, 1]], 0, "unknown-label"),
        ([[0, 0, 0, 1, 1, 1]], [0, 1], "unknown-label"),
        ([[0, 0, 0, 1, 1, 1]], [-1], "unknown-label"),
        ([[0, 0, 0, 1, 1, 1]], [True], "unknown-label"),
        ([[0, 0, 0, 1, 1, 1]], [0.0], "unknown-label"),
    ],
)
def test_records_that_hold_no_boxes(box: Any, label: Any, code: str) -> None:
    with pytest.raises(InputError) as caught:
        named_in_space({"box": box, "label": label}, "cccwhd", "lps")
    assert caught.value.code == code


def test_boxes_go_from_grid_to_grid_and_back() -> None:
    boxes = Boxes.of(VOXELS, [1, 1], dims=3)
    other = np.array([[0, 2.0, 0, 10], [-3.0, 0, 0, 5], [0, 0, 1.0, 7], [0, 0, 0, 1]])
    there = between_grids(boxes, AFFINE, other)
    np.testing.assert_allclose(between_grids(there, other, AFFINE).boxes, VOXELS, atol=1e-3)
    assert (there.boxes[:, 3:] > there.boxes[:, :3]).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"modality": "endoscopy"}, "boxes of pictures take layout coco or yolo"),
        ({"task": "segmentation", "box_space": "ras"}, "box_mode and box_space say how boxes in space are written"),
        ({"box_mode": "ccwh"}, "box_mode"),
    ],
)
def test_settings_that_mean_nothing_here(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        DataSettings.model_validate({**DATA, **changes})


def test_slices_have_no_place_for_boxes_in_space() -> None:
    victim = {"network": "monai:retinanet", "weights": "w.pt", "normalize": {"window": [-1000, 400]}}
    spec = {"name": "a", "data": DATA, "preprocess": {"as": "slices"}, "victim": victim, "attacks": {"a": {"attack": "fgsm", "epsilon": 2}}}
    with pytest.raises(SpecError, match="slices has no place for boxes in space"):
        parse_spec(spec, "spec")


def test_data_without_a_single_box_key_is_no_data_without_boxes(tmp_path: Path) -> None:
    written(tmp_path, [{"label": 1}])
    assert list_samples(DataSettings.model_validate(DATA), tmp_path).nothing_labelled == "no record of 'training' has the key 'box'"
