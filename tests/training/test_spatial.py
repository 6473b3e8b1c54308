"""Masks and boxes follow their images through MONAI's spatial transforms: an image made of its own label shows it voxel by voxel."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.apps.detection.transforms.dictionary import (
    FlipBoxd,
    RandCropBoxByPosNegLabeld,
    RandFlipBoxd,
    RandRotateBox90d,
    RandZoomBoxd,
    RotateBox90d,
    ZoomBoxd,
)
from monai.transforms import (
    BorderPadd,
    CenterSpatialCropd,
    Compose,
    CropForegroundd,
    DivisiblePadd,
    Flipd,
    GridPatchd,
    LoadImaged,
    Orientationd,
    Rand2DElasticd,
    Rand3DElasticd,
    RandAffined,
    RandAxisFlipd,
    RandCropByLabelClassesd,
    RandCropByPosNegLabeld,
    RandFlipd,
    RandGridDistortiond,
    RandRotate90d,
    RandRotated,
    RandSpatialCropd,
    RandSpatialCropSamplesd,
    RandZoomd,
    Resized,
    ResizeWithPadOrCropd,
    Spacingd,
    SpatialPadd,
    Transposed,
    Zoomd,
)
from small_corpora import write_corpus

from medadv.training.boxes import BoxesToTensorAxesd, BoxesToXFirstd
from medadv.training.collate import collate
from medadv.training.dataset import CorpusDataset
from medadv.training.monai_reader import CorpusReader, datalist

DRAWS = int(os.environ.get("MEDADV_DRAWS", 50))
"""Of each transform; `scripts/check_augmentation` takes 200."""
KEYS = ["image", "adversarial", "label"]
AXES = {2: "xy", 3: "xyz"}
"""CT, which has geometry; photographs are (y, x) and have none."""


def _affine(dims: int) -> Any:
    ranges = {"rotate_range": 0.7 if dims == 2 else [0.7] * 3, "shear_range": [0.3] * dims, "translate_range": [3] * dims}
    return RandAffined(KEYS, prob=1, mode="nearest", scale_range=[0.3] * dims, padding_mode="zeros", **ranges)


def _elastic(dims: int) -> Any:
    if dims == 2:
        return Rand2DElasticd(KEYS, (6, 6), (1, 3), prob=1, rotate_range=0.5, mode="nearest", padding_mode="zeros")
    return Rand3DElasticd(KEYS, (1, 2), (20, 60), prob=1, rotate_range=[0.5] * 3, mode="nearest", padding_mode="zeros")


TRANSFORMS: dict[str, Callable[[int], Any]] = {
    "flip": lambda d: Flipd(KEYS, spatial_axis=0),
    "flip last": lambda d: Flipd(KEYS, spatial_axis=d - 1),
    "rand flip": lambda d: Compose([RandFlipd(KEYS, prob=0.5, spatial_axis=axis) for axis in range(d)]),
    "rand axis flip": lambda d: RandAxisFlipd(KEYS, prob=0.7),
    "transpose": lambda d: Transposed(KEYS, [0, *range(d, 0, -1)]),
    "rotate 90": lambda d: RandRotate90d(KEYS, prob=0.8, spatial_axes=(0, d - 1)),
    "rotate": lambda d: RandRotated(KEYS, range_x=1.0, range_y=1.0, range_z=1.0, prob=1, mode="nearest", padding_mode="zeros"),
    "affine": _affine,
    "elastic": _elastic,
    "grid distortion": lambda d: RandGridDistortiond(KEYS, prob=1, mode="nearest", padding_mode="zeros"),
    "zoom": lambda d: Zoomd(KEYS, 1.4, mode="nearest", padding_mode="constant"),
    "rand zoom": lambda d: RandZoomd(KEYS, prob=1, min_zoom=[0.6] * d, max_zoom=[1.5] * d, mode="nearest", padding_mode="constant"),
    "crop": lambda d: RandSpatialCropd(KEYS, [5] * d, random_size=True),
    "centre crop": lambda d: CenterSpatialCropd(KEYS, [7, 5, 4][:d]),
    "foreground crop": lambda d: CropForegroundd(KEYS, source_key="label"),
    "pad": lambda d: SpatialPadd(KEYS, [20, 19, 15][:d]),
    "border pad": lambda d: BorderPadd(KEYS, [1, 2, 3][:d]),
    "divisible pad": lambda d: DivisiblePadd(KEYS, 8),
    "pad or crop": lambda d: ResizeWithPadOrCropd(KEYS, [8, 15, 9][:d]),
    "resize": lambda d: Resized(KEYS, [9, 17, 5][:d], mode="nearest"),
    "spacing": lambda d: Spacingd(KEYS, [1.7] * d, mode="nearest", padding_mode="zeros"),
    "orientation": lambda d: Orientationd(KEYS, "PLS", labels=None) if d == 3 else Flipd(KEYS, 1),
    "patches by label": lambda d: RandCropByPosNegLabeld(KEYS, "label", [6] * d, pos=1, neg=1, num_samples=3),
    "patches by class": lambda d: RandCropByLabelClassesd(KEYS, "label", [6] * d, num_classes=4, num_samples=2),
    "patches": lambda d: RandSpatialCropSamplesd(KEYS, [6] * d, num_samples=2, random_size=False),
    "grid of patches": lambda d: GridPatchd(KEYS, [5] * d),
    # Each applied: MONAI 1.6 takes a pending 2D transform with one that was drawn not to be for different ranks, and raises.
    "lazy": lambda d: Compose([RandFlipd(KEYS, 1, 0), _affine(d), RandRotate90d(KEYS, 1)], lazy=True),
}


@pytest.fixture(scope="module", params=[2, 3])
def mirrored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    """(dims, corpus): four images that hold their own label, adversarial twice that, with an oblique affine."""
    dims = request.param
    label = np.random.default_rng(0).integers(0, 4, (4, *[14, 11, 10][:dims]), np.uint8)
    root = tmp_path_factory.mktemp("mirrored") / "corpus"
    image = label[:, None].astype(np.uint8)
    return dims, write_corpus(root, image, label, image.astype(np.int8), axes=AXES[dims], task="segmentation", affine=True)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_an_image_of_its_label_stays_one(mirrored: tuple[int, Path], name: str) -> None:
    dims, corpus = mirrored
    dataset = CorpusDataset(corpus, transform=TRANSFORMS[name](dims))
    compared = 0
    for draw in range(DRAWS):
        dataset.set_epoch(draw)
        found = dataset[draw % len(dataset)]
        for sample in found if isinstance(found, list) else [found]:
            image, adversarial, label = (torch.as_tensor(sample[key]).float() for key in KEYS)
            assert torch.equal(image, label)
            assert torch.equal(adversarial, 2 * label)
            compared += 1
            assert torch.equal(sample["affine"], sample["image"].affine)
    assert compared >= DRAWS


# MONAI's own readers warn that NVIDIA's decoder is not there.
@pytest.mark.filterwarnings("ignore:NvImgCodec")
def test_masks_are_channel_first_in_the_place_of_their_image(mirrored: tuple[int, Path]) -> None:
    dims, corpus = mirrored
    plain = CorpusDataset(corpus)[0]
    assert plain["label"].shape == plain["image"].shape == (1, *[14, 11, 10][:dims])
    assert plain["label"].dtype == torch.int64
    assert torch.equal(plain["label"].affine, plain["image"].affine)
    loaded = LoadImaged(KEYS, reader=CorpusReader, ensure_channel_first=True)(datalist(corpus)[0])
    for key in KEYS:
        assert torch.equal(loaded[key].as_tensor(), plain[key].as_tensor().float())
        assert torch.equal(loaded[key].affine, plain[key].affine)


def test_masks_of_photographs_follow_too(tmp_path: Path) -> None:
    """Without geometry image and mask are plain tensors, which MONAI's transforms make its own."""
    label = np.random.default_rng(0).integers(0, 4, (2, 14, 11), np.uint8)
    image = label[:, None]
    corpus = write_corpus(tmp_path / "c", image, label, image.astype(np.int8), axes="yx", task="segmentation")
    for name in ("flip", "rotate", "affine", "patches by label"):
        found = CorpusDataset(corpus, transform=TRANSFORMS[name](2))[1]
        for sample in found if isinstance(found, list) else [found]:
            assert torch.equal(torch.as_tensor(sample["image"]), torch.as_tensor(sample["label"]).float())
            assert "affine" not in sample


