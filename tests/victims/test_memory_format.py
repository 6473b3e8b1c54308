"""Gradients keep the layout of what they belong to, with the values of the plain operations."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from medadv.common.machine import fast_products
from medadv.spec.attack import AttackSettings
from medadv.victims.inputs.normalized import Normalized
from medadv.victims.sources.registry import build_network
from medadv.victims.speed.memory_format import FORMATS, SettledSlices, leave_half
from medadv.victims.speed.profiles import Profile, with_profile
from medadv.victims.tasks.segmentation import Segmenter
from medadv_transforms.normalize import Normalize

NO_KERNEL = "oneDNN has no bfloat16 kernels for this processor, and torch's own 3D convolution (slow_conv3d) answers channels first"
PAIRED = ("add", "add_", "mul", "leaky_relu_backward", "threshold_backward")


@pytest.mark.parametrize("shape", [(2, 6, 4, 5), (1, 40, 3, 4, 5)])
def test_slices_are_settled(shape: tuple[int, ...]) -> None:
    layout = FORMATS[len(shape)]
    parts = [torch.randn(shape).contiguous(memory_format=layout).requires_grad_() for _ in range(2)]
    incoming = torch.randn(shape[0], 2 * shape[1], *shape[2:]).contiguous(memory_format=layout)
    expected = torch.autograd.grad(torch.cat(parts, 1), parts, incoming)
    for arguments, keywords in (((parts, 1), {}), ((parts,), {"dim": 1})):
        with SettledSlices():
            joined = torch.cat(*arguments, **keywords)
        assert torch.equal(joined, torch.cat(parts, 1))
        for found, known in zip(torch.autograd.grad(joined, parts, incoming), expected, strict=True):
            assert torch.equal(found, known)
            # Wide slices are as fast where they lie.
            assert found.is_contiguous(memory_format=layout) == (shape[1] < 32)


def test_other_joins_are_left_alone() -> None:
    a, b = torch.zeros(2, 3, 4, 4, requires_grad=True), torch.ones(2, 3, 4, 4, dtype=torch.float64)
    with SettledSlices():
        rows = torch.cat((a[0], a[0]), 1)
        for joined in (torch.cat([a, b], 1), torch.cat([a, a]), torch.cat([a, a], -1), torch.cat([a, a], out=None), rows):
            assert type(joined.grad_fn).__name__ == "CatBackward0"


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 4, 5, 6), (2, 7)])
def test_outputs_leave_half_precision(shape: tuple[int, ...]) -> None:
    for layout in {torch.contiguous_format, FORMATS.get(len(shape), torch.contiguous_format)}:
        x = torch.randn(shape).bfloat16().contiguous(memory_format=layout).requires_grad_()
        left = leave_half(x)
        assert left.dtype == torch.float32
        assert left.is_contiguous()
        assert torch.equal(left, x.float())
        incoming = torch.randn(shape)
        (found,) = torch.autograd.grad(left, x, incoming)
        assert torch.equal(found, incoming.bfloat16())
        assert found.is_contiguous(memory_format=layout)


class Mixed(TorchDispatchMode):
    """Counts operations on two tensors of one shape that lie differently in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Any] = []
        self.seen = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in PAIRED:
            pair = [value for value in args if isinstance(value, Tensor) and value.ndim in FORMATS and value.shape[1] > 1]
            if len(pair) == 2 and pair[0].shape == pair[1].shape:
                self.seen += 1
                if pair[0].stride() != pair[1].stride():
                    self.found.append((func, pair[0].shape, pair[0].stride(), pair[1].stride()))
        return func(*args, **(kwargs or {}))


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("dims", [2, 3])
def test_a_u_net_has_one_layout(dims: int, precision: str) -> None:
    if precision == "bf16" and dims == 3 and "bf16" not in fast_products():
        pytest.skip(NO_KERNEL)
    torch.manual_seed(0)
    shape = (1, 16, 32) if dims == 2 else (1, 16, 16, 32)
    sizes = {"channels": [16, 16, 24], "strides": [2, 2], "num_res_units": 2, "norm": "batch"}
    network = build_network("monai:unet", {"spatial_dims": dims, "in_channels": 1, "out_channels": 3, **sizes}).eval()
    victim = Segmenter(Normalized(Normalize([0.5], [0.25]), network), "softmax", 3, dims)
    tuned = with_profile(victim, Profile(channels_last=True, folded=True, bf16=precision == "bf16"), shape)
    for parameter in tuned.module.parameters():
        parameter.requires_grad_(False)
    x = torch.randint(0, 256, (2, *shape)).float().requires_grad_()
    truth = torch.randint(0, 3, (2, *shape[1:])).to(torch.uint8)
    with Mixed() as watch:
        value = tuned.deviation(tuned.forward(x), truth, AttackSettings.model_validate({"attack": "pgd", "epsilon": 4})).sum()
        torch.autograd.grad(value, x)
    assert watch.seen > 10
    # The loss hands the answer's gradient back channels first. In fp32 that is left so: another layout for it alone gained nothing.
    answer = (2, 3, *shape[1:])
    assert [item for item in watch.found if precision == "bf16" or tuple(item[1]) != answer] == []
