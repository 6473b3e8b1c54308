"""Every task and modality through the same run, with victims that need no training."""

import json
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pytest
import yaml
from PIL import Image
from tests.conftest import CLASSIFIER, draw_pictures, quiet, save_victim, tiny_spec

from medadv.batches import equipment
from medadv.common.errors import SpecError
from medadv.corpus.manifest import Manifest
from medadv.evidence.reproduce import reproduce
from medadv.evidence.rescore import rescore
from medadv.evidence.verify import verify
from medadv.prepare.request import Options
from medadv.run.run import Result, run
from medadv.victims.loading import VictimRequest
from medadv.victims.victim import Victim

pytestmark = pytest.mark.usefixtures("inline")

UNET = {"in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2]}


def chest(folder: Path, shape: tuple[int, ...], count: int = 2) -> None:
    """Noisy volumes in HU with a box as `lung`, in Decathlon layout."""
    folder.mkdir(parents=True)
    records = []
    for index in range(count):
        generator = np.random.default_rng(index)
        volume = generator.normal(40, 20, shape)
        mask = np.zeros(shape, np.uint8)
        mask[8:24, 8:24] = 1
        volume[mask == 1] = -800
        affine = np.diag([-1.5, -1.5, 2.0, 1.0])
        nib.save(nib.Nifti1Image(volume.astype(np.int16), affine), folder / f"image{index}.nii.gz")
        nib.save(nib.Nifti1Image(mask, affine), folder / f"mask{index}.nii.gz")
        records.append({"image": f"image{index}.nii.gz", "label": f"mask{index}.nii.gz", "patient": f"p{index}"})
    (folder / "dataset.json").write_text(json.dumps({"name": "chest", "training": records}))


def segmentation_spec(folder: Path, dims: int, **changes: Any) -> Path:
    path = tiny_spec(
        folder,
        data__modality="ct",
        data__task="segmentation",
        data__layout="decathlon",
        data__path="data/dataset.json",
        data__label=None,
        preprocess={} if dims == 3 else {"as": "slices"},
        victim__network="monai:unet",
        victim__arguments={"spatial_dims": dims, **UNET},
        victim__normalize={"window": [-1000, 400]},
        **changes,
    )
    spec = yaml.safe_load(path.read_text())
    spec["attacks"] = {
        "smia-30": {"attack": "smia", "epsilon": 30, "step": 10, "steps": 2},
        "pgd-200": {"attack": "pgd", "epsilon": 200, "steps": 2},
    }
    path.write_text(yaml.safe_dump(spec))
    return path


def checked(result: Result) -> Manifest:
    """The manifest of a corpus that verifies, scores again as stored, and is made again from its sources bit for bit."""
    assert result.exit_code == 0
    assert verify(result.corpus) == []
    assert rescore(result.corpus, [], False, quiet) == []
    again = reproduce(result.corpus, None, data=result.corpus.parent / "data")
    assert (again.origin, again.equal) == ("sources", True)
    assert len(again.results) == result.manifest.samples * len(result.manifest.attacks)
    return result.manifest


@pytest.mark.parametrize("dims", [2, 3])
def test_segmentation_of_slices_and_volumes(dims: int, tmp_path: Path) -> None:
    chest(tmp_path / "data", (32, 32, 8))
    save_victim(tmp_path / "victim.safetensors", "monai:unet", {"spatial_dims": dims, **UNET})
    result = run(segmentation_spec(tmp_path, dims), Options(), quiet)
    manifest = checked(result)
    assert manifest.samples == (16 if dims == 2 else 2)
    with h5py.File(result.corpus / manifest.shards[0].path) as file:
        assert file.attrs["unit"] == "hu"
        assert file.attrs["spatial_axes"] == "xyz"[:dims]
        assert file["attacks/smia-30/perturbation"].dtype == np.int8
        assert file["attacks/pgd-200/perturbation"].dtype == np.int16
        assert file["label"].shape == file["attacks/smia-30/prediction_clean"].shape == (len(file["image"]), *file["image"].shape[2:])
        np.testing.assert_allclose(np.abs(np.diag(file["affine"][0])), [1.5, 1.5, 2.0, 1.0])


def polyps(folder: Path) -> Path:
    """A spec for three pictures, one of which has a box, and an untrained FCOS."""
    draw_pictures(folder / "data", 3, size=64)
    images = [{"id": i, "file_name": f"{i:03d}.png", "width": 64, "height": 64} for i in range(3)]
    boxes = [{"id": 1, "image_id": 0, "category_id": 7, "bbox": [8, 8, 20, 30]}]
    coco = {"images": images, "annotations": boxes, "categories": [{"id": 7, "name": "polyp"}]}
    (folder / "data" / "boxes.json").write_text(json.dumps(coco))
    arguments = {"num_classes": 2, "size": 64}
    save_victim(folder / "victim.safetensors", "torchvision:fcos_resnet18_fpn_gn", arguments)
    return tiny_spec(
        folder,
        data={"modality": "endoscopy", "task": "detection", "layout": "coco", "path": "data/boxes.json"},
        preprocess__size=[64, 64],
        victim__network="torchvision:fcos_resnet18_fpn_gn",
        victim__arguments=arguments,
    )


def test_detection_with_images_that_hold_no_box(tmp_path: Path) -> None:
    result = run(polyps(tmp_path), Options(), quiet)
    manifest = checked(result)
    assert manifest.metrics["pgd-8"].metric == "ap50"
    offsets, found = [], 0
    for entry in manifest.shards:
        with h5py.File(result.corpus / entry.path) as file:
            offsets.append(file["label/offsets"][-1])
            found += len(file["sample_id"])
    assert (sum(offsets), found) == (1, 3)


def test_unlabelled_data_takes_the_victims_answer_as_truth(tmp_path: Path) -> None:
    draw_pictures(tmp_path / "data", 4)
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    result = run(tiny_spec(tmp_path, data__label="none"), Options(), quiet)
    manifest = checked(result)
    assert manifest.data.label == "prediction"
    with h5py.File(result.corpus / manifest.shards[0].path) as file:
        assert (file["label"][...] == file["attacks/pgd-8/prediction_clean"][...]).all()
    assert manifest.metrics["pgd-8"].all["accuracy"]["clean"] == 1.0


def test_sigmoid_head_with_several_labels(tmp_path: Path) -> None:
    draw_pictures(tmp_path / "data", 4)
    table = tmp_path / "data" / "labels.csv"
    head, *rows = table.read_text().splitlines()
    table.write_text("\n".join([head + ",left,right", *(f"{row},{i % 2},1" for i, row in enumerate(rows))]) + "\n")
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    result = run(tiny_spec(tmp_path, data__label=["left", "right"], victim__head="sigmoid"), Options(), quiet)
    manifest = checked(result)
    with h5py.File(result.corpus / manifest.shards[0].path) as file:
        assert file["label"].shape == (4, 2)
        assert file["attacks/pgd-8/prediction_adversarial"].shape == (4, 2)


def test_nothing_outside_the_field_of_view_is_perturbed(tmp_path: Path) -> None:
    draw_pictures(tmp_path / "data", 4, size=64)
    y, x = np.mgrid[:64, :64] - 31.5
    for path in (tmp_path / "data").glob("*.png"):
        Image.fromarray(np.where((y**2 + x**2 < 31**2)[..., None], np.asarray(Image.open(path)), 0).astype(np.uint8)).save(path)
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    result = run(tiny_spec(tmp_path, preprocess={"region": True, "size": [32, 32]}), Options(), quiet)
    manifest = checked(result)
    with h5py.File(result.corpus / manifest.shards[0].path) as file:
        region = file["region"][...].astype(bool)
        assert 0.6 < region.mean() < 0.9
        for attack in manifest.attacks:
            touched = (file[f"attacks/{attack}/perturbation"][...] != 0).any(1)
            assert not (touched & ~region).any()
            assert touched[region].mean() > 0.5


def test_volumes_of_several_shapes_share_one_loaded_victim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index, length in enumerate((8, 6, 10)):
        chest(tmp_path / f"made{index}", (32, 32, length), count=1)
    (tmp_path / "data").mkdir()
    records = []
    for index in range(3):
        for kind in ("image", "mask"):
            (tmp_path / f"made{index}" / f"{kind}0.nii.gz").rename(tmp_path / "data" / f"{kind}{index}.nii.gz")
        records.append({"image": f"image{index}.nii.gz", "label": f"mask{index}.nii.gz"})
    (tmp_path / "data" / "dataset.json").write_text(json.dumps({"name": "chest", "training": records}))
    save_victim(tmp_path / "victim.safetensors", "monai:unet", {"spatial_dims": 3, **UNET})
    loads = []

    class Counted(VictimRequest):
        def load(self, *given: Any) -> Victim:
            loads.append(given)
            return super().load(*given)

    monkeypatch.setattr(equipment, "VictimRequest", Counted)
    result = run(segmentation_spec(tmp_path, 3), Options(), quiet)
    assert (result.manifest.samples, len(result.manifest.shards)) == (3, 3)
    assert len(loads) == 1
    assert verify(result.corpus) == []


def test_a_shape_that_the_network_refuses_is_named(tmp_path: Path) -> None:
    chest(tmp_path / "data", (32, 32, 8), count=1)
    for name, value in (("image1", -5), ("mask1", 0)):
        odd = np.full((32, 31, 8), value, np.int16)
        nib.save(nib.Nifti1Image(odd, np.diag([-1.5, -1.5, 2.0, 1.0])), tmp_path / "data" / f"{name}.nii.gz")
    records = [{"image": f"image{i}.nii.gz", "label": f"mask{i}.nii.gz"} for i in range(2)]
    (tmp_path / "data" / "dataset.json").write_text(json.dumps({"name": "chest", "training": records}))
    save_victim(tmp_path / "victim.safetensors", "monai:unet", {"spatial_dims": 3, **UNET})
    with pytest.raises(SpecError, match=r"needs logits \(n, K, 32, 31, 8\)"):
        run(segmentation_spec(tmp_path, 3), Options(), quiet)
