"""Folders of nnU-Net as victims: what is understood, and what is refused. `scripts/check_nnunet.py` compares with nnU-Net's answers."""

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.victims.nnunet_folders import INTENSITIES, OF_PICTURES, REGIONS, Training

from medadv.common.errors import SpecError
from medadv.victims.importers.imported import Imported
from medadv.victims.importers.nnunet import import_nnunet, nnunet_victim
from medadv.victims.sources.checkpoint import read_checkpoint
from medadv.victims.sources.registry import build_network

unet = pytest.importorskip("dynamic_network_architectures.architectures.unet", reason="pip install 'medadv[nnunet]'")

FLAT = Training(configuration="2d", patch=(16, 32), spacing=(1.5, 1.0), mirror=(0, 1))
RESIDUAL = Training(network="ResidualEncoderUNet", labels=REGIONS, order=(1, 2, 3))
PICTURES = replace(FLAT, **OF_PICTURES)


def imported(training: Training, folder: Path, **asked: Any) -> Imported:
    training.written(folder)
    return import_nnunet(folder, **asked)


@pytest.mark.parametrize("training", [Training(), RESIDUAL, FLAT], ids=["plain", "residual", "2d"])
def test_plans_of_both_forms_mean_the_same_network(training: Training, tmp_path: Path) -> None:
    new, old = (imported(replace(training, old=old, inherits=old), tmp_path / str(old)).victim for old in (False, True))
    networks = [build_network(str(each["network"]), dict(each["arguments"])).eval() for each in (new, old)]  # type: ignore[call-overload]
    networks[1].load_state_dict(networks[0].state_dict())
    picture = torch.randn(1, 1, *[8] * len(training.patch))
    with torch.no_grad():
        assert torch.equal(networks[0](picture), networks[1](picture))
    same = ("network", "head", "normalize", "window", "overlap", "window_mode", "window_places", "mirror")
    assert all(new[key] == old[key] for key in same)
    assert new["window"] == list(training.patch)
    assert (new["overlap"], new["window_mode"], new["window_places"]) == (0.5, "gaussian", "nnunet")


CT = [{"clip": [-731.5, 402.25]}, {"zscore": {"mean": [13.25], "std": [217.125]}}]
SCHEMES: dict[str, tuple[str, bool, list[Any]]] = {
    "CT": ("CTNormalization", False, CT),
    "CT, masked": ("CTNormalization", True, CT),
    "ZScore": ("ZScoreNormalization", False, [{"zscore": "image", "per_channel": True}]),
    "ZScore, masked": ("ZScoreNormalization", True, [{"zscore": "image", "per_channel": True, "nonzero": "filled"}]),
    "RescaleTo01": ("RescaleTo01Normalization", False, [{"minmax": [0, 1], "per_channel": True}]),
    "RGBTo01": ("RGBTo01Normalization", False, [{"scale": [0, 255, 0, 1]}]),
    "none": ("NoNormalization", False, []),
}


@pytest.mark.parametrize("name", SCHEMES)
def test_normalisations(name: str, tmp_path: Path) -> None:
    scheme, masked, steps = SCHEMES[name]
    found = imported(Training(schemes=(scheme,), masked=(masked,)), tmp_path)
    assert found.victim["normalize"] == [{"transpose": [2, 1, 0]}, {"crop": "nonzero"}, *steps]


def test_intensities_under_their_old_name(tmp_path: Path) -> None:
    model = Training().written(tmp_path)
    text = (model / "plans.json").read_text()
    (model / "plans.json").write_text(
        text.replace("foreground_intensity_properties_per_channel", "foreground_intensity_properties_by_modality")
    )
    assert import_nnunet(tmp_path).victim["normalize"][2:] == CT  # type: ignore[index]


AXES: dict[str, tuple[Training, list[int] | None, list[float | None], str | None]] = {
    "SimpleITK": (Training(), [2, 1, 0], [1.0, 1.5, 2.5], None),
    "nibabel": (Training(reader="NibabelIO"), [2, 1, 0], [1.0, 1.5, 2.5], None),
    "reoriented": (Training(reader="NibabelIOWithReorient"), [2, 1, 0], [1.0, 1.5, 2.5], "RAS"),
    "sagittal first": (Training(transpose=(2, 0, 1)), [0, 2, 1], [2.5, 1.0, 1.5], None),
    "as stored": (Training(transpose=(2, 1, 0)), None, [2.5, 1.5, 1.0], None),
    "2d": (FLAT, [2, 1, 0], [1.0, 1.5, None], None),
    "2d, coronal": (replace(FLAT, transpose=(1, 0, 2), reader="NibabelIOWithReorient"), [1, 2, 0], [1.0, None, 1.5], "RAS"),
}


