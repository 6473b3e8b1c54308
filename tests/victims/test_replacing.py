"""Replaced modules answer and differentiate as those they stand for, in every layout; what they cannot stand for is left alone."""

from typing import Any

import pytest
import torch
from tests.victims.test_memory_format import NO_KERNEL
from torch import Tensor, nn

from medadv.common.machine import fast_products
from medadv.spec.attack import AttackSettings
from medadv.victims.inputs.normalized import Normalized
from medadv.victims.sources.registry import build_network
from medadv.victims.speed.memory_format import FORMATS
from medadv.victims.speed.norms import ChannelsLastNorm, ChannelwiseAffine
from medadv.victims.speed.profiles import Profile, with_profile
from medadv.victims.speed.replacing import lighten
from medadv.victims.speed.space_to_depth import SpaceToDepth, is_thin
from medadv.victims.tasks.segmentation import Segmenter
from medadv_transforms.normalize import Normalize


def answer_and_gradient(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Output, and the gradient of a sum with random weights."""
    x = x.detach().requires_grad_()
    answer = module(x)
    weights = torch.randn(answer.shape, generator=torch.Generator().manual_seed(5), dtype=x.dtype)
    if x.ndim in FORMATS and x.is_contiguous(memory_format=FORMATS[x.ndim]):
        weights = weights.contiguous(memory_format=FORMATS[x.ndim])
    (gradient,) = torch.autograd.grad((answer * weights).sum(), x)
    return answer, gradient


NORMS = {
    "group": lambda dims, affine: nn.GroupNorm(2, 6, affine=affine),
    "layer": lambda dims, affine: nn.GroupNorm(1, 6, affine=affine, eps=0.1),
    "instance": lambda dims, affine: (nn.InstanceNorm2d if dims == 2 else nn.InstanceNorm3d)(6, affine=affine),
}


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [(2, 6, 8, 6), (2, 6, 5, 7), (1, 6, 4, 3, 5), (3, 6, 8, 8, 4)])
@pytest.mark.parametrize("kind", sorted(NORMS))
def test_norms_are_the_ones_they_replace(kind: str, shape: tuple[int, ...], affine: bool) -> None:
    torch.manual_seed(0)
    norm: Any = NORMS[kind](len(shape) - 2, affine).double()
    if affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    lean = nn.Sequential(norm)
    lighten(lean)
    assert isinstance(lean[0], ChannelsLastNorm)
    # Means far from zero would show a variance that was taken as a difference of squares.
    x = torch.randn(shape, dtype=torch.float64) * torch.arange(1, 7).reshape(1, 6, *[1] * (len(shape) - 2)) + 50
    for layout in (torch.contiguous_format, FORMATS[len(shape)]):
        ours, theirs = answer_and_gradient(lean, x.contiguous(memory_format=layout)), answer_and_gradient(norm, x)
        for found, expected in zip(ours, theirs, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
            assert found.is_contiguous(memory_format=layout)


def test_norms_in_half_precision_stay_as_near_as_pytorchs() -> None:
    torch.manual_seed(1)
    norm = nn.GroupNorm(4, 16)
    nn.init.normal_(norm.weight)
    lean = ChannelsLastNorm(4, norm)
    x = torch.randn(2, 16, 24, 24) * 3 + 1
    exact = answer_and_gradient(norm, x)[1]
    norm.to(torch.bfloat16)
    half = x.to(torch.bfloat16)
    errors = [
        float((answer_and_gradient(module, half.contiguous(memory_format=layout))[1].float() - exact).norm() / exact.norm())
        for module, layout in ((norm, torch.contiguous_format), (lean, torch.channels_last))
    ]
    assert errors[1] < 1.5 * errors[0] < 0.02


@pytest.mark.parametrize("shape", [(2, 6, 8, 6), (1, 6, 4, 3, 5), (3, 6)])
def test_batch_norm_is_an_affine_map_that_may_be_followed_in_place(shape: tuple[int, ...]) -> None:
    torch.manual_seed(3)
    norm: Any = {2: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[len(shape)](6).double().eval()
    for values in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(values)
    norm.running_var.uniform_(0.5, 2)
    theirs = nn.Sequential(norm, nn.ReLU())
    ours = nn.Sequential(norm, nn.ReLU(inplace=True))
    lighten(ours)
    assert isinstance(ours[0], ChannelwiseAffine)
    x = torch.randn(shape, dtype=torch.float64)
    for layout in (torch.contiguous_format, FORMATS[len(shape)]) if len(shape) > 2 else (torch.contiguous_format,):
        found = answer_and_gradient(ours, x.contiguous(memory_format=layout))
        for one, other in zip(found, answer_and_gradient(theirs, x), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
            assert one.is_contiguous(memory_format=layout)


def test_other_layouts_are_settled() -> None:
    norm = nn.Sequential(nn.BatchNorm2d(4), nn.GroupNorm(2, 4)).double().eval()
    lean = nn.Sequential(*norm)
    lighten(lean)
    x = torch.randn(2, 9, 4, 7, dtype=torch.float64).permute(0, 2, 3, 1)
    for given in (x, x.contiguous(), x.contiguous(memory_format=torch.channels_last)):
        for found, expected in zip(answer_and_gradient(lean, given), answer_and_gradient(norm, given), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_gradient_may_come_in_another_layout(layout: torch.memory_format) -> None:
    norm = nn.Sequential(nn.GroupNorm(2, 4)).double()
    lean = nn.Sequential(*norm)
    lighten(lean)
    x = torch.randn(2, 4, 7, 9, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    for other in (torch.contiguous_format, torch.channels_last):
        gradient = torch.randn(x.shape, dtype=torch.float64).contiguous(memory_format=other)
        (found,), (expected,) = (torch.autograd.grad(module(x), x, gradient) for module in (lean, norm))
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_norms_that_mean_something_else_are_left_alone() -> None:
    others = [nn.InstanceNorm2d(3, track_running_stats=True), nn.BatchNorm2d(3, track_running_stats=False)]
    lighten(kept := nn.Sequential(*others))
    assert list(kept) == others


@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "padding", "size"),
    [
        (3, (7, 7), (2, 2), (3, 3), (32, 32)),
        (3, (7, 7), (2, 2), (3, 3), (31, 33)),
        (1, (3, 3), (2, 2), (1, 1), (16, 17)),
        (2, (4, 5), (2, 3), (0, 2), (19, 23)),
        (3, (1, 1), (2, 2), (0, 0), (9, 8)),
        (3, (2, 2), (4, 1), (0, 1), (21, 6)),
        (1, (3, 3, 3), (2, 2, 2), (1, 1, 1), (8, 9, 10)),
        (2, (5, 3, 1), (1, 2, 2), (2, 1, 0), (6, 7, 9)),
    ],
)
def test_blocks_of_voxels_give_the_same_convolution(channels: int, kernel: Any, stride: Any, padding: Any, size: Any) -> None:
    torch.manual_seed(2)
    made: Any = (nn.Conv2d if len(kernel) == 2 else nn.Conv3d)(channels, 5, kernel, stride, padding, dtype=torch.float64)
    assert is_thin(made)
    x = torch.randn(2, channels, *size, dtype=torch.float64)
    for found, expected in zip(answer_and_gradient(SpaceToDepth(made), x), answer_and_gradient(made, x), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_only_thin_strided_convolutions_are_rearranged() -> None:
    others = [
        nn.Conv2d(3, 8, 3),
        nn.Conv2d(8, 8, 3, stride=2),
        nn.Conv2d(2, 8, 3, stride=2, groups=2),
        nn.Conv2d(3, 8, 3, stride=2, dilation=2),
        nn.Conv2d(3, 8, 3, stride=2, padding=1, padding_mode="reflect"),
        nn.ConvTranspose2d(3, 8, 3, stride=2),
        nn.Linear(3, 8),
    ]
    assert not any(is_thin(part) for part in others)


@pytest.mark.parametrize(
    ("network", "arguments"),
    [
        ("monai:segresnet", {"init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]}),
        ("monai:unet", {"channels": [8, 16], "strides": [2], "num_res_units": 1}),
    ],
)
def test_a_lean_network_in_half_precision_follows_the_plain_gradient(network: str, arguments: dict[str, Any]) -> None:
    torch.manual_seed(4)
    built = build_network(network, {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, **arguments}).eval()
    victim = Segmenter(Normalized(Normalize([0.5], [0.25]), built), "softmax", 2, 3)
    images = torch.randint(0, 256, (2, 1, 16, 16, 16)).float()
    truth = torch.randint(0, 2, (2, 16, 16, 16)).to(torch.uint8)
    settings = AttackSettings.model_validate({"attack": "pgd", "epsilon": 4})

    def gradient(tried: Any) -> Tensor:
        x = images.clone().requires_grad_()
        return torch.autograd.grad(tried.deviation(tried.forward(x), truth, settings).sum(), x)[0].flatten()

    tuned = with_profile(victim, Profile(channels_last=True, bf16=True), images.shape[1:])
    assert any(isinstance(part, ChannelsLastNorm) for part in tuned.module.modules())
    assert not any(isinstance(part, ChannelsLastNorm) for part in victim.module.modules())
    assert float(nn.functional.cosine_similarity(gradient(tuned), gradient(victim), dim=0)) > 0.95


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("dims", [2, 3])
def test_one_channel_leaves_no_mixed_layouts(dims: int, precision: str) -> None:
    """Where a convolution of one channel answers channels first, every later sum would mix two layouts."""
    if precision == "bf16" and dims == 3 and "bf16" not in fast_products():
        pytest.skip(NO_KERNEL)
    torch.manual_seed(6)
    convolution, norm = ((nn.Conv2d, nn.BatchNorm2d), (nn.Conv3d, nn.BatchNorm3d))[dims - 2]
    layers = [convolution(1, 4, 3, padding=1), norm(4), convolution(4, 4, 3, padding=1), convolution(4, 2, 1)]
    victim = Segmenter(Normalized(Normalize([0.5], [0.25]), nn.Sequential(*layers).eval()), "softmax", 2, dims)
    profile = Profile(channels_last=True, folded=True, bf16=precision == "bf16")
    tuned: Any = with_profile(victim, profile, (1, *[8] * dims))
    outputs: list[Tensor] = []
    for part in tuned.module.network:
        part.register_forward_hook(lambda _, __, output: outputs.append(output))
    # Two samples: a single small one is kept from oneDNN in fp32.
    tuned.forward(torch.rand(2, 1, *[8] * dims))
    assert len(outputs) == 4
    assert all(output.is_contiguous(memory_format=FORMATS[output.ndim]) for output in outputs)
