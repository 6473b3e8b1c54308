"""The readers inside MONAI's Compose."""

from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Flipd, ScaleIntensityRanged
from PIL import Image
from tests.transforms.ct_phantoms import ct_slice, write_nifti, write_series

from medadv_transforms import CropBlackBorderd, CropFieldOfViewd, LoadColourd, LoadCTd, RestoreBoxesd, read_ct_volume

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


def test_ct_and_label_through_compose_and_back(tmp_path: Path) -> None:
    x, y, z = np.meshgrid(np.arange(10), np.arange(9), np.arange(8), indexing="ij")
    image = write_nifti(tmp_path / "i.nii", (10 * x + 7 * y - 5 * z).astype(np.int16), AFFINE)
    label = write_nifti(tmp_path / "l.nii", (y > 4).astype(np.uint8), AFFINE)
    chain = Compose(
        [
            LoadCTd("image", label_keys=["label"], spacing=(1.0, 1.0, 1.5), orientation="LPS"),
            Flipd(["image", "label"], spatial_axis=1),
        ]
    )
    out = chain({"image": str(image), "label": [label]})
    assert isinstance(out["image"], MetaTensor)
    assert out["image"].shape == out["label"].shape == (1, 20, 18, 16)
    assert out["image"].meta["unit"] == "hu"
    back = chain.inverse(out)
    np.testing.assert_array_equal(back["label"][0], y > 4)
    assert np.abs(back["image"][0].numpy() - (10 * x + 7 * y - 5 * z))[1:-1, 1:-1, 1:-1].max() <= 1
    torch.testing.assert_close(back["image"].affine, torch.from_numpy(AFFINE))


def test_series_and_single_slices(tmp_path: Path) -> None:
    files = write_series(tmp_path, [ct_slice(z) for z in range(3)])
    volume = LoadCTd("image")({"image": files})["image"]
    expected = read_ct_volume(files)
    np.testing.assert_array_equal(volume, expected.image)
    np.testing.assert_allclose(volume.affine, expected.affine)
    chain = Compose([LoadCTd("image", index_key="slice"), ScaleIntensityRanged("image", -1024, 3071, 0, 1, clip=True)])
    plane = chain({"image": files, "slice": 1})["image"]
    torch.testing.assert_close(plane.as_tensor(), (volume[..., 1].as_tensor() + 1024) / 4095)


def test_colour_with_mask_and_boxes(tmp_path: Path) -> None:
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[5:35, 10:50] = 120
    mask = np.zeros((40, 60), np.uint8)
    mask[10:20, 20:40] = 1
    Image.fromarray(pixels).save(tmp_path / "i.png")
    Image.fromarray(mask).save(tmp_path / "m.png")
    keys = {"label_keys": ["mask"], "box_keys": ["boxes"], "region_key": "region"}
    load = LoadColourd("image", modality="endoscopy", size=(80, 80), fit="pad", crop=True, **keys)
    boxes = np.array([[20, 10, 40, 20], [0, 0, 5, 5]], np.float32)
    out = load({"image": tmp_path / "i.png", "mask": tmp_path / "m.png", "boxes": boxes})
    assert out["boxes"].tolist() == [[20, 20, 60, 40]]
    assert out["boxes_kept"].tolist() == [0]
    expected = np.zeros((80, 80))
    expected[20:40, 20:60] = 1
    np.testing.assert_array_equal(out["mask"][0], expected)
    assert out["region"].shape == (1, 80, 80)
    assert out["region"].sum() == 60 * 80
    np.testing.assert_allclose(RestoreBoxesd("boxes", "image")(out)["boxes"], boxes[:1])


def test_crops_undo(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:80, :100] + 0.5
    disc = np.hypot(rows - 40, columns - 52) < 30
    picture = torch.from_numpy(np.where(disc, 160, 1)[None].repeat(3, 0).astype(np.float32))
    mask = torch.from_numpy(disc[None].astype(np.float32))
    for crop in (CropFieldOfViewd(["image", "mask"], source_key="image"), CropBlackBorderd(["image", "mask"], source_key="image")):
        out = crop({"image": MetaTensor(picture), "mask": MetaTensor(mask)})
        assert out["image"].shape == (3, 60, 60)
        assert out["mask"].shape == (1, 60, 60)
        back = crop.inverse(out)
        torch.testing.assert_close(back["mask"].as_tensor(), mask)
        assert back["image"].shape == picture.shape


def test_what_a_data_set_has_to_say_reaches_the_readers(tmp_path: Path) -> None:
    values = np.arange(60, dtype=np.uint16).reshape(5, 4, 3)
    affine, moved = np.diag([1.0, 1.0, 2.0, 1.0]), np.eye(4)
    paths = {"image": write_nifti(tmp_path / "i.nii", values, affine), "label": write_nifti(tmp_path / "m.nii", values % 2, moved), "z": 2}
    for index_key in (None, "z"):
        load = LoadCTd("image", label_keys=["label"], offset=-1024, voxels=True, index_key=index_key)
        loaded = load(paths)
        expected = values.astype(int) if index_key is None else values[..., 2].astype(int)
        np.testing.assert_array_equal(loaded["image"][0], expected - 1024)
        np.testing.assert_array_equal(loaded["label"][0], expected % 2)
    levels = np.array([[0, 90, 255]], np.uint8)
    Image.fromarray(np.stack([levels] * 3, -1)).save(tmp_path / "i.png")
    Image.fromarray(levels).save(tmp_path / "m.png")
    for options, expected in (({"threshold": 80}, [0, 1, 1]), ({"white": 1}, [0, 90, 1]), ({"white": 255}, [0, 90, 255])):
        picture = LoadColourd("image", modality="fundus", label_keys=["label"], **options)
        loaded = picture({"image": tmp_path / "i.png", "label": tmp_path / "m.png"})
        assert loaded["label"][0, 0].tolist() == expected
