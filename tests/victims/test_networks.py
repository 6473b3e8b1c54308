"""Networks by name, and outputs that are not one tensor: what is taken for the logits, and what is asked for."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torchvision
from monai.networks import nets
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from medadv.common.errors import SpecError
from medadv.spec.victim import VictimSettings
from medadv.victims.loading import VictimRequest, answering, is_program
from medadv.victims.sources.monai_networks import CLASSIFICATION, MONAI_NETWORKS, SEGMENTATION
from medadv.victims.sources.registry import DOWNLOADS, FAMILIES, build_network
from medadv.victims.tasks.answer import is_coarser

CPU = torch.device("cpu")
IN_OUT_2D = {"spatial_dims": 2, "in_channels": 1, "out_channels": 3}
RATIOS = {"encoder_expansion_ratio": [2], "decoder_expansion_ratio": [2], "bottleneck_expansion_ratio": 2}
MEDNEXT = {**IN_OUT_2D, "init_filters": 4, "blocks_down": [1], "blocks_up": [1], "blocks_bottleneck": 1, **RATIOS}
VAE = {"input_image_size": [32, 32], "init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]}
VIT = {"patch_size": 16, "hidden_size": 24, "mlp_dim": 32, "num_layers": 1, "num_heads": 2, "classification": True, "num_classes": 3}
SEGRES = {**IN_OUT_2D, "init_filters": 8, "blocks_down": [1, 1]}
RESNETS = {"spatial_dims": 2, "n_input_channels": 1, "num_classes": 3}

SMALL: dict[str, tuple[dict[str, Any], str, int]] = {
    "BasicUNetPlusPlus": ({**IN_OUT_2D, "features": [8, 8, 8, 8, 8, 8]}, "segmentation", 32),
    "FlexibleUNet": ({**IN_OUT_2D, "backbone": "efficientnet-b0", "decoder_channels": [16, 8, 8, 8, 8]}, "segmentation", 32),
    "HighResNet": ({**IN_OUT_2D}, "segmentation", 16),
    "MedNeXt": (MEDNEXT, "segmentation", 32),
    "SegResNetDS": (SEGRES, "segmentation", 32),
    "SegResNetVAE": ({**IN_OUT_2D, **VAE}, "segmentation", 32),
    "ViT": ({"in_channels": 1, "img_size": 32, "spatial_dims": 2, **VIT}, "classification", 32),
    "EfficientNetBN": ({"model_name": "efficientnet-b0", "spatial_dims": 2, "in_channels": 1, "num_classes": 3}, "classification", 32),
    "ResNet": ({**RESNETS, "block": "basic", "layers": [1, 1, 1, 1], "block_inplanes": [4, 4, 4, 4]}, "classification", 32),
}


def as_loaded(network: nn.Module, *how: Any) -> tuple[nn.Module, int, list[str]]:
    """The network as a victim has it, its classes, and what was understood."""
    wrap, classes, notes = answering(network, *how)
    return wrap(network), classes, notes


def test_every_network_that_is_listed_exists() -> None:
    assert all(callable(getattr(nets, name)) for name in (*SEGMENTATION, *CLASSIFICATION))


@pytest.mark.parametrize("name", SMALL)
def test_networks_of_monai_answer_their_task(name: str) -> None:
    arguments, task, side = SMALL[name]
    network = build_network(f"monai:{name}", arguments).eval()
    answered, classes, _ = as_loaded(network, settings(), task, (1, side, side), CPU)
    assert classes == 3
    with torch.no_grad():
        assert answered(torch.zeros(2, 1, side, side)).shape == ((2, 3) if task == "classification" else (2, 3, side, side))


def test_either_spelling_builds_the_same() -> None:
    arguments = {**IN_OUT_2D, "channels": [4, 8], "strides": [2]}
    one, other = build_network("monai:UNet", arguments), build_network("monai:unet", arguments)
    assert type(one) is type(other)
    assert [*one.state_dict()] == [*other.state_dict()]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_of_a_library_is_no_program_whatever_its_name_ends_with(family: str) -> None:
    assert is_program("nets/victim.pt")
    assert not is_program(f"{family}:victim.pt")


def test_no_download_is_none() -> None:
    given = {"pretrained": False, "weights": None, "weights_backbone": None}
    assert build_network("torchvision:resnet18", {**given, "num_classes": 3})
    assert build_network("monai:densenet121", {**given, "spatial_dims": 2, "in_channels": 1, "out_channels": 3, "block_config": [1, 1]})
    with pytest.raises(SpecError, match="argument 'weights' would download weights"):
        build_network("torchvision:resnet18", {"weights": "DEFAULT"})


@pytest.mark.parametrize(
    ("network", "argument"),
    [
        *(("timm:resnet10t", name) for name in ("checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained")),
        *(("smp:Unet", name) for name in ("checkpoint_path", "encoder_weights")),
        ("monai:HoVerNet", "pretrained_url"),
        ("torchvision:fcn_resnet50", "pretrained_backbone"),
    ],
)
def test_nothing_is_fetched_or_unpickled(network: str, argument: str) -> None:
    with pytest.raises(SpecError, match=f"argument '{argument}' would download weights, or read them; give a file as victim.weights"):
        build_network(network, {argument: "https://example.org/evil.pth"})


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("monai:unet", {"spatial_dims": 7, "in_channels": 3, "out_channels": 2, "channels": [4, 8], "strides": [2]}),
        ("monai:dynunet", {**IN_OUT_2D, "kernel_size": [], "strides": [], "upsample_kernel_size": []}),
        ("monai:unet", {**IN_OUT_2D, "channels": [4, 8], "strides": [2], "kernel_size": {"a": 1}}),
    ],
)
def test_arguments_that_a_network_fails_on_are_named(name: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=f"network '{name}' does not take the arguments .*Error: "):
        build_network(name, arguments)


@pytest.mark.parametrize(
    ("more", "shape", "said"),
    [
        ({"mirror": [0, 2]}, (1, 8, 8), "an image has the axes 0 to 1; leave 2 out"),
        ({"mirror": [2], "slicewise": True}, (1, 4, 8, 8), "a slice has the axes 0 to 1; leave 2 out"),
    ],
)
def test_mirror_names_axes_that_there_are(more: dict[str, Any], shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(SpecError, match=rf"victim\.mirror=.*: {said}"):
        answering(Several(lambda y: y), settings(**more), "segmentation", shape, CPU)


@pytest.mark.parametrize("encoder", ["tu-hf-hub:someone/network", "tu-local-dir:/folder"])
def test_encoders_are_not_fetched(encoder: str) -> None:
    with pytest.raises(SpecError, match="would be fetched; name an encoder"):
        build_network("smp:Unet", {"encoder_name": encoder})


def test_no_library_has_another_argument_for_weights() -> None:
    """A newer MONAI or torchvision may have one more: it joins `DOWNLOADS`."""
    builds = [*MONAI_NETWORKS.values(), *(torchvision.models.get_model_builder(name) for name in torchvision.models.list_models())]
    taken = {name for build in builds for name in inspect.signature(build).parameters}
    suspect = {name for name in taken if re.search("pretrain|weights|url|path$|checkpoint$", name)}
    # The first two load nothing: which entry of what `pretrained_url` fetched is meant, and whether activations are computed again.
    assert suspect - {"pretrained_state_dict_key", "use_checkpoint"} <= DOWNLOADS


def settings(**more: Any) -> VictimSettings:
    return VictimSettings.model_validate({"network": "monai:unet", "weights": "w", "normalize": {"window": [0, 1]}, **more})


class Several(nn.Module):
    """A convolution whose logits lie somewhere in what is answered."""

    def __init__(self, wrap: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)
        self.wrap = wrap

    def forward(self, images: Tensor) -> Any:
        return self.wrap(self.conv(images))


def half(logits: Tensor) -> Tensor:
    return functional.avg_pool2d(logits, 2)


OUTPUTS: dict[str, tuple[Callable[[Tensor], Any], int | str | None]] = {
    "a tensor": (lambda y: y, None),
    "torchvision's dictionary": (lambda y: {"out": y, "aux": y + 1}, "out"),
    "an object with logits": (lambda y: SimpleNamespace(loss=None, logits=y), "logits"),
    "deep supervision, finest first": (lambda y: [y, half(y), half(half(y))], 0),
    "logits and features": (lambda y: (y.mean((2, 3)), y), 1),
    "a dictionary with one that fits": (lambda y: {"embedding": y.mean((2, 3)), "mask": y}, "mask"),
}


@pytest.mark.parametrize("form", OUTPUTS)
def test_the_only_output_that_fits_is_taken_and_said(form: str) -> None:
    wrap, key = OUTPUTS[form]
    network = Several(wrap).eval()
    answered, classes, notes = as_loaded(network, settings(), "segmentation", (1, 8, 8), CPU)
    images = torch.rand(2, 1, 8, 8)
    assert classes == 3
    assert torch.equal(answered(images), network.conv(images))
    assert notes == ([] if key is None else [f"output {key!r} of the network is taken for its logits"])


def test_where_several_fit_it_is_asked_for() -> None:
    network = Several(lambda y: [y, y + 1]).eval()
    with pytest.raises(SpecError, match=re.escape("answers a list (0: [1, 3, 8, 8]; 1: [1, 3, 8, 8]): say which by victim.output")):
        as_loaded(network, settings(), "segmentation", (1, 8, 8), CPU)
    answered, _, notes = as_loaded(network, settings(output=1), "segmentation", (1, 8, 8), CPU)
    images = torch.rand(1, 1, 8, 8)
    assert torch.equal(answered(images), network.conv(images) + 1)
    assert notes == []
    for missing in (2, "out"):
        with pytest.raises(SpecError, match=f"victim.output={missing!r}: the network answers no such thing, but a list"):
            as_loaded(network, settings(output=missing), "segmentation", (1, 8, 8), CPU)


def test_coarser_logits_come_to_the_images_grid() -> None:
    network = Several(half).eval()
    answered, _, notes = as_loaded(network, settings(), "segmentation", (1, 8, 6), CPU)
    images = torch.rand(2, 1, 8, 6)
    expected = functional.interpolate(network(images), (8, 6), mode="bilinear", align_corners=False)
    assert torch.equal(answered(images), expected)
    assert notes == ["logits of [4, 3] are brought to the image's [8, 6] linearly"]


@pytest.mark.parametrize(
    ("found", "spatial", "coarser"),
    [
        ((8, 8), (32, 32), True),
        ((9, 8), (33, 31), True),
        ((32, 32), (32, 31), False),  # a decoder that rounded up, not a coarser grid
        ((16, 8), (32, 32), False),
        ((32, 32), (32, 32), False),
        ((64, 64), (32, 32), False),
        ((16, 16, 4), (32, 32, 8), True),
    ],
)
def test_what_is_a_coarser_grid(found: tuple[int, ...], spatial: tuple[int, ...], coarser: bool) -> None:
    assert is_coarser(torch.zeros(1, 2, *found), spatial) is coarser


def test_a_victim_of_several_outputs_in_windows(tmp_path: Path) -> None:
    arguments = {**IN_OUT_2D, "features": [8, 8, 8, 8, 8, 8]}
    network = build_network("monai:basicunetplusplus", arguments).eval()
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    given = settings(network="monai:BasicUNetPlusPlus", arguments=arguments, weights="w.safetensors", window=[32, 32])
    victim = VictimRequest(given, "segmentation", tmp_path).load(CPU, (1, 32, 32))
    image = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(victim.scored.module(image), network(image)[0])
    assert victim.notes == ("output 0 of the network is taken for its logits",)


def test_other_libraries() -> None:
    pytest.importorskip("timm", reason="pip install 'medadv[networks]'")
    pytest.importorskip("segmentation_models_pytorch", reason="pip install 'medadv[networks]'")
    network = build_network("timm:resnet10t", {"num_classes": 3, "in_chans": 1}).eval()
    assert as_loaded(network, settings(), "classification", (1, 64, 64), CPU)[1:] == (3, [])
    arguments = {"encoder_name": "resnet18", "encoder_weights": None, "in_channels": 1, "classes": 3}
    network = build_network("smp:Unet", arguments).eval()
    assert as_loaded(network, settings(), "segmentation", (1, 32, 32), CPU)[1:] == (3, [])
    with pytest.raises(SpecError, match="argument 'encoder_weights' would download weights"):
        build_network("smp:Unet", {**arguments, "encoder_weights": "imagenet"})
    with pytest.raises(SpecError, match="unknown network 'timm:no_such_model'"):
        build_network("timm:no_such_model", {})