@pytest.mark.parametrize("name", AXES)
def test_axes_spacing_and_orientation(name: str, tmp_path: Path) -> None:
    """(x, y, z) of a stored volume becomes (z, y, x) by nnU-Net's readers, and then what transpose_forward makes of it."""
    training, order, spacing, orientation = AXES[name]
    found = imported(training, tmp_path)
    first = found.victim["normalize"][0]  # type: ignore[index]
    assert first == ({"crop": "nonzero"} if order is None else {"transpose": order})
    stored = np.arange(24).reshape(2, 3, 4)
    read = stored.transpose(2, 1, 0).transpose(training.transpose)
    np.testing.assert_array_equal(stored.transpose(order or [0, 1, 2]), read)
    assert found.preprocess == {"spacing": spacing, **({"orientation": orientation} if orientation else {})}
    assert found.victim.get("slicewise") == (True if len(training.patch) == 2 else None)
    assert any("linearly" in note for note in found.notes)


def test_pictures_keep_their_grid(tmp_path: Path) -> None:
    found = imported(PICTURES, tmp_path)
    assert found.victim["normalize"] == [{"crop": "nonzero"}, {"scale": [0, 255, 0, 1]}]
    assert found.victim["arguments"]["input_channels"] == 3  # type: ignore[index, call-overload]
    assert "slicewise" not in found.victim
    assert (found.preprocess, found.data) == ({}, {"task": "segmentation", "classes": ["organ", "lesion"]})
    turned = imported(replace(PICTURES, transpose=(0, 2, 1)), tmp_path / "turned")
    assert turned.victim["normalize"][0] == {"transpose": [1, 0]}  # type: ignore[index]


