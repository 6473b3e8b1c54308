"""Bundles answer here what MONAI's own parser, transforms, inferer and network do. `scripts/check_bundles.py` tries those of the Zoo."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.victims import small_bundles as small
from tests.victims.bundle_reference import (
    medadv_answer,
    monai_answer,
    off,
    write_picture,
    write_volume,
    write_weights,
)

from medadv.common.errors import SpecError
from medadv.victims.importers.bundle import import_bundle

pytestmark = pytest.mark.filterwarnings("ignore")
TOLERANCE = 1e-5
VOLUMES: dict[str, tuple[Callable[[], small.Config], str, tuple[int, int, int], tuple[float, float, float]]] = {
    "windows": (small.spleen, "inference.json", (20, 18, 17), (1.5, 1.5, 2.0)),
    "windows of small images": (small.spleen, "inference.yaml", (12, 18, 9), (1.5, 1.5, 2.0)),
    "z-score of nonzero, replicate": (small.whole_body, "inference.json", (20, 12, 17), (1.5, 1.5, 1.5)),
    "min-max, no windows": (small.template, "inference.yaml", (16, 12, 8), (1.0, 1.0, 1.0)),
    "cropped": (small.cropped, "inference.yaml", (24, 18, 17), (1.5, 1.5, 2.0)),
    "cropped to what is positive": (small.cropped_early, "inference.json", (24, 26, 20), (1.5, 1.5, 1.5)),
    "old argument": (small.swin, "inference.json", (48, 32, 32), (1.5, 1.5, 2.0)),
    "searched topology": (small.searched, "inference.yaml", (20, 16, 16), (1.5, 1.5, 2.0)),
    "slices": (small.slices, "inference.json", (20, 18, 5), (1.0, 1.0, 1.0)),
}


@pytest.mark.parametrize("name", VOLUMES)
def test_a_bundle_for_volumes_answers_what_monai_answers(name: str, tmp_path: Path) -> None:
    config, file, shape, spacing = VOLUMES[name]
    bundle = small.write_bundle(tmp_path, config(), name=file)
    write_weights(bundle, file)
    image = write_volume(tmp_path / "image.nii.gz", shape, spacing)
    expected = monai_answer(bundle, file, tmp_path / "image.nii.gz")
    found, imported, _ = medadv_answer(bundle, file, image)
    logits = found.logits.permute(0, 1, 3, 4, 2) if config is small.slices else found.logits
    assert off(logits, expected.logits) <= TOLERANCE
    assert imported.preprocess.get("orientation") == (None if config is small.template else "RAS")


@pytest.mark.parametrize(
    ("config", "form", "task"), [(small.in_body, "classes", "classification"), (small.tool, "segmentation", "segmentation")]
)
def test_a_bundle_for_pictures_is_shown_them_x_first(config: Callable[[], small.Config], form: str, task: str, tmp_path: Path) -> None:
    bundle = small.write_bundle(tmp_path, config(), small.metadata(small.RGB, form, ["a", "b"]))
    write_weights(bundle, "inference.json")
    image = write_picture(tmp_path / "image.png", 40, 72)
    expected = monai_answer(bundle, "inference.json", tmp_path / "image.png")
    found, imported, module = medadv_answer(bundle, "inference.json", image)
    assert off(found.inputs, expected.inputs) <= TOLERANCE
    assert off(found.logits, expected.logits) <= TOLERANCE
    assert (imported.data["task"], imported.data["modality"]) == (task, "endoscopy")
    size: Any = imported.preprocess["size"]
    # Stored at the network's own size, resizing does nothing, and answers lie where the picture's pixels do.
    same = write_picture(tmp_path / "same.png", *size)
    if task == "segmentation":
        with torch.no_grad():
            answers = module(same[None])
        assert off(answers, monai_answer(bundle, "inference.json", tmp_path / "same.png").logits.transpose(2, 3)) <= TOLERANCE


@pytest.mark.parametrize("shape", [(12, 16, 7), (20, 16, 8)], ids=["whole", "windows"])
def test_a_detector_is_set_up_by_its_setters(shape: tuple[int, int, int], tmp_path: Path) -> None:
    """Its windows are for images of more voxels than one of them has."""
    bundle = small.write_bundle(tmp_path, small.nodules())
    write_weights(bundle, "inference.json")
    image = write_volume(tmp_path / "image.nii.gz", shape, (1.0, 1.0, 1.0))
    expected = monai_answer(bundle, "inference.json", tmp_path / "image.nii.gz")
    found, imported, _ = medadv_answer(bundle, "inference.json", image)
    assert imported.data == {"task": "detection", "modality": "ct"}
    assert [imported.victim[key] for key in ("window", "overlap", "window_batch")] == [[16, 16, 8], 0.25, 1]
    assert len(expected.logits) > 5
    assert off(found.inputs, expected.inputs) == 0
    assert off(found.logits, expected.logits) <= TOLERANCE


def test_weights_that_are_named_and_missing_are_replaced_by_no_others(tmp_path: Path) -> None:
    config = {**small.spleen(), "checkpointloader": {**small.LOADER, "load_path": "$@bundle_root + '/models/best.pt'"}}
    bundle = small.write_bundle(tmp_path, config)
    (bundle / "models" / "model.pt").touch()
    found = import_bundle(bundle, False)
    assert found.victim["weights"] == str(bundle / "models" / "best.pt")
    assert any(note.startswith("weights models/best.pt are not in the bundle") for note in found.notes)


def test_weights_without_a_loader_have_a_usual_name(tmp_path: Path) -> None:
    bundle = small.write_bundle(tmp_path, {**small.spleen(), "checkpointloader": None})
    (bundle / "models" / "model_final.pt").touch()
    assert import_bundle(bundle, False).victim["weights"] == str(bundle / "models" / "model_final.pt")


def test_a_loader_that_is_switched_off_names_no_weights_beside_another(tmp_path: Path) -> None:
    off = {**small.LOADER, "load_path": "$@bundle_root + '/models/old.pt'", "_disabled_": True}
    bundle = small.write_bundle(tmp_path, {"first_loader": off, **small.spleen()})
    (bundle / "models" / "old.pt").touch()
    assert import_bundle(bundle, False).victim["weights"] == str(bundle / "models" / "model.pt")


PLACED: dict[str, str] = {
    "mean and deviation": "$monai.transforms.NormalizeIntensityd(['image'], 0.5, 0.25)",
    "nonzero": "$monai.transforms.NormalizeIntensityd('image', None, None, True)",
    "range": "$monai.transforms.ScaleIntensityd('image', -1.0, 1.0)",
    "window": "$monai.transforms.ScaleIntensityRanged('image', -57, 164, 0, 1, True)",
    "spacing": "$monai.transforms.Spacingd('image', [3.0, 1.5, 2.0])",
}


@pytest.mark.parametrize("name", PLACED)
def test_arguments_by_place_are_those_of_monai(name: str, tmp_path: Path) -> None:
    config = {**small.spleen(), "preprocessing": small.compose(*small.LOAD, PLACED[name]), "inferer": {"_target_": "SimpleInferer"}}
    config["imports"].append("$import monai")
    bundle = small.write_bundle(tmp_path, config)
    write_weights(bundle, "inference.json")
    image = write_volume(tmp_path / "image.nii.gz", (12, 16, 8), (3.0, 1.5, 2.0))
    expected = monai_answer(bundle, "inference.json", tmp_path / "image.nii.gz")
    found, imported, _ = medadv_answer(bundle, "inference.json", image)
    assert off(found.inputs, expected.inputs) <= TOLERANCE
    assert imported.preprocess.get("spacing") == ([3.0, 1.5, 2.0] if name == "spacing" else None)


def test_a_slice_inferer_takes_its_axis_by_place(tmp_path: Path) -> None:
    config = {**small.slices(), "inferer": "$monai.inferers.SliceInferer(2, roi_size=[16, 16], overlap=0.25)"}
    config["imports"].append("$import monai")
    bundle = small.write_bundle(tmp_path, config)
    write_weights(bundle, "inference.json")
    image = write_volume(tmp_path / "image.nii.gz", (20, 18, 5), (1.0, 1.0, 1.0))
    expected = monai_answer(bundle, "inference.json", tmp_path / "image.nii.gz")
    found, _, _ = medadv_answer(bundle, "inference.json", image)
    assert off(found.logits.permute(0, 1, 3, 4, 2), expected.logits) <= TOLERANCE


def test_a_head_by_place(tmp_path: Path) -> None:
    after = "$monai.transforms.Compose([scripts.transforms.Halved('pred'), monai.transforms.Activationsd('pred', True)])"
    config = {**small.spleen(), "network_def": small.unet(3, 1, 3), "postprocessing": after}
    config["imports"] += ["$import monai", "$import scripts"]
    assert import_bundle(small.write_bundle(tmp_path, config), False).victim["head"] == "sigmoid"


UNBOUND: dict[str, tuple[str, str]] = {
    "own code": ("$scripts.transforms.Halved('image')", "::3: scripts.transforms.Halved is given arguments by their place"),
    "stand-in": ("$monai.utils.module.nothing.Here('image')", "monai.utils.module.nothing.Here is given arguments by their place"),
    "too many": ("$monai.transforms.Flipd('image', 0, False, False, 1)", "monai.transforms.Flipd is given arguments by their place"),
    "twice": ("$monai.transforms.Flipd('image', 0, spatial_axis=1)", "Flipd is given spatial_axis by its place and by its name"),
}


@pytest.mark.parametrize("name", UNBOUND)
def test_arguments_by_place_without_known_names_are_refused(name: str, tmp_path: Path) -> None:
    transform, said = UNBOUND[name]
    config = {**small.spleen(), "preprocessing": small.compose(*small.LOAD, transform)}
    config["imports"].append("$import scripts")
    for trust in (False, True):
        with pytest.raises(SpecError) as caught:
            import_bundle(small.write_bundle(tmp_path, config), trust)
        assert said in str(caught.value)


NAMESAKES: dict[str, tuple[Callable[[], small.Config], tuple[Any, ...], Any, str]] = {
    "detector": (small.nodules, ("detector", "_target_"), "scripts.net.RetinaNetDetector", "detector is none of MONAI's RetinaNetDetector"),
    "its network": (small.nodules, ("network_def", "_target_"), "scripts.net.RetinaNet", "detector::network is no RetinaNet"),
    "its backbone": (
        small.nodules,
        ("backbone",),
        "$scripts.net.resnet10(spatial_dims=3,n_input_channels=1)",
        "backbone is none of resnet10",
    ),
    "windows": (
        small.spleen,
        ("inferer", "_target_"),
        "scripts.inferer.SlidingWindowInferer",
        "SlidingWindowInferer, the bundle's own code",
    ),
    "whole": (small.template, ("inferer", "_target_"), "scripts.inferer.SimpleInferer", "SimpleInferer, the bundle's own code"),
    "chain": (
        small.spleen,
        ("preprocessing", "_target_"),
        "scripts.transforms.Compose",
        "scripts.transforms.Compose, the bundle's own code",
    ),
    "search": (small.searched, ("network_def", "_target_"), "scripts.net.DiNTS", "scripts.net.DiNTS, the bundle's own code"),
    "topology": (small.searched, ("dints_space", "_target_"), "scripts.net.TopologyInstance", "is no TopologyInstance"),
    "reader": (
        small.template,
        ("transforms", 0, "reader"),
        "scripts.data.ITKReader",
        "with the reader scripts.data.ITKReader, none of MONAI's",
    ),
    "one of the readers": (small.template, ("transforms", 0, "reader"), ["ITKReader", "$scripts.data.NumpyReader"], "none of MONAI's"),
}


@pytest.mark.parametrize("name", NAMESAKES)
def test_code_of_a_bundle_is_not_monais_of_the_same_name(name: str, tmp_path: Path) -> None:
    build, (*outer, last), value, said = NAMESAKES[name]
    config: Any = build()
    config["imports"].append("$import scripts")
    place = config
    for key in outer:
        place = place[key]
    place[last] = value
    with pytest.raises(SpecError) as caught:
        import_bundle(small.write_bundle(tmp_path, config), False)
    assert said in str(caught.value)


def test_monais_readers_may_be_named_in_any_way(tmp_path: Path) -> None:
    config: Any = small.template()
    config["transforms"][0]["reader"] = ["$monai.data.ITKReader", "monai.data.NumpyReader", {"_target_": "PydicomReader"}]
    assert import_bundle(small.write_bundle(tmp_path, config), False).victim["normalize"]


def test_a_training_configuration_says_what_it_validates_with(tmp_path: Path) -> None:
    bundle = small.write_bundle(tmp_path, small.trained(), name="train.json")
    found = import_bundle(bundle, False)
    assert found.victim["window"] == [16, 16, 16]
    assert found.victim["overlap"] == 0.5
    assert found.victim["normalize"] == [{"scale": [-57, 164, 0, 1], "clip": True}]


def test_an_editor_without_clicks_has_empty_channels(tmp_path: Path) -> None:
    bundle = small.write_bundle(tmp_path, small.clicked())
    with pytest.raises(SpecError, match=r"clicks::0 is scripts\.transforms\.TurnClicksd, the bundle's own code: allow running"):
        import_bundle(bundle, False)
    write_weights(bundle, "inference.json")
    image = write_volume(tmp_path / "image.nii.gz", (20, 18, 12), (1.0, 1.0, 1.0))
    expected = monai_answer(bundle, "inference.json", tmp_path / "image.nii.gz")
    found, imported, _ = medadv_answer(bundle, "inference.json", image, trust_code=True)
    assert off(found.inputs, expected.inputs) <= TOLERANCE
    assert off(found.logits, expected.logits) <= TOLERANCE
    assert any("clicks: none" in note for note in imported.notes)


def test_own_code_that_changes_images_is_refused_though_it_is_trusted(tmp_path: Path) -> None:
    config = small.spleen()
    config["preprocessing"]["transforms"].append(small.on_image("scripts.transforms.Halved"))
    bundle = small.write_bundle(tmp_path, config)
    with pytest.raises(SpecError, match=r"Halved, the bundle's own code, and it changes the image"):
        import_bundle(bundle, True)


def test_a_network_of_the_bundles_own_code_needs_trust(tmp_path: Path) -> None:
    bundle = small.write_bundle(tmp_path, small.own_network())
    with pytest.raises(SpecError, match=r"inference\.json: network_def is scripts\.networks\.small\.Small, the bundle's own code: allow"):
        import_bundle(bundle, False)
    write_weights(bundle, "inference.json")
    image = write_volume(tmp_path / "image.nii.gz", (20, 18, 17), (1.5, 1.5, 2.0))
    found, imported, _ = medadv_answer(bundle, "inference.json", image, trust_code=True)
    assert (imported.victim["network"], imported.victim["code"]) == ("python:scripts.networks.small:Small", str(bundle))
    assert off(found.logits, monai_answer(bundle, "inference.json", tmp_path / "image.nii.gz").logits) <= TOLERANCE


def test_a_network_without_a_word_is_taken_as_torchscript_where_it_is_there(tmp_path: Path) -> None:
    bundle = small.write_bundle(tmp_path, small.own_network())
    network = torch.nn.Conv3d(1, 2, 3, padding=1)
    torch.jit.trace(network, torch.zeros(1, 1, 16, 16, 16)).save(str(bundle / "models" / "model.ts"))
    found = import_bundle(bundle, False)
    assert found.victim["network"] == str(bundle / "models" / "model.ts")
    assert "weights" not in found.victim
    assert any("model.ts is taken" in note for note in found.notes)


def test_several_images_in_one_input_are_refused_with_the_reason(tmp_path: Path) -> None:
    bundle = small.write_bundle(tmp_path, small.phases())
    for trust in (False, True):
        with pytest.raises(SpecError, match=r"3 images of a patient \(artery, vein, late\), and a sample here is one image"):
            import_bundle(bundle, trust)


def test_prompts_of_vista_are_arguments(tmp_path: Path) -> None:
    """The network itself is large: `scripts/check_bundles.py` compares it."""
    config = small.common(
        input_dict="${'image': '/data/spleen_10.nii.gz', 'label_prompt': [3, 20]}",
        subclass={"20": [28, 29], "21": "$list(range(33, 57)) + [114]"},
        network_def="$monai.networks.nets.vista3d132(in_channels=1)",
        preprocessing=small.compose(
            *small.LOAD, small.on_image("CropForegroundd", allow_smaller=True, margin=10, source_key="@image_key"), small.WINDOW
        ),
        inferer={"_target_": "scripts.inferer.Vista3dInferer", "roi_size": [16, 16, 16], "overlap": 0.3},
    )
    bundle = small.write_bundle(tmp_path, config)
    with pytest.raises(SpecError, match=r"inferer is scripts\.inferer\.Vista3dInferer, the bundle's own code: allow"):
        import_bundle(bundle, False)
    victim: Any = import_bundle(bundle, True).victim
    assert (victim["network"], victim["arguments"]) == ("monai:vista3d132", {"in_channels": 1, "label_prompt": [3, 28, 29]})
    assert victim["normalize"][0] == {"crop": "positive", "margin": 10}
    assert victim["head"] == "sigmoid"
    assert victim["overlap"] == 0.25


REFUSED: dict[str, tuple[small.Config, str]] = {
    "percentiles": (small.on_image("ScaleIntensityRangePercentilesd", lower=1, upper=99, b_min=0, b_max=1), "which has no word in a spec"),
    "function": (small.on_image("Lambdad", func="$lambda x: x / 2"), "Lambdad, which has no word in a spec"),
    "open range": (small.on_image("ScaleIntensityRanged", a_min=0, a_max=1), "without b_min and b_max"),
    "factor": (small.on_image("ScaleIntensityd", factor=0.1), "with a factor"),
    "whole numbers": (small.on_image("CastToTyped", dtype="$torch.int16"), "CastToTyped to torch.int16"),
    "size by the longest side": (small.on_image("Resized", spatial_size=16, size_mode="longest"), "Resized to"),
    "cubic": (small.on_image("Resized", spatial_size=[16, 16, 16], mode="bicubic"), "with mode bicubic"),
    "larger than windows": (small.on_image("SpatialPadd", spatial_size=[32, 16, 16]), "without windows of at least that size"),
    "reflected": (small.on_image("SpatialPadd", spatial_size=[16, 16, 16], mode="reflect"), "with choices of its own"),
    "crop by another image": (small.on_image("CropForegroundd", source_key="label"), "with a choice of its own"),
    "padding margin": (small.on_image("CropForegroundd", source_key="image", margin=3), "a margin that pads"),
    "orientation behind": (small.on_image("Orientationd", axcodes="LPS"), ""),
    "random": (small.on_image("RandFlipd", prob=0.5), "RandFlipd, which has no word in a spec"),
    "spacing from": (
        small.on_image("Spacingd", pixdim=[1.5] * 3, min_pixdim=[1.0] * 3),
        "Spacingd with min_pixdim=[1.0, 1.0, 1.0], which has",
    ),
    "spacing up to": (small.on_image("Spacingd", pixdim=[1.5] * 3, max_pixdim=[3.0] * 3), "Spacingd with max_pixdim="),
    "turned": (small.on_image("Spacingd", pixdim=[1.5] * 3, diagonal=True), "Spacingd with diagonal=True"),
    "outer faces": (small.on_image("Spacingd", pixdim=[1.5] * 3, scale_extent=[True]), "Spacingd with scale_extent=[True]"),
    "whole numbers by key": (small.on_image("CastToTyped", dtype=["$torch.uint8"]), "CastToTyped to torch.uint8"),
    "whole numbers made sure": (small.on_image("EnsureTyped", dtype="$torch.uint8"), "EnsureTyped to torch.uint8"),
    "whole numbers scaled": (small.on_image("ScaleIntensityd", dtype="$torch.int32"), "ScaleIntensityd to torch.int32"),
    "converter": (small.on_image("LoadImaged", converter="$lambda im: im"), "LoadImaged with converter=what cannot be read"),
    "reader's own": (
        small.on_image("LoadImaged", reader={"_target_": "PILReader", "converter": "$abs"}),
        "with converter of its PILReader",
    ),
    "another reader's": (small.on_image("LoadImaged", affine_lps_to_ras=False), "LoadImaged with affine_lps_to_ras=False"),
    "smoothed": (small.on_image("Resized", spatial_size=[16] * 3, anti_aliasing=True), "Resized with anti_aliasing=True"),
    "other letters": (
        small.on_image("Orientationd", axcodes="RAS", labels=[["R", "L"], ["A", "P"], ["I", "S"]]),
        "Orientationd with labels=",
    ),
    "unheard of": (small.on_image("Flipd", spatial_axis=0, prob=0.5), "Flipd with prob=0.5"),
    "short floats": (small.on_image("CastToTyped", dtype="$torch.float16"), "CastToTyped to torch.float16"),
    "short floats by text": (small.on_image("EnsureTyped", dtype="float16"), "EnsureTyped to float16"),
    "short floats by key": (small.on_image("EnsureTyped", dtype=["$numpy.float16"]), "EnsureTyped to numpy.float16"),
    "other short floats": (small.on_image("ToTensord", dtype="$torch.float8_e5m2"), "ToTensord to torch.float8_e5m2"),
    "one axis's spacing": (small.on_image("Spacingd", pixdim=[1.0, 1.0, -1.0]), "three lengths above 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_transform_without_a_word_is_named(name: str, tmp_path: Path) -> None:
    transform, said = REFUSED[name]
    config = small.spleen()
    config["preprocessing"] = small.compose(*small.LOAD, small.WINDOW, transform)
    bundle = small.write_bundle(tmp_path, config)
    if not said:
        assert import_bundle(bundle, False).preprocess == {"orientation": "LPS"}
        return
    with pytest.raises(SpecError) as caught:
        import_bundle(bundle, False)
    assert said in str(caught.value)


RESIZED = small.on_image("Resized", spatial_size=[16, 16, 16], mode="nearest")
LAZY_SPACING = {**small.SPACING, "lazy": True}
LAZY: dict[str, tuple[list[small.Config], small.Config, str]] = {
    "sizes": ([RESIZED], {"lazy": True}, "preprocessing is Compose with lazy=True, by which Resized resamples in another way"),
    "padding": ([small.SPACING, small.on_image("SpatialPadd", spatial_size=[16] * 3)], {"lazy": True}, "by which SpatialPadd resamples"),
    "as transforms say": ([LAZY_SPACING, RESIZED], {"lazy": None}, "with lazy=True, by which Resized"),
    "other arguments": ([small.SPACING], {"lazy": True, "overrides": {"image": {"mode": "nearest"}}}, "with lazy=True and overrides"),
    "not known": ([small.SPACING], {"lazy": "$[i for i in [1]]"}, "preprocessing::lazy: holds a list that is computed"),
}


@pytest.mark.parametrize("name", LAZY)
def test_a_chain_that_resamples_in_another_way_is_refused(name: str, tmp_path: Path) -> None:
    transforms, arguments, said = LAZY[name]
    config = {**small.spleen(), "preprocessing": {**small.compose(*small.LOAD, *transforms), **arguments}}
    with pytest.raises(SpecError) as caught:
        import_bundle(small.write_bundle(tmp_path, config), False)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("transforms", "arguments"),
    [
        ([small.SPACING, small.WINDOW], {"lazy": True}),
        ([small.SPACING, small.WINDOW], {"lazy": None, "overrides": {"image": {"mode": "nearest"}}}),
        ([LAZY_SPACING, small.WINDOW, RESIZED], {"overrides": {"image": {"mode": "nearest"}}}),
        ([small.WINDOW, {**small.compose(small.SPACING, RESIZED), "lazy": True}], {}),
        ([small.on_image("Flipd", spatial_axis=0), small.WINDOW], {"lazy": True}),
    ],
    ids=["spacing", "nothing lazy", "not asked", "inner chain", "flip"],
)
def test_a_chain_whose_laziness_changes_nothing_is_taken(transforms: list[small.Config], arguments: small.Config, tmp_path: Path) -> None:
    config = {**small.spleen(), "preprocessing": {**small.compose(*small.LOAD, *transforms), **arguments}}
    bundle = small.write_bundle(tmp_path, config)
    write_weights(bundle, "inference.json")
    image = write_volume(tmp_path / "image.nii.gz", (20, 18, 17), (1.5, 1.5, 2.0))
    expected = monai_answer(bundle, "inference.json", tmp_path / "image.nii.gz")
    found, _, _ = medadv_answer(bundle, "inference.json", image)
    assert off(found.inputs, expected.inputs) <= TOLERANCE


def test_a_volume_that_is_resampled_twice_is_refused(tmp_path: Path) -> None:
    """The first spacing is another image; the last alone was heeded."""
    config = small.spleen()
    config["preprocessing"] = small.compose(*small.LOAD, small.on_image("Spacingd", pixdim=[3.0] * 3), small.SPACING)
    with pytest.raises(SpecError, match=r"preprocessing::transforms::4: Spacingd behind one of another pixdim"):
        import_bundle(small.write_bundle(tmp_path, config), False)


def test_arguments_that_say_what_monai_does_anyway_are_taken(tmp_path: Path) -> None:
    usual = {"padding_mode": "border", "diagonal": [False], "min_pixdim": None, "align_corners": True, "dtype": "$numpy.float64"}
    transforms = (
        small.on_image("LoadImaged", reader="ITKReader", affine_lps_to_ras=True, image_only=False, dtype="$numpy.float32"),
        small.on_image("EnsureChannelFirstd", allow_missing_keys=True),
        small.on_image("Spacingd", pixdim=[1.5] * 3, **usual),
        {"_target_": "CastToTyped", "keys": ["label", "@image_key"], "dtype": ["$torch.uint8", "$torch.float32"]},
        small.on_image("EnsureTyped", device="@device", track_meta=False, dtype="$(numpy.float32, numpy.int32)"),
        small.on_image("ScaleIntensityd", allow_missing_keys=True, dtype=None),
    )
    bundle = small.write_bundle(tmp_path, {**small.spleen(), "preprocessing": small.compose(*transforms)})
    found = import_bundle(bundle, False)
    assert found.victim["normalize"] == [{"minmax": [0.0, 1.0]}]
    assert found.preprocess == {"spacing": [1.5, 1.5, 1.5]}


def test_pictures_may_be_read_as_levels(tmp_path: Path) -> None:
    """They are whole numbers; those of a volume may exceed them."""
    config = small.tool()
    config["preprocessing"]["transforms"][0]["dtype"] = "$torch.uint8"
    pictures = small.write_bundle(tmp_path / "pictures", config, small.metadata(small.RGB, "segmentation", ["a", "b"]))
    assert import_bundle(pictures, False).victim["normalize"]
    config = small.spleen()
    config["preprocessing"]["transforms"][0] = small.on_image("LoadImaged", dtype="$torch.uint8")
    with pytest.raises(SpecError, match=r"LoadImaged to torch\.uint8"):
        import_bundle(small.write_bundle(tmp_path / "volumes", config), False)


@pytest.mark.parametrize(
    ("inferer", "said"),
    [
        (small.sliding(roi_size=[-1, 16, 16]), "roi_size=[-1, 16, 16]"),
        (small.sliding(padding_mode="reflect"), "padding_mode='reflect'"),
        (small.sliding(cval=-1), "cval=-1"),
        (small.sliding(mode="gaussian", sigma_scale=0.5), "sigma_scale=0.5"),
        ({"_target_": "PatchInferer"}, "PatchInferer, which has no word in a spec"),
        ({"_target_": "scripts.inferer.DetectionInferer"}, "the bundle's own code"),
    ],
)
def test_an_inferer_without_a_word_is_named(inferer: small.Config, said: str, tmp_path: Path) -> None:
    bundle = small.write_bundle(tmp_path, {**small.spleen(), "inferer": inferer})
    with pytest.raises(SpecError) as caught:
        import_bundle(bundle, False)
    assert said in str(caught.value)
