"""How far does one step go, and which way? An update rule is added here, in `step_along`.

Its setting goes into `AttackSettings`, and its name, where it has one, into `AttackName` and `NAMED`, a row of settings (spec/attack.py).
What the gradient is of stands in terms.py, which images are allowed in feasible.py, the loop in engine.py.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from medadv.attacks.smoothing import smooth
from medadv.spec.attack import AttackSettings


def step_along(gradient: Tensor, settings: AttackSettings, kernels: Sequence[Tensor], momentum: Tensor | None) -> Tensor:
    """One step's length along the gradient's signs; `momentum` takes the gradient in."""
    # What is not finite has no direction: it counts as zero here, before it could reach its neighbours or the momentum. The result is a
    # tensor of our own, which may be written to; the gradient need not be one.
    gradient = torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0)
    if settings.gradient_sigma is not None:
        gradient = smooth(gradient, kernels)
    if momentum is not None:
        # Each sample's gradient is scaled by its own mean size before it joins the running sum (MI-FGSM, equation 6).
        size = gradient.abs().flatten(1).mean(1).clamp_(min=torch.finfo(gradient.dtype).tiny)
        momentum.mul_(settings.momentum).add_(gradient.div_(size.reshape(-1, *[1] * (gradient.ndim - 1))))
        gradient.copy_(momentum)
    return gradient.sign_().mul_(settings.step)