def test_labels_are_classes_and_regions_are_masks(tmp_path: Path) -> None:
    labels = imported(Training(labels={"lesion": 2, "background": 0, "organ": [1], "ignore": 3}), tmp_path / "labels")
    assert labels.victim["head"] == "softmax"
    assert labels.data == {"task": "segmentation", "classes": ["organ", "lesion"], "modality": "ct"}
    assert labels.victim["arguments"]["num_classes"] == 3  # type: ignore[index, call-overload]
    assert any("masks hold 3 where nothing is known" in note for note in labels.notes)
    regions = imported(RESIDUAL, tmp_path / "regions")
    assert (regions.victim["head"], regions.victim["network"]) == ("sigmoid", "nnunet:ResidualEncoderUNet")
    assert regions.data["label_map"] == {"whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]}
    assert regions.victim["arguments"]["num_classes"] == 3  # type: ignore[index, call-overload]


def files(found: Imported) -> list[str]:
    weights: Any = found.victim["weights"]
    return ["/".join(Path(each).parts[-2:]) for each in ([weights] if isinstance(weights, str) else weights)]


def test_folds_and_checkpoints(tmp_path: Path) -> None:
    Training(folds=(0, 3, 10, "all")).written(tmp_path)
    final = "checkpoint_final.pth"
    assert files(import_nnunet(tmp_path)) == [f"fold_0/{final}", f"fold_3/{final}", f"fold_10/{final}"]
    assert files(import_nnunet(tmp_path, fold=[10, 0])) == [f"fold_10/{final}", f"fold_0/{final}"]
    assert files(nnunet_victim(tmp_path, {"fold": 3, "checkpoint": "best"}, False)) == ["fold_3/checkpoint_best.pth"]
    assert files(nnunet_victim(tmp_path, {"fold": "all"}, False)) == [f"fold_all/{final}"]
    assert "fold_0, fold_3, fold_10, mean of their logits" in import_nnunet(tmp_path).notes[0]
    Training(folds=("all",)).written(tmp_path / "alone")
    assert files(import_nnunet(tmp_path / "alone")) == [f"fold_all/{final}"]


def test_the_configuration_chooses_among_trainings(tmp_path: Path) -> None:
    Training().written(tmp_path)
    FLAT.written(tmp_path)
    assert import_nnunet(tmp_path, configuration="2d").victim["slicewise"] is True
    assert import_nnunet(tmp_path / "nnUNetTrainer__nnUNetPlans__2d").victim["slicewise"] is True
    with pytest.raises(SpecError, match="holds 2 trained models"):
        import_nnunet(tmp_path)
    with pytest.raises(SpecError, match=r"nothing in .* was trained as configuration '3d_lowres'"):
        import_nnunet(tmp_path, configuration="3d_lowres")
    with pytest.raises(SpecError, match=r"configuration='3d_fullres': .* was trained as '2d'"):
        import_nnunet(tmp_path / "nnUNetTrainer__nnUNetPlans__2d", configuration="3d_fullres")


def test_no_mirroring_and_the_first_fold_speaks_for_all(tmp_path: Path) -> None:
    assert "mirror" not in imported(Training(mirror=None), tmp_path / "none").victim
    assert "mirror" not in imported(Training(mirror=()), tmp_path / "empty").victim
    assert imported(Training(mirror=(0, 1)), tmp_path / "two").victim["mirror"] == [0, 1]


REFUSED: dict[str, tuple[Training, str]] = {
    "cascade": (
        Training(configuration="3d_cascade_fullres", plans={}, checkpoint={}),
        "is the second stage of a cascade: its input is also the answer of '3d_lowres'",
    ),
    "preprocessor": (Training(), "has the preprocessor 'ResEncPreprocessor'; medadv knows DefaultPreprocessor"),
    "normalisation": (Training(schemes=("PercentileNormalization",)), "normalisation 'PercentileNormalization' is none of"),
    "reader": (Training(reader="Tiff3DIO"), "reader 'Tiff3DIO' is none of SimpleITKIO"),
    "several volumes": (
        Training(channels={"0": "T1", "1": "T2"}, schemes=("ZScoreNormalization",) * 2, masked=(True, True)),
        "takes 2 channels of a volume",
    ),
    "label manager": (Training(plans={"label_manager": "OtherManager"}), "label manager 'OtherManager'"),
    "trainer with another norm": (
        Training(trainer="nnUNetTrainerBN", kwargs={"norm_op": "torch.nn.BatchNorm3d"}),
        "trainer 'nnUNetTrainerBN' built another network than the plans say",
    ),
    "trainer with another network": (Training(trainer="nnUNetTrainerUMambaBot"), "trainer 'nnUNetTrainerUMambaBot' built another network"),
    "network": (Training(), "network 'dynamic_network_architectures.architectures.primus.Primus' is none of PlainConvUNet"),
    "old network": (Training(old=True), "UNet_class_name 'MyUNet' is none of PlainConvUNet, ResidualEncoderUNet"),
    "classes elsewhere": (Training(), "takes a class as 'attention_op'"),
    "pictures of other pixels": (replace(PICTURES, spacing=(1.5, 1.5)), "plans pictures of spacing [1.5, 1.5]"),
    "axes": (Training(plans={"transpose_forward": [0, 0, 2]}), "transpose_forward=[0, 0, 2] is no order of three axes"),
    "no background": (Training(dataset={"labels": {"organ": 1, "lesion": 2, "other": 3}}), "labels name no background"),
    "gaps": (Training(dataset={"labels": {"background": 0, "organ": 1, "lesion": 3}}), "not numbered 0, 1, 2"),
    "regions without order": (replace(RESIDUAL, order=None), "3 regions need as many entries of regions_class_order"),
    "other lengths": (Training(spacing=(1.0, 1.0)), "patch_size has 3 lengths, spacing 2"),
    "no intensities": (Training(plans={"foreground_intensity_properties_per_channel": {}}), "CTNormalization needs foreground_intensity"),
    "version 1": (Training(plans={"configurations": None}), "no plans.json of nnU-Net version 2: configurations:"),
    "other numbers of channels": (Training(schemes=("NoNormalization",) * 2), "1 channels, but 2 normalization_schemes"),
    "circle": (Training(), "inherits from itself"),
    "no parent": (Training(), "no configuration 'gone'"),
    "no trainer": (Training(checkpoint={"init_args": None}), "is no checkpoint of nnU-Net version 2"),
    "other folds": (Training(folds=(0, 1)), "folds of one victim share a configuration"),
    "infinite": (Training(plans={"foreground_intensity_properties_per_channel": {"0": {**INTENSITIES, "std": "x"}}}), "std"),
}
CHANGES: dict[str, tuple[str, str]] = {
    "cascade": ('"preprocessor_name"', '"previous_stage": "3d_lowres", "preprocessor_name"'),
    "preprocessor": ('"DefaultPreprocessor"', '"ResEncPreprocessor"'),
    "trainer with another norm": ("torch.nn.BatchNorm3d", "torch.nn.InstanceNorm3d"),
    "trainer with another network": ('"features_per_stage": [4,', '"features_per_stage": [8,'),
    "network": ("unet.PlainConvUNet", "primus.Primus"),
    "old network": ('"UNet_class_name": "PlainConvUNet"', '"UNet_class_name": "MyUNet"'),
    "classes elsewhere": ('"conv_op", "norm_op"', '"attention_op", "norm_op"'),
    "circle": ('"preprocessor_name"', '"inherits_from": "3d_fullres", "preprocessor_name"'),
    "no parent": ('"preprocessor_name"', '"inherits_from": "gone", "preprocessor_name"'),
}
"""What is written otherwise in plans.json once the folder is there."""


@pytest.mark.parametrize("name", REFUSED)
def test_what_predicts_otherwise_is_refused_by_name(name: str, tmp_path: Path) -> None:
    training, message = REFUSED[name]
    model = training.written(tmp_path)
    plans = model / "plans.json"
    if name in CHANGES:
        before = plans.read_text()
        after = before.replace(*CHANGES[name])
        assert after != before
        plans.write_text(after.replace('"conv_bias"', '"attention_op": "a.B", "conv_bias"') if name == "classes elsewhere" else after)
    if name == "other folds":
        file = model / "fold_1" / "checkpoint_final.pth"
        content = read_checkpoint(file)
        torch.save({**content, "init_args": {"configuration": "2d"}}, file)
    with pytest.raises(SpecError, match=re.escape(message)) as caught:
        import_nnunet(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"fold": 7}, "fold 7 has no checkpoint_final.pth in"),
        ({"fold": [0, 0]}, "names a fold twice"),
        ({"fold": []}, "fold=[] is a number, a list of numbers, or 'all'"),
        ({"fold": 0.5}, "fold=0.5 is a number"),
        ({"fold": [0, None]}, "fold=[0, None] is a number"),
        ({"fold": True}, "fold=True is a number"),
        ({"checkpoint": "latest"}, "there is no checkpoint_latest.pth in"),
        ({"checkpoint": "../checkpoint_final.pth"}, "is neither final, best, latest nor the name of a file"),
        ({"checkpoint": 3}, "are names, such as 3d_fullres and final"),
    ],
)
def test_what_is_asked_for_has_to_be_there(own: dict[str, Any], message: str, tmp_path: Path) -> None:
    Training().written(tmp_path)
    with pytest.raises(SpecError, match=re.escape(message)):
        nnunet_victim(tmp_path, own, False)


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"holds no plans.json, and no folder with one"):
        import_nnunet(tmp_path)
    model = Training().written(tmp_path)
    (model / "dataset.json").unlink()
    with pytest.raises(SpecError, match=r"holds no dataset.json"):
        import_nnunet(tmp_path)
    (model / "plans.json").write_text("{")
    with pytest.raises(SpecError, match=r"no plans.json of nnU-Net version 2: is no JSON"):
        import_nnunet(tmp_path)


def test_without_the_package_the_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Training().written(tmp_path)
    monkeypatch.setitem(sys.modules, "dynamic_network_architectures.architectures.unet", None)
    with pytest.raises(SpecError, match=re.escape("pip install 'medadv[nnunet]'")):
        import_nnunet(tmp_path)


@pytest.mark.parametrize(("trusted", "installed"), [(True, True), (True, False), (False, True)])
def test_nnu_net_itself_is_asked_where_it_is_installed_and_trusted(
    trusted: bool, installed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own loading unpickles. What it answers `scripts/check_nnunet.py` shows."""
    Training().written(tmp_path)
    monkeypatch.setattr("medadv.victims.importers.nnunet.is_installed", lambda: installed)
    assert (nnunet_victim(tmp_path, {}, trusted).original is not None) == (trusted and installed)
