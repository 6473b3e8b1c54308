"""How a victim is executed while it is attacked: memory format, folded batch-norm, bfloat16, compilation. Scoring stays in fp32."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn

from medadv.attacks.untouched import set_evaluation
from medadv.common.machine import fast_products
from medadv.plan.plan_settings import ProfileFacts
from medadv.victims.speed.folding import fold_batch_norm
from medadv.victims.speed.int8 import Int8Convolution, has_int8_products, is_quantizable
from medadv.victims.speed.memory_format import FORMATS, leave_half, with_settled_slices
from medadv.victims.speed.replacing import freeze_slopes, lighten, replace_parts

FOLD_TOLERANCE = 1e-3
"""Relative difference of outputs that folding may cause: rounding gives 1e-6, a wrong pair of layers 1e-1."""


@dataclass(frozen=True)
class Profile:
    """One way to execute; the plan freezes it, since each gives other bits."""

    channels_last: bool = False
    folded: bool = False
    bf16: bool = False
    int8: bool = False
    """With bf16: convolutions that gain by it multiply 8-bit numbers, see int8.py."""
    compiled: str | None = None
    """Mode of torch.compile; `reduce-overhead` replays CUDA graphs."""

    @property
    def name(self) -> str:
        """Such as channels_last+folded+bf16."""
        parts = [key for key in ("channels_last", "folded", "bf16", "int8") if getattr(self, key)]
        return "+".join(parts + ([f"compiled {self.compiled}"] if self.compiled else [])) or "plain"

    def facts(self) -> ProfileFacts:
        """For plan and manifest."""
        return ProfileFacts(**asdict(self))

    @classmethod
    def of(cls, facts: ProfileFacts | None) -> "Profile":
        """From plan or manifest; those without one were made in the plain way."""
        return cls() if facts is None else cls(**dict(facts))


def exact_profile(module: nn.Module, device: str) -> Profile:
    """fp32 in the memory format that is the faster one, as measured for networks of this kind: a fixed rule, so that equal specs give equal
    bits. On CPUs channels_last wins with 2D convolutions, unless instance normalisation, which undoes it, stands between them."""
    parts = list(module.modules())
    slower = any(isinstance(part, nn.Conv3d | nn.modules.instancenorm._InstanceNorm) for part in parts)
    return Profile(channels_last=device == "cpu" and not slower and any(isinstance(part, nn.Conv2d) for part in parts))


def candidates(module: nn.Module, device: str) -> list[Profile]:
    """What is worth a trial for a network; nothing in numbers that the device does not multiply fast."""
    folded = any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in module.modules())
    fast = fast_products(device)
    found = [Profile(), Profile(channels_last=True)]
    if "bf16" in fast:
        found += [Profile(bf16=True), Profile(channels_last=True, bf16=True)]
    if folded:
        found += [replace(profile, folded=True) for profile in found[1:]]
    # What lies between the convolutions is bfloat16: bytes alone do not make a profile fast.
    if device == "cpu" and {"bf16", "int8"} <= fast and any(is_quantizable(part) for part in module.modules()):
        found.append(replace(found[-1], int8=True))
    if device == "cuda":
        found += [replace(found[-1], compiled=mode) for mode in ("default", "reduce-overhead")]
    return found


class Executable(Protocol):
    """What is asked of a model that is to run in a profile (see `victims.victim.TaskModel`)."""

    @property
    def module(self) -> nn.Module:
        """Everything with parameters, the normalisation included."""
        ...

    def forward(self, images: Tensor) -> Any:
        """Outputs for (n, C, *spatial) in stored units."""
        ...

    def on(self, module: nn.Module) -> Self:
        """The same task, computed by another module."""
        ...

    def heavy_parts(self) -> list[nn.Module]:
        """The parts that may run in half precision."""
        ...

    def network_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """(C, *spatial) that the network sees of an image of a stored shape."""
        ...

    def tensors(self, outputs: Any) -> Iterator[Tensor]:
        """The floating-point tensors in what `forward` returns."""
        ...


Model = TypeVar("Model", bound=Executable)


def with_profile(model: Model, profile: Profile, shape: Sequence[int]) -> Model:
    """The model as a profile executes it. Its own module takes the memory format; everything inexact happens to a copy.

    shape: (C, *spatial) of a stored image.  Raises ValueError or RuntimeError where the network does not bear the profile.
    """
    if not (profile.folded or profile.bf16 or profile.compiled):
        if profile.channels_last:
            _to_channels_last(model.module)
        return model
    if profile.int8 and not has_int8_products():
        raise ValueError("the plan multiplies 8-bit numbers, and this processor would saturate: run it on one with VNNI, or plan anew here")
    module = copy.deepcopy(model.module)
    set_evaluation(module)
    freeze_slopes(module)
    fast = model.on(module)
    if profile.folded:
        sample = _sample(module, fast.network_shape(shape))
        with torch.no_grad():
            before = list(fast.tensors(fast.forward(sample)))
            fold_batch_norm(module, lambda: fast.forward(sample))
            after = list(fast.tensors(fast.forward(sample)))
        for old, new in zip(before, after, strict=True):
            if not torch.allclose(new, old, rtol=FOLD_TOLERANCE, atol=FOLD_TOLERANCE * float(old.abs().max())):
                raise ValueError("folding batch-norm changes the answers: a convolution's output is read elsewhere too")
    on_cpu = next(module.parameters()).device.type == "cpu"
    if on_cpu:
        lighten(module)
    if profile.channels_last:
        _to_channels_last(model.module)
        _to_channels_last(module)
        _settle(module)
    for part in fast.heavy_parts():
        if on_cpu:
            part.forward = with_settled_slices(part.forward)
        if profile.int8:
            # Before they become bfloat16: their weights are quantized from single precision.
            replace_parts(part, is_quantizable, Int8Convolution)
        if profile.bf16:
            part.to(torch.bfloat16)
            leave = leave_half if on_cpu else torch.Tensor.float
            part.register_forward_pre_hook(lambda _, inputs: _each(inputs, torch.Tensor.bfloat16))
            part.register_forward_hook(lambda _, __, outputs, leave=leave: _each(outputs, leave))
        if profile.compiled:
            part.compile(mode=profile.compiled)
    return fast


def _to_channels_last(module: nn.Module) -> None:
    """Convolutions take the layout of their weights; what follows them takes theirs."""
    for parameter in module.parameters():
        if parameter.ndim in FORMATS:
            parameter.data = parameter.data.contiguous(memory_format=FORMATS[parameter.ndim])


def _settle(module: nn.Module) -> None:
    """With a single channel both layouts are the same, and a convolution answers in the wrong one: every sum after it would mix them."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Conv3d) and part.in_channels == 1:
            part.register_forward_hook(lambda _, __, output: output.contiguous(memory_format=FORMATS[output.ndim]))


def _sample(module: nn.Module, shape: Sequence[int]) -> Tensor:
    device = next(module.parameters()).device
    return torch.randint(0, 256, (1, *shape), generator=torch.Generator().manual_seed(0)).to(device, torch.float32)


def _each(values: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A nest with its floating-point tensors changed."""
    if isinstance(values, Tensor):
        return change(values) if values.is_floating_point() else values
    if isinstance(values, Mapping):
        return type(values)((key, _each(value, change)) for key, value in values.items())  # type: ignore[call-arg]
    if isinstance(values, list | tuple):
        return type(values)(_each(value, change) for value in values)
    return values