def test_a_mask_for_each_class_keeps_them(tmp_path: Path) -> None:
    label = np.random.default_rng(0).integers(0, 2, (2, 3, 8, 9), np.uint8)
    item = CorpusDataset(write_corpus(tmp_path / "c", label[:, :1], label, axes="yx", task="segmentation"))[1]
    assert np.array_equal(item["label"].numpy(), label[1])


def test_the_affine_of_a_batch_is_what_the_transforms_left(mirrored: tuple[int, Path]) -> None:
    dims, corpus = mirrored
    dataset = CorpusDataset(corpus, transform=RandCropByPosNegLabeld(KEYS, "label", [4] * dims, num_samples=2))
    samples = [dataset[index] for index in range(3)]
    batch = collate(samples)
    flat = [part for patches in samples for part in patches]
    assert torch.equal(batch["affine"], torch.stack([part["image"].affine for part in flat]))
    assert len({tuple(affine[:3, 3].tolist()) for affine in batch["affine"]}) > 3
    assert batch["image"].shape == (6, 1, *[4] * dims)
    # Whoever takes the geometry from the image takes the place with it: better none than the one before the transforms.
    bare = CorpusDataset(corpus, transform=lambda item: {**item, "image": item["image"].as_tensor().flip(1)})
    assert "affine" not in bare[0]
    assert "affine" not in collate([bare[0], bare[1]])


