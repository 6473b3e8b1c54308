"""A corpus through every kind of input step and output form: it verifies, and a stranger makes it again from manifest and weights alone."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tests.conftest import draw_pictures, quiet, save_victim, tiny_spec
from tests.run.test_tasks import chest, segmentation_spec
from torch import nn

from medadv.attacks.smoothing import axis_kernels
from medadv.attacks.terms import loss_terms
from medadv.common.errors import SpecError
from medadv.corpus.manifest import Manifest
from medadv.evidence.reproduce import reproduce
from medadv.evidence.verify import verify
from medadv.prepare.request import Options
from medadv.report.page import write_report
from medadv.run.run import run
from medadv.spec.attack import AttackSettings
from medadv.spec.reading import load_spec
from medadv.victims.loading import VictimRequest
from medadv.victims.sources.registry import build_network
from medadv_transforms.units import LATTICES

pytestmark = pytest.mark.usefixtures("inline")

UNET: dict[str, Any] = {"in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2]}
WINDOWED = {"window": [16, 16, 8], "overlap": 0.5, "window_mode": "gaussian"}
PIPELINES: dict[str, tuple[int, dict[str, Any], dict[str, Any]]] = {
    "windows as channels, resized": (
        2,
        {"normalize": [{"windows": [[-1000, 400], [-160, 240]]}, {"resize": [24, 24]}]},
        {"in_channels": 2},
    ),
    "z-score of nonzero, padded windows": (
        3,
        {
            "normalize": [{"zscore": "image", "nonzero": True}, {"transpose": [2, 0, 1]}],
            **WINDOWED,
            "window": [12, 16, 16],
            "window_padding": "replicate",
        },
        {},
    ),
    "cropped, members, mirrored, as nnU-Net": (
        3,
        {
            "normalize": [{"crop": "nonzero"}, {"clip": [-1000, 400]}, {"zscore": {"mean": [-300.0], "std": [350.0]}}],
            **WINDOWED,
            "window_batch": 1,
            "window_places": "nnunet",
            "mirror": [0, 1],
            "weights": ["a.safetensors", "b.safetensors"],
        },
        {},
    ),
    "slice by slice, with neighbours": (
        3,
        {
            "normalize": [{"transpose": [2, 0, 1]}, {"minmax": [0, 1]}, {"channels": {"slab": 3}}],
            "slicewise": True,
            "window": [16, 16],
            "overlap": 0.25,
        },
        {"spatial_dims": 2, "in_channels": 3},
    ),
    "flipped, repeated, with empty channels": (
        2,
        {
            "normalize": [
                {"identity": True},
                {"flip": [0]},
                {"channels": {"repeat": 2}},
                {"channels": {"zeros": 1}},
                {"scale": [0, 500, 0, 1]},
            ]
        },
        {"in_channels": 3},
    ),
    "one of several outputs": (
        2,
        {"network": "monai:BasicUNetPlusPlus", "output": 0, "normalize": [{"window": [-1000, 400]}]},
        {"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "features": [8, 8, 8, 8, 8, 8]},
    ),
    "one value for two classes": (2, {"normalize": [{"scale": [-1000, 400, -1, 1], "clip": True}], "head": "binary"}, {"out_channels": 1}),
}


def spec_of(folder: Path, name: str) -> tuple[Path, list[Path]]:
    """A spec with the pipeline, and the files of its weights."""
    dims, victim, arguments = PIPELINES[name]
    chest(folder / "data", (32, 32, 8))
    path = segmentation_spec(folder, dims)
    spec = yaml.safe_load(path.read_text())
    spec["victim"] |= victim
    spec["victim"]["arguments"] = arguments if "network" in victim else {**spec["victim"]["arguments"], **arguments}
    files = spec["victim"]["weights"]
    files = [files] if isinstance(files, str) else files
    for seed, file in enumerate(files):
        save_victim(folder / file, spec["victim"]["network"], spec["victim"]["arguments"], seed)
    path.write_text(yaml.safe_dump(spec))
    return path, [folder / file for file in files]


def made_again(path: Path, weights: list[Path], elsewhere: Path) -> Manifest:
    """The manifest of a corpus of this spec, which verified, and which a stranger made again bit for bit."""
    result = run(path, Options(), quiet)
    assert result.exit_code == 0
    assert verify(result.corpus) == []
    published = Path(shutil.copytree(result.corpus, elsewhere / "published", ignore=shutil.ignore_patterns(".medadv")))
    assert [each.name for each in published.iterdir() if each.name == ".medadv"] == []
    found = reproduce(published, None, weights=weights)
    assert found.equal
    assert len(found.results) == result.manifest.samples * len(result.manifest.attacks)
    assert run(path, Options(), quiet).new_shards == 0
    return result.manifest


@pytest.mark.parametrize("name", PIPELINES)
def test_the_objectives_gradient_is_that_of_finite_differences(name: str, tmp_path: Path) -> None:
    """In double precision, at the voxels of steepest slope, away from ties and bounds: both terms of the attack, through everything."""
    path, _ = spec_of(tmp_path, name)
    spec = load_spec(path)
    shape = (1, 32, 32, 8)[: 1 + PIPELINES[name][0]]
    victim = VictimRequest(spec.victim, "segmentation", tmp_path, x_first=True).load(torch.device("cpu"), shape)
    objective = victim.scored.on(victim.scored.module.double())
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((1, *shape), generator=generator, dtype=torch.float64) * 900 - 700.5
    truth = torch.randint(0, 2, (1, *shape[1:]), generator=generator, dtype=torch.uint8)
    settings = AttackSettings(attack="smia", epsilon=30, step=10, steps=2, loss="dice_ce")
    kernels = axis_kernels(settings.sigma, settings.kernel_size, None, len(shape) - 1)

    def value(delta: torch.Tensor) -> torch.Tensor:
        deviation, divergence, _ = loss_terms(objective, image, delta, truth, settings, LATTICES["hu"], kernels, None)
        assert divergence is not None
        return (deviation - settings.weight * divergence).sum()

    delta = torch.rand(image.shape, generator=generator, dtype=torch.float64).sub(0.5).mul(40).requires_grad_()
    (gradient,) = torch.autograd.grad(value(delta), delta)
    assert gradient.abs().max() > 0
    for place in gradient.abs().flatten().topk(5).indices:
        step = torch.zeros(image.numel(), dtype=torch.float64)
        step[place] = 1e-3
        step = step.view(image.shape)
        slope = (value(delta.detach() + step) - value(delta.detach() - step)) / 2e-3
        assert float(gradient.flatten()[place]) == pytest.approx(float(slope.detach()), rel=1e-4)


@pytest.mark.parametrize("name", PIPELINES)
def test_a_corpus_of_every_pipeline_is_made_again_by_a_stranger(name: str, tmp_path: Path) -> None:
    path, weights = spec_of(tmp_path, name)
    manifest = made_again(path, weights, tmp_path / "elsewhere")
    # What a reader of the report is told of the input: every step by its name.
    page = write_report(tmp_path / "corpus").read_text()
    for step in PIPELINES[name][1]["normalize"]:
        assert f"{next(iter(step))}: " in page
    assert manifest.victim.members is None or len(weights) > 1
    if len(weights) > 1:
        text = json.loads((tmp_path / "corpus" / "manifest.json").read_text())["victim"]
        assert text["members"][0]["weights_sha256"] == text["weights_sha256"]
        assert len(text["members"]) == 2
        with pytest.raises(SpecError, match="weights of the victim are missing: give --weights FILE with SHA-256"):
            reproduce(tmp_path / "elsewhere" / "published", None, weights=weights[:1])


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize(("head", "activation"), [("softmax", nn.Softmax(1)), ("sigmoid", nn.Sigmoid())], ids=["softmax", "sigmoid"])
def test_a_network_that_answers_probabilities_is_attacked_through_them(head: str, activation: nn.Module, tmp_path: Path) -> None:
    chest(tmp_path / "data", (32, 32, 8))
    torch.manual_seed(0)
    network = nn.Sequential(build_network("monai:unet", {"spatial_dims": 2, **UNET}), activation).eval()
    torch.jit.trace(network, torch.zeros(1, 1, 32, 32)).save(tmp_path / "victim.ts")
    path = segmentation_spec(tmp_path, 2)
    spec = yaml.safe_load(path.read_text())
    spec["victim"] = {"network": "victim.ts", "normalize": {"window": [-1000, 400]}, "head": head, "activation": head}
    if head == "sigmoid":
        spec["data"]["label_map"] = {"lung": [1], "other": [2]}
    path.write_text(yaml.safe_dump(spec))
    manifest = made_again(path, [tmp_path / "victim.ts"], tmp_path / "elsewhere")
    assert manifest.sanity is not None
    assert manifest.sanity.clamped == 0


def test_probabilities_that_are_none_are_refused(tmp_path: Path) -> None:
    chest(tmp_path / "data", (32, 32, 8))
    save_victim(tmp_path / "victim.safetensors", "monai:unet", {"spatial_dims": 2, **UNET})
    path = segmentation_spec(tmp_path, 2, victim__activation="softmax")
    with pytest.raises(SpecError, match=r"victim\.activation=softmax: the network answers values of -?\d.* which are no probabilities"):
        run(path, Options(), quiet)


def test_pictures_shown_x_first_and_resized(tmp_path: Path) -> None:
    draw_pictures(tmp_path / "data", 4)
    arguments = {"spatial_dims": 2, "in_channels": 3, "out_channels": 3, "init_features": 8, "growth_rate": 4, "block_config": [1, 1]}
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", arguments)
    path = tiny_spec(
        tmp_path,
        victim__arguments=arguments,
        victim__normalize=[
            {"transpose": [1, 0]},
            {"channels": {"order": [2, 1, 0]}},
            {"resize": [24, 40], "antialias": True},
            {"minmax": [-1, 1], "per_channel": True},
        ],
    )
    made_again(path, [tmp_path / "victim.safetensors"], tmp_path / "elsewhere")
