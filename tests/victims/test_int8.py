"""Convolutions in 8-bit products: exact where whole numbers leave nothing to round, near everywhere else, not used where they lose."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medadv.victims.inputs.normalized import Normalized
from medadv.victims.sources.registry import build_network
from medadv.victims.speed import int8
from medadv.victims.speed.int8 import Int8Convolution, has_int8_products, is_quantizable
from medadv.victims.speed.memory_format import FORMATS
from medadv.victims.speed.profiles import Profile, candidates, with_profile
from medadv.victims.tasks.classification import Classifier
from medadv_transforms.normalize import Normalize

KINDS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "3 x 3": (nn.Conv2d(64, 64, 3, padding=1), (3, 64, 9, 11)),
    "1 x 1 without bias": (nn.Conv2d(256, 192, 1, bias=False), (2, 256, 9, 10)),
    "5 x 3, uneven padding": (nn.Conv2d(32, 48, (5, 3), padding=(1, 0)), (2, 32, 12, 9)),
    "dilated": (nn.Conv2d(64, 32, 3, padding=2, dilation=2), (2, 64, 10, 11)),
    "volume": (nn.Conv3d(32, 16, 3, padding=1), (2, 32, 5, 6, 7)),
    "one volume": (nn.Conv3d(16, 16, 3), (1, 16, 6, 7, 8)),
}

needs_int8 = pytest.mark.skipif(not has_int8_products(), reason="this processor saturates sums of 8-bit products")


def with_whole_weights(layer: Any) -> Any:
    """Weights that 8 bits hold exactly: every channel of either side reaches 127 itself."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        layer.weight.copy_(torch.randint(-3, 4, layer.weight.shape, generator=generator))
        o, i = layer.weight.shape[:2]
        first = layer.weight[(..., *[0] * (layer.weight.ndim - 2))]
        for place in range(max(o, i)):
            first[place % o, place % i] = 127
        if layer.bias is not None:
            layer.bias.copy_(torch.randint(-9, 10, layer.bias.shape, generator=generator))
    return layer