BOX_KEYS = {"box_keys": "boxes", "box_ref_image_keys": "image"}
BOX_TRANSFORMS: dict[str, Callable[[int], Any]] = {
    "flip": lambda d: FlipBoxd("image", **BOX_KEYS, spatial_axis=0),
    "flip last": lambda d: FlipBoxd("image", **BOX_KEYS, spatial_axis=d - 1),
    "rand flip": lambda d: Compose([RandFlipBoxd("image", **BOX_KEYS, prob=0.5, spatial_axis=axis) for axis in range(d)]),
    "rotate 90": lambda d: RotateBox90d("image", **BOX_KEYS, k=1, spatial_axes=(0, 1)),
    "rand rotate 90": lambda d: RandRotateBox90d("image", **BOX_KEYS, prob=0.8, spatial_axes=(0, d - 1)),
    "zoom": lambda d: ZoomBoxd("image", **BOX_KEYS, zoom=[1.5] * d, mode="nearest", padding_mode="constant", keep_size=True),
    "rand zoom": lambda d: RandZoomBoxd(
        "image", **BOX_KEYS, prob=1, min_zoom=0.7, max_zoom=1.6, mode="nearest", padding_mode="constant", keep_size=True
    ),
    "crop": lambda d: RandCropBoxByPosNegLabeld(["image"], "boxes", ["classes"], spatial_size=[28] * d, num_samples=2),
}


