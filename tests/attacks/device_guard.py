"""What a step of an attack may not do on an accelerator, refused on any machine: wait for the device, or send something to it.

Tensors on torch's `meta` device have shapes and no values, so that every read-back raises there. What passes silently is refused by
`DeviceOnly` while it is entered; it sees the operations that autograd issues on the way back too. It takes any device other than the CPU
for an accelerator, so that it may as well be entered on a real one.
"""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from attack_cases import LEVEL8
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

from medadv.attacks import engine
from medadv.attacks import square as squares
from medadv.attacks.objective import Objective
from medadv.spec.attack import AttackSettings

READS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "allclose", "bincount", "_unique", "_unique2", "unique_dim"}
"""Operations whose result, or its size, the host waits for."""
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"}
"""Operations that look for the true values of a mask, and wait for their number."""
MASKS = (torch.bool, torch.uint8)


class HostTouchedError(AssertionError):
    """An operation that needs the host, inside the step loop."""


class DeviceOnly(TorchDispatchMode):
    """Refuses, before they run, operations that read from the device, copy to it, or mix its tensors with some of the host, be they
    scalars or indices. Python numbers are neither: they travel with the kernel. What stays on the host altogether is left alone."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0
        """Operations on the device: a guard that saw none proves nothing."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = tree_leaves((args, kwargs))
        # Where they are, and where one is to be made.
        places = {value.device.type for value in given if isinstance(value, Tensor)}
        places |= {value.type for value in given if isinstance(value, torch.device)}
        device = places - {"cpu"}
        self.seen += bool(device)
        name = func.overloadpacket.__name__
        if name in READS:
            raise HostTouchedError(f"{name} in the step loop: the host waits for a value")
        if device and "cpu" in places:
            raise HostTouchedError(f"{name} in the step loop: between the host and the device")
        # `torch.tensor` and its like copy before any operation is issued; this one announces the result.
        if device and name == "lift_fresh":
            raise HostTouchedError("a tensor made of Python values in the step loop: copied to the device")
        if name in INDEXED and any(index is not None and index.dtype in MASKS for index in args[1]):
            raise HostTouchedError(f"{name} with a mask in the step loop: the host waits for the number of its true values")
        return func(*args, **kwargs)


def on_meta(value: Any) -> Any:
    """A nest of tensors without their values."""
    return tree_map(lambda leaf: leaf.to("meta") if isinstance(leaf, Tensor) else leaf, value)


def attack_on_meta(
    victim: Objective,
    images: Tensor,
    targets: Any,
    settings: AttackSettings,
    monkeypatch: pytest.MonkeyPatch,
    region: Tensor | None = None,
    spacing_mm: Sequence[float] | None = None,
) -> int:
    """The whole attack on tensors without values, its step loop under guard; returns the number of operations that the guard saw.

    The victim loses its values. Starts, and squares, are drawn on the host before the loop, and copied. What the victim prepares once for a
    device it prepares in a first pass, as in the clean prediction before an attack. Whether images are on the lattice nobody can say here.
    """
    victim.module.to("meta")
    images, targets, region = on_meta((images, targets, region))
    with torch.no_grad():
        victim.forward(images)
    guard, climb = DeviceOnly(), engine._climb

    def guarded(*args: Any) -> Tensor:
        with guard:
            return climb(*args)

    monkeypatch.setattr(engine, "_check", lambda *_: None)
    monkeypatch.setattr(engine, "_climb", guarded)
    draw = squares.proposals

    def before_the_loop(*args: Any) -> tuple[Tensor, Tensor]:
        with _disable_current_modes():
            return draw(*args)

    monkeypatch.setattr(squares, "proposals", before_the_loop)
    seeds = range(len(images))
    found = engine.perturb(victim, images, targets, settings, lattice=LEVEL8, seeds=seeds, region=region, spacing_mm=spacing_mm)
    assert (found.device.type, found.shape, found.dtype) == ("meta", images.shape, torch.int16)
    return guard.seen
