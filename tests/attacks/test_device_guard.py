"""The guard refuses what a step may not do, lets pass what it may, and is there in the whole step loop."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from attack_cases import classifier, images, labels, settings
from device_guard import DeviceOnly, HostTouchedError, attack_on_meta
from torch import Tensor, nn
from torch.nn import functional

M = torch.zeros(3, 4, device="meta")
MASK = M > 0
SCALAR = torch.tensor(2.0)
INDEX = torch.tensor([0, 1])

REFUSED: dict[str, Callable[[], Any]] = {
    "item": lambda: M.sum().item(),
    "item of the host": lambda: SCALAR.item(),
    "float": lambda: float(M[0, 0]),
    "bool": lambda: bool((M > 0).all()),
    "if": lambda: 1 if M.isnan().any() else 0,
    "cpu": lambda: M.cpu(),
    "to cpu": lambda: M.to("cpu"),
    "tolist": lambda: M.tolist(),
    "copy to the host": lambda: torch.zeros(3, 4).copy_(M),
    "nonzero": lambda: M.nonzero(),
    "where without values": lambda: torch.where(MASK),
    "mask": lambda: M[MASK],
    "assignment by mask": lambda: M.clone().index_put_((MASK,), M.new_zeros(5)),
    "byte mask": lambda: M.clone().index_put_((MASK.to(torch.uint8),), M.new_zeros(5)),
    "masked_select": lambda: M.masked_select(MASK),
    "unique": lambda: M.unique(),
    "equal": lambda: torch.equal(M, M),
    "allclose": lambda: torch.allclose(M, M),
    "tensor": lambda: torch.tensor(1.0, device="meta"),
    "tensor of a list": lambda: torch.tensor([1.0, 2.0], device="meta"),
    "as_tensor": lambda: torch.as_tensor([1.0], device="meta"),
    "asarray": lambda: torch.asarray([1.0], device="meta"),
    "new_tensor": lambda: M.new_tensor([1.0]),
    "list as index": lambda: M[[0, 1]],
    "scalar of the host": lambda: M * SCALAR,
    "scalar of the host, in place": lambda: M.clone().add_(SCALAR),
    "scalar of the host as bound": lambda: M.clamp(min=SCALAR),
    "scalar of the host in where": lambda: torch.where(MASK, M, SCALAR),
    "scalar of the host in a stack": lambda: torch.stack([M.sum(), SCALAR]),
    "index of the host": lambda: M[INDEX],
    "single index of the host": lambda: M[torch.tensor(1)],
    "index_select with one": lambda: M.index_select(0, INDEX),
    "gather with one": lambda: M.gather(1, torch.zeros(1, 1, dtype=torch.long)),
    "mask of the host": lambda: M[torch.tensor([True, False, True])],
    "to the device": lambda: INDEX.to("meta"),
    "to its like": lambda: INDEX.to(M),
    "copy to the device": lambda: M.clone().copy_(torch.zeros(3, 4)),
}
ALLOWED: dict[str, Callable[[], Any]] = {
    "Python numbers": lambda: (2.0 * M + 1).clamp(0, 1) ** 2,
    "single index": lambda: M[0],
    "fill": lambda: M.clone().__setitem__(0, 1.0),
    "index of the device": lambda: M[torch.arange(2, device="meta")],
    "where with a number": lambda: torch.where(MASK, M, 0),
    "masked_fill": lambda: M.masked_fill(MASK, 0.0),
    "new zeros": lambda: M.new_zeros(3),
    "full": lambda: torch.full((3,), 0.5, device="meta"),
    "other type": lambda: M.double(),
    "one-hot": lambda: functional.one_hot(torch.zeros(3, dtype=torch.long, device="meta"), 4),
    "on the host alone": lambda: torch.arange(2, 5).tolist() + (torch.tensor([1.0]) * SCALAR).tolist(),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    with DeviceOnly(), pytest.raises(HostTouchedError):
        REFUSED[name]()


@pytest.mark.parametrize("name", ALLOWED)
def test_allowed(name: str) -> None:
    with DeviceOnly() as guard:
        ALLOWED[name]()
    assert (guard.seen > 0) == (name != "on the host alone")


class Touching(torch.autograd.Function):
    """Identity that calls `ahead` with its input, and `back` with its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ahead: Callable[[Tensor], Any], back: Callable[[Tensor], Any]) -> Tensor:
        ctx.back = back
        ahead(x)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        ctx.back(gradient)
        return gradient, None, None


class Network(nn.Module):
    """Touches the host from its third pass on: the first prepares, the second is the first step's."""

    def __init__(self, inner: nn.Module, ahead: Callable[[Tensor], Any], back: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.inner, self.ahead, self.back, self.passes = inner, ahead, back, 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        touch = (self.ahead, self.back) if self.passes > 2 else (nothing, nothing)
        answer: Tensor = self.inner(Touching.apply(x, *touch))
        return answer


def nothing(_: Tensor) -> None:
    pass


def read(x: Tensor) -> None:
    x.sum().item()


def send(x: Tensor) -> None:
    torch.tensor(1.0, device=x.device)


@pytest.mark.parametrize(("ahead", "back"), [(read, nothing), (send, nothing), (nothing, read), (nothing, send)])
def test_the_guard_is_there_in_later_steps_and_on_the_way_back(
    ahead: Callable[[Tensor], Any], back: Callable[[Tensor], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = classifier()
    touching = type(victim)(Network(victim.module, ahead, back), "softmax", 4)
    with pytest.raises(HostTouchedError):
        attack_on_meta(touching, images(2, 3, 16, 16), labels(2, 4), settings("pgd", steps=2), monkeypatch)
