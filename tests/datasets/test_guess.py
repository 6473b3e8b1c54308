"""`medadv init` on folders as people have them: masks are paired, patients are no classes, doubts are marked, and nothing ends it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.datasets.trees import numbered, tree, written

from medadv.common.errors import SpecError
from medadv.datasets.class_folders import look_like_patients
from medadv.datasets.guess import guess
from medadv.datasets.pairing import mask_rank
from medadv.datasets.trees import list_folders

DRIVE = [
    *numbered("training/images/{}_training.tif", *range(21, 41)),
    *numbered("training/1st_manual/{}_manual1.gif", *range(21, 41)),
    *numbered("training/mask/{}_training_mask.gif", *range(21, 41)),
    *numbered("test/images/{:02d}_test.tif", *range(1, 21)),
    *numbered("test/mask/{:02d}_test_mask.gif", *range(1, 21)),
]
ORGANS = ("aorta", "liver", "spleen")
PAIRED: dict[str, tuple[list[str], str, Any]] = {
    "kits": (
        [
            *numbered("case_{:05d}/imaging.nii.gz", 0, 1, 2),
            *numbered("case_{:05d}/segmentation.nii.gz", 0, 1, 2),
            *numbered("case_{:05d}/instances/kidney_instance-1_annotation-1.nii.gz", 0, 1),
            "kits.json",
        ],
        "{id}/imaging.nii.gz",
        "{id}/segmentation.nii.gz",
    ),
    "totalsegmentator": (
        [
            *numbered("s{:04d}/ct.nii.gz", 0, 1, 2, 4),
            *(f"s{n:04d}/segmentations/{organ}.nii.gz" for n in (0, 1, 2, 4) for organ in ORGANS),
        ],
        "{id}/ct.nii.gz",
        [f"{{id}}/segmentations/{organ}.nii.gz" for organ in ORGANS],
    ),
    "drive": (DRIVE, "training/images/{id}_training.tif", "training/1st_manual/{id}_manual1.gif"),
    "cvc-clinicdb": (
        [*numbered("Original/{}.tif", *range(1, 13)), *numbered("Ground Truth/{}.tif", *range(1, 13))],
        "Original/{id}.tif",
        "Ground Truth/{id}.tif",
    ),
    "etis": (
        [*numbered("ETIS/{}.tif", *range(1, 13)), *numbered("ETIS/Ground Truth/p{}.tif", *range(1, 13))],
        "ETIS/{id}.tif",
        "ETIS/Ground Truth/p{id}.tif",
    ),
    "cvc-300": ([*numbered("bbdd/{}.bmp", 1, 2, 30), *numbered("gtpolyp/{}.bmp", 1, 2, 30)], "bbdd/{id}.bmp", "gtpolyp/{id}.bmp"),
    "nnunet-without-json": (
        [*numbered("imagesTr/la_{:03d}_0000.nii.gz", 3, 4, 12), *numbered("labelsTr/la_{:03d}.nii.gz", 3, 4, 12), "imagesTs/l_0000.nii"],
        "imagesTr/{id}_0000.nii.gz",
        "labelsTr/{id}.nii.gz",
    ),
    "lits": ([*numbered("volume-{}.nii", 0, 1, 9), *numbered("segmentation-{}.nii", 0, 1, 9)], "volume-{id}.nii", "segmentation-{id}.nii"),
    # What all ids end with is no part of what stands behind them.
    "digits": ([*numbered("x/{}1_t.png", 0, 1), *numbered("gt/{}1_m.png", 0, 1)], "x/{id}_t.png", "gt/{id}_m.png"),
    "isic": (
        [*numbered("Input/ISIC_{:07d}.jpg", 1, 3), *numbered("Training_GroundTruth/ISIC_{:07d}_segmentation.png", 1, 3)],
        "Input/{id}.jpg",
        "Training_GroundTruth/{id}_segmentation.png",
    ),
    "side-by-side": ([*numbered("a/{}.png", "x", "y"), *numbered("a/{}_mask.png", "x", "y")], "a/{id}.png", "a/{id}_mask.png"),
    "idrid": (
        [
            *numbered("A. Segmentation/1. Original Images/a. Training Set/IDRiD_{:02d}.jpg", 1, 2, 3),
            *numbered("A. Segmentation/2. All Segmentation Groundtruths/a. Training Set/1. Microaneurysms/IDRiD_{:02d}_MA.tif", 1, 2, 3),
            *numbered("A. Segmentation/2. All Segmentation Groundtruths/a. Training Set/2. Haemorrhages/IDRiD_{:02d}_HE.tif", 1, 2),
        ],
        "A. Segmentation/1. Original Images/a. Training Set/{id}.jpg",
        [
            "A. Segmentation/2. All Segmentation Groundtruths/a. Training Set/1. Microaneurysms/{id}_MA.tif",
            "A. Segmentation/2. All Segmentation Groundtruths/a. Training Set/2. Haemorrhages/{id}_HE.tif",
        ],
    ),
}


@pytest.mark.parametrize("name", PAIRED)
def test_images_and_masks_are_paired_by_what_surrounds_an_id(tmp_path: Path, name: str) -> None:
    files, image, label = PAIRED[name]
    spec, text = written(tree(tmp_path / name, *files))
    assert (spec.data.layout, spec.data.task) == ("folders", "segmentation")
    assert (spec.data.image, spec.data.label) == (image, label)
    assert ("GIF masks are not read" in text) == (name == "drive")
    # Every image that the template names is there with its mask: the layout itself finds them.
    found = list_folders(tmp_path / name, spec.data)
    assert len(found.sources) > 1
    assert len(found.problems) <= (1 if name == "idrid" else 0)


def test_nnunet_as_it_comes_and_as_it_leaves(tmp_path: Path) -> None:
    raw = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "tumour": 2}, "numTraining": 2, "file_ending": ".nii.gz"}
    names = [*numbered("imagesTr/ct_{:03d}_0000.nii.gz", 1, 2), *numbered("labelsTr/ct_{:03d}.nii.gz", 1, 2)]
    home = tree(tmp_path / "nnUNet_raw/Dataset001_Liver", *names)
    (home / "dataset.json").write_text(json.dumps(raw))
    for folder, path in ((home, "."), (tmp_path / "nnUNet_raw", "Dataset001_Liver")):
        found = guess(folder)
        assert found is not None
        assert (found.layout, found.task, found.path, found.classes) == ("nnunet", "segmentation", path, 3)
        assert not found.unsure
        assert not found.task_unsure
    assert "out_channels: 3" in written(home)[1]
    # MR is no CT, and says so.
    (home / "dataset.json").write_text(json.dumps({**raw, "channel_names": {"0": "T2"}}))
    found = guess(home)
    assert found is not None
    assert found.unsure
    # Version 1 names cases, whose files have a channel.
    old = {"training": [{"image": "./imagesTr/ct_001.nii.gz", "label": "./labelsTr/ct_001.nii.gz"}], "modality": {"0": "CT"}}
    (home / "dataset.json").write_text(json.dumps(old))
    found = guess(home)
    assert found is not None
    assert (found.layout, found.settings["image"]) == ("folders", "imagesTr/{id}_0000.nii.gz")
    # What it trained and preprocessed has masks and no images.
    for files in (("gt_segmentations/ct_001.nii.gz", "nnUNetPlans.json"), ("fold_0/validation_labels/ct_001.nii.gz", "plans.json")):
        made = tree(tmp_path / files[1], *files)
        (made / "dataset.json").write_text(json.dumps(raw))
        with pytest.raises(SpecError, match="name the raw data set"):
            guess(made)


@pytest.mark.parametrize(
    "files",
    [
        ["masks/1.png", "masks/2.png", "images/a.png", "images/b.png"],
        ["masks/1.png", "images/1.png", "images/2.png", "images/3.png"],
        ["p1/a.png", "p2/b.png", "p10/c.png"],
        ["patient_001/a.png", "patient_002/b.png"],
        ["LIDC-IDRI-0001/x/1.nii.gz", "LIDC-IDRI-0002/x/2.nii.gz"],
        ["train/001/a.jpg", "train/002/b.jpg", "test/003/c.jpg"],
        ["images/1.png", "images/2.png"],
        ["train/images/1.png", "test/images/2.png"],
        ["1.png", "2.png"],
        [f"{n:08x}-aa/1.png" for n in range(3)],
        [f"someone-{chr(97 + n)}{chr(97 + m)}/1.png" for n in range(10) for m in range(6)],
    ],
)
def test_masks_patients_and_plain_folders_are_no_classes(tmp_path: Path, files: list[str]) -> None:
    found = guess(tree(tmp_path / "d", *files))
    assert found is not None
    assert (found.layout, found.task) != ("folders", "classification")
    assert found.task_unsure
    spec, text = written(tmp_path / "d")
    assert spec.data.classes is None
    assert "# <- classification | segmentation | detection" in text
    assert "mask" not in str(found.settings)


@pytest.mark.parametrize(
    ("files", "classes", "path"),
    [
        (["normal/1.png", "pneumonia/1.png", "covid-19/1.png"], 3, "."),
        (["0/a.png", "1/b.png", "2/c.png", "3/d.png", "4/e.png"], 5, "."),
        (["archive/train/cat/1.png", "archive/val/cat/2.png", "archive/val/dog/3.png", "archive/train/dog/1.png"], 2, "archive"),
        (["benign/p1/1.png", "malignant/p2/1.png", "masks/m.png"], 2, "."),
    ],
)
def test_folders_that_may_be_classes_are_marked(tmp_path: Path, files: list[str], classes: int, path: str) -> None:
    found = guess(tree(tmp_path / "d", *files))
    assert found is not None
    assert (found.layout, found.task, found.classes, found.path, found.task_unsure) == ("folders", "classification", classes, path, True)
    assert found.settings == ({"split": {"use": "val"}} if path == "archive" else {})


def test_patients_and_masks_by_name() -> None:
    assert look_like_patients(["s0000", "s0001"])
    assert look_like_patients(["sub-01", "sub-02"])
    assert look_like_patients(["p1", "p2"])
    assert look_like_patients(["1.2.840.113619.2.1", "1.2.840.113619.2.2"])
    assert not look_like_patients(["grade_1", "grade_2"])
    assert not look_like_patients(["benign", "malignant"])
    assert None not in [mask_rank(name) for name in ("1st_manual", "Ground Truth", "gtpolyp", "labelsTr", "masks")]
    assert [mask_rank(name) for name in ("unlabeled", "weights", "imagesTr")] == [None] * 3
    assert mask_rank("1st_manual") < mask_rank("ground_truth") < mask_rank("labels") < mask_rank("mask")  # type: ignore[operator]


def draw(path: Path, colour: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.random.default_rng(1).integers(0, 256, (8, 8, 3 if colour else 1), np.uint8)
    Image.fromarray(np.broadcast_to(levels, (8, 8, 3))).save(path)


@pytest.mark.parametrize(
    ("folder", "colour", "modality", "unsure"),
    [("slices", False, "ct", True), ("slices", True, "fundus", True), ("fundus", False, "fundus", True), ("fundus", True, "fundus", False)],
)
def test_grey_pictures_are_ct_or_marked(tmp_path: Path, folder: str, colour: bool, modality: str, unsure: bool) -> None:
    for n in range(3):
        draw(tmp_path / folder / f"images/{n}.png", colour)
        draw(tmp_path / folder / f"masks/{n}.png", False)
    found = guess(tmp_path / folder)
    assert found is not None
    assert (found.modality, found.unsure) == (modality, unsure)
    spec, text = written(tmp_path / folder)
    assert ("the pictures are grey" in text) == (not colour)
    # Pictures of 0 to 255 take no HU window.
    assert (spec.victim.normalize.window, spec.preprocess.size) == (None, (256, 256))
    assert len(spec.victim.normalize.mean or ()) == (1 if modality == "ct" else 3)
    given = guess(tmp_path / folder, "endoscopy")
    assert given is not None
    assert (given.modality, given.unsure) == ("endoscopy", False)