@pytest.fixture(scope="module", params=[2, 3])
def rectangles(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    """(dims, corpus): images in which each box is drawn with its class's level; photographs (y, x), volumes (x, y, z)."""
    dims, shape = request.param, [40, 56, 36][: request.param]
    draw = np.random.default_rng(1)
    images, labels = np.zeros((6, 1, *shape), np.uint8), []
    for image in images:
        boxes, first = [], 2
        for level in (1, 2):
            # Side by side along the tensor's first axis, so that none hides another.
            start = [first, *draw.integers(2, 10, dims - 1)]
            size = [int(draw.integers(6, 12)), *draw.integers(8, 14, dims - 1)]
            window = tuple(slice(low, low + length) for low, length in zip(start, size, strict=True))
            image[(0, *window)] = 100 * level
            first += size[0] + 3
            corners = [[part.start for part in window], [part.stop for part in window]]
            boxes.append([edge for corner in corners for edge in (corner[::-1] if dims == 2 else corner)])
        labels.append((boxes, [1, 2]))
    root = tmp_path_factory.mktemp("rectangles") / "corpus"
    return dims, write_corpus(root, images, labels, np.zeros(images.shape, np.int8), axes="yx" if dims == 2 else "xyz", task="detection")


@pytest.mark.parametrize("name", BOX_TRANSFORMS)
def test_boxes_follow_what_is_drawn_in_them(rectangles: tuple[int, Path], name: str) -> None:
    dims, corpus = rectangles
    dataset = CorpusDataset(corpus, transform=Compose([BoxesToTensorAxesd(), BOX_TRANSFORMS[name](dims), BoxesToXFirstd()]))
    compared = 0
    for draw in range(DRAWS):
        dataset.set_epoch(draw)
        found = dataset[draw % len(dataset)]
        for sample in found if isinstance(found, list) else [found]:
            compared += _agreeing(sample, dims)
    assert compared >= DRAWS


def _agreeing(sample: dict[str, Any], dims: int) -> int:
    """Number of boxes held against the pixels of their class: each edge within one."""
    boxes, classes = np.asarray(sample["boxes"]), np.asarray(sample["classes"])
    assert len(boxes) == len(classes)
    for box, kind in zip(boxes, classes, strict=True):
        places = np.argwhere(np.asarray(sample["image"])[0] == 100 * kind)
        limits = np.array(sample["image"].shape[1:])[:: -1 if dims == 2 else 1]
        shown = np.clip(box, 0, np.tile(limits, 2))
        if len(places):
            corners = np.stack([places.min(0), places.max(0) + 1])
            drawn = (corners[:, ::-1] if dims == 2 else corners).reshape(-1)
            assert np.abs(shown - drawn).max() <= 1, (box, drawn)
        else:  # outside the image, or thinner than what nearest neighbours show
            assert (shown[dims:] - shown[:dims]).min() <= 1
    return len(boxes)


def test_the_pair_of_box_transforms() -> None:
    boxes = torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]])
    there = BoxesToTensorAxesd(axes="yx")({"boxes": boxes})
    assert there["boxes"].tolist() == [[2, 1, 4, 3], [6, 5, 8, 7]]
    assert BoxesToXFirstd(axes="yx")(there)["boxes"].tolist() == boxes.tolist()
    turned = BoxesToTensorAxesd(axes="yzx")({"boxes": [[1, 2, 3, 4, 5, 6]]})
    assert turned["boxes"].tolist() == [[2, 3, 1, 5, 6, 4]]
    assert BoxesToXFirstd(axes="yzx")(turned)["boxes"].tolist() == [[1, 2, 3, 4, 5, 6]]
    assert BoxesToTensorAxesd(axes="yx")({"boxes": []})["boxes"].shape == (0, 4)
    with pytest.raises(ValueError, match="no 'spatial_axes': say axes='yx'"):
        BoxesToTensorAxesd()({"boxes": boxes})
    with pytest.raises(ValueError, match="axes='yxx'"):
        BoxesToTensorAxesd(axes="yxx")
    with pytest.raises(ValueError, match=r"boxes \(m, 6\)"):
        BoxesToXFirstd(axes="xyz")({"boxes": boxes})
