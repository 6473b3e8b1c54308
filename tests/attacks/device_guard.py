"""What a step of an attack may not do on an accelerator, refused on any machine: wait for the device, or send something to it.

Tensors on torch's `meta` device have shapes and no values, so that every read-back raises there. What passes silently is refused by
`DeviceOnly` while it is entered; it sees the operations that autograd issues on the way back too. It takes any device other than the CPU
for an accelerator, so that it may as well be entered on a real one.
"""

import copy
from collections.abc import Sequence
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from medadv.attacks import engine
from medadv.attacks.objective import Objective
from medadv.spec.attack import AttackSettings
from medadv_transforms.units import Lattice

READS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "allclose", "bincount", "_unique", "_unique2", "unique_dim"}
"""Operations whose result, or its size, the host waits for."""
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"}
"""Operations that look for the true values of a mask, and wait for their number."""

Moved = TypeVar("Moved")


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
        # Where a tensor is, and where one is to be made.
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
        masks = (value.dtype in (torch.bool, torch.uint8) for value in tree_leaves(args[1]) if value is not None) if name in INDEXED else ()
        if device and any(masks):
            raise HostTouchedError(f"{name} with a mask in the step loop: the host waits for the number of its true values")
        return func(*args, **kwargs)


def on_meta(value: Moved) -> Moved:
    """A nest of tensors, or a victim, without its values; the original stays as it is."""
    if isinstance(value, Tensor):
        return value.to("meta")  # type: ignore[return-value]
    if isinstance(value, dict):
        return {key: on_meta(part) for key, part in value.items()}  # type: ignore[return-value]
    if isinstance(value, list):
        return [on_meta(part) for part in value]  # type: ignore[return-value]
    moved = copy.deepcopy(value)
    moved.module.to("meta")  # type: ignore[attr-defined]
    return moved


def attack_on_meta(
    victim: Objective,
    images: Tensor,
    targets: Any,
    settings: AttackSettings,
    lattice: Lattice,
    monkeypatch: pytest.MonkeyPatch,
    region: Tensor | None = None,
    spacing_mm: Sequence[float] | None = None,
) -> int:
    """The whole attack on tensors without values, its step loop under guard; returns the number of operations that the guard saw.

    Before the loop starts are drawn on the host and copied. That the images are on the lattice cannot be checked without values. What
    is prepared once for a device is prepared by a first pass, as the clean prediction before an attack does.
    """
    guard, ascend = DeviceOnly(), engine._ascend
    monkeypatch.setattr(engine, "_check", lambda *_: None)

    def guarded(*args: Any) -> Tensor:
        with guard:
            return ascend(*args)

    monkeypatch.setattr(engine, "_ascend", guarded)
    victim, images, targets = on_meta(victim), on_meta(images), on_meta(targets)
    with torch.no_grad():
        victim.forward(images)
    seeds = range(len(images))
    region = None if region is None else on_meta(region)
    found = engine.perturb(victim, images, targets, settings, lattice=lattice, seeds=seeds, region=region, spacing_mm=spacing_mm)
    assert found.device.type == "meta"
    assert (found.shape, found.dtype) == (images.shape, torch.int16)
    return guard.seen