def whole(shape: tuple[int, ...], seed: int, low: int = -127) -> Tensor:
    """Whole numbers, each sample with both ends of its range."""
    values = torch.randint(low // 40, 4, shape, generator=torch.Generator().manual_seed(seed)).float()
    rows = values.flatten(1)
    rows[:, 0], rows[:, 1] = low, 127
    return values.contiguous(memory_format=FORMATS[len(shape)])


def both_ways(layer: nn.Module, x: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    answer = layer(x)
    return answer.detach(), torch.autograd.grad(answer, x, gradient.to(answer.dtype))[0]


@needs_int8
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_whole_numbers_are_exact(kind: str) -> None:
    layer, shape = KINDS[kind]
    with_whole_weights(layer)
    assert is_quantizable(layer)
    x = whole(shape, 1)
    gradient = whole(tuple(layer(x).shape), 2)
    for found, expected in zip(
        both_ways(Int8Convolution(layer), x.bfloat16(), gradient), both_ways(layer, x, gradient), strict=True
    ):
        assert found.dtype == torch.bfloat16
        assert torch.equal(found, expected.bfloat16())
        assert found.is_contiguous(memory_format=FORMATS[found.ndim])


@needs_int8
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_other_numbers_are_near(kind: str) -> None:
    made, shape = KINDS[kind]
    layer: Any = made
    torch.manual_seed(0)
    layer.reset_parameters()
    x = torch.randn(shape).bfloat16().contiguous(memory_format=FORMATS[len(shape)])
    for given in (x, x.relu(), x + 2):
        gradient = torch.randn(layer(given.float()).shape).bfloat16()
        found, expected = both_ways(Int8Convolution(layer), given, gradient), both_ways(layer, given.float(), gradient)
        for one, other in zip(found, expected, strict=True):
            assert float((one - other).norm() / other.norm()) < 0.015


@needs_int8
def test_each_sample_keeps_its_gradient() -> None:
    """Beside a gradient a million times as large one scale for both would leave nothing."""
    layer, shape = KINDS["3 x 3"]
    with_whole_weights(layer)
    x, sizes = whole(shape, 1), torch.tensor([1.0, 2.0**-20, 0.0]).reshape(3, 1, 1, 1)
    gradient = whole(tuple(layer(x).shape), 2)
    fast = Int8Convolution(layer)
    plain = both_ways(fast, x.bfloat16(), gradient)[1]
    assert torch.equal(both_ways(fast, x.bfloat16(), gradient * sizes)[1], plain * sizes.bfloat16())


@needs_int8
def test_zeros_and_what_is_not_finite() -> None:
    layer: Any = with_whole_weights(KINDS["3 x 3"][0])
    fast = Int8Convolution(layer)
    x = torch.zeros(2, 64, 9, 10).bfloat16().contiguous(memory_format=torch.channels_last)
    assert torch.equal(fast(x), layer.bias.bfloat16().reshape(1, -1, 1, 1).expand(2, 64, 9, 10))
    for bad in (float("nan"), float("inf"), -float("inf")):
        x[1, 5, 2, 3] = bad
        assert not fast(x).isfinite().any()
        x[1, 5, 2, 3] = 0


@needs_int8
def test_few_voxels_stay_in_bfloat16() -> None:
    layer = nn.Conv2d(64, 64, 3, padding=1)
    fast = Int8Convolution(layer)
    layer.to(torch.bfloat16)
    x = torch.randn(1, 64, 12, 13).bfloat16()
    assert torch.equal(fast(x), layer(x))


@pytest.mark.parametrize("each", [True, False])
@pytest.mark.parametrize("low", [-127, 0])
def test_levels_do_not_depend_on_the_pieces(monkeypatch: pytest.MonkeyPatch, each: bool, low: int) -> None:
    x = (torch.randn(3, 8, 7, 5).clamp(min=low) * 3).bfloat16().contiguous(memory_format=torch.channels_last)
    once = int8._quantized(x, each)
    monkeypatch.setattr(int8, "CACHED", 50)
    pieces = int8._quantized(x, each)
    assert once[2] == pieces[2]
    assert torch.equal(once[0], pieces[0])
    assert torch.equal(once[1], pieces[1])
    # Half a step at most, and zero is a level of its own.
    steps = once[1].reshape(-1, 1, 1, 1)
    assert bool(((once[0].float() - once[2]) * steps - x).abs().le(0.501 * steps).all())
    assert int8._quantized(torch.zeros_like(x), each)[0].unique().tolist() == [int8._quantized(torch.zeros_like(x), each)[2]]


@pytest.mark.parametrize(
    "values", [[0.0, 2.0], [-1.0, 0.5], [-0.5, -3.0], [0.0, -0.0], [-0.0, 1.0], [4.0, 7.0], [1e-30, -2e-30], [-256.0, 255.0]]
)
def test_ranges_are_read_from_the_bits(values: list[float]) -> None:
    rows = torch.tensor([values]).bfloat16()
    assert int8._range(rows) == (min(float(rows.min()), 0), max(float(rows.max()), 0))
    assert torch.equal(int8._sizes(rows), rows.float().abs().amax(1))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(64, 64, 3, stride=2),
        nn.Conv2d(64, 64, 3, groups=2),
        nn.Conv2d(64, 64, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(64, 64, 3, padding="same"),
        nn.Conv2d(256, 256, 1, padding=1),
        nn.Conv2d(3, 64, 3),
        nn.Conv1d(256, 256, 3),
        nn.ConvTranspose2d(256, 256, 3),
        type("Own", (nn.Conv2d,), {})(64, 64, 3),
    ],
)
def test_other_convolutions_are_left_alone(layer: nn.Module) -> None:
    assert not is_quantizable(layer)


def test_a_plan_from_another_processor_is_refused(play: Callable[..., None]) -> None:
    network = build_network("torchvision:resnet18", {"num_classes": 3}).eval()
    victim = Classifier(Normalized(Normalize([0.5] * 3, [0.25] * 3), network), "softmax", 3)
    play("avx2")
    with pytest.raises(ValueError, match="VNNI, or plan anew"):
        with_profile(victim, Profile(channels_last=True, bf16=True, int8=True), (3, 32, 32))


def test_only_processors_that_can_are_asked(play: Callable[..., None]) -> None:
    """Bytes alone are not enough: between the convolutions there is bfloat16."""
    network = build_network("torchvision:resnet18", {"num_classes": 3})
    for known, expected in (((), False), (("avx_vnni",), False), (("avx512_bf16",), False), (("avx512_vnni", "avx512_bf16"), True)):
        play(*known)
        assert any(profile.int8 for profile in candidates(network, "cpu")) == expected
    assert not any(profile.int8 for profile in candidates(network, "cuda"))
    assert not any(profile.int8 for profile in candidates(nn.Sequential(nn.Conv2d(3, 8, 3)), "cpu"))
