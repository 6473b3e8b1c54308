"""How fast a PGD step could be on this machine: its operations at the measured matrix rate, its bytes at the measured bandwidth."""

import time
from typing import Any

import torch
from attack_victims import Case
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from medadv.attacks.untouched import untouched
from medadv.common.machine import fast_products
from medadv.spec.attack import AttackSettings

SIDE = {"cpu": 2048, "cuda": 8192}
COPIED = 1 << 28


class Traffic(TorchDispatchMode):
    """Bytes that operations read and write, views left out: what an eager step moves when every operation goes to memory."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [leaf for leaf in tree_leaves((args, kwargs or {}, found)) if isinstance(leaf, torch.Tensor)]
            self.bytes += sum(tensor.nbytes for tensor in tensors)
        return found


def floors(case: Case) -> dict[str, float]:
    """Operations and bytes of one step, measured rates (bf16 where the device multiplies it fast), and what follows from them in ms."""
    victim, device = case.victim(), case.images.device
    chosen = AttackSettings.model_validate({"attack": "pgd", "epsilon": 4})
    with untouched(victim.module), FlopCounterMode(display=False) as counter, Traffic() as traffic:
        x = case.images.clone().requires_grad_()
        # Not autograd.grad, in which the counter's own hooks cannot live.
        victim.deviation(victim.forward(x), case.targets, chosen).sum().backward()
    operations, moved = float(counter.get_total_flops()), float(traffic.bytes)
    rates = {"fp32": _rate(device, torch.float32)}
    # Emulated, it is no floor, and takes minutes to measure.
    if "bf16" in fast_products(device.type):
        rates["bf16"] = _rate(device, torch.bfloat16)
    bandwidth = _bandwidth(device)
    return {
        "operations": operations,
        "bytes": moved,
        "bandwidth": bandwidth,
        "bandwidth_ms": 1e3 * moved / bandwidth,
        **{f"{kind}_rate": rate for kind, rate in rates.items()},
        **{f"{kind}_ms": 1e3 * operations / rate for kind, rate in rates.items()},
    }


def _rate(device: torch.device, dtype: torch.dtype) -> float:
    side = SIDE[device.type]
    a = torch.rand(side, side, device=device).to(dtype)
    return 2 * side**3 / _best(lambda: a @ a, device)


def _bandwidth(device: torch.device) -> float:
    source = torch.zeros(COPIED // 4, device=device)
    target = torch.empty_like(source)
    return 2 * COPIED / _best(lambda: target.copy_(source), device)


def _best(work: Any, device: torch.device) -> float:
    times = []
    for _ in range(5):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times[1:])
