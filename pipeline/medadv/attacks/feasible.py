"""The feasible set: the L-infinity ball around each image, met with the lattice's valid range."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from medadv.common.hashing import seed_of
from medadv_transforms.units import Lattice


def feasible_box(images: Tensor, epsilon: float, lattice: Lattice, region: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Lowest and highest perturbation of every voxel.

    images: (n, C, *spatial), stored units, on the lattice.  region: (n, 1, *spatial) or broadcastable, nonzero where perturbing is allowed.
    Both bounds contain 0, so projection onto the box is one clamp and keeps clip(image + perturbation) free.
    """
    radius = torch.tensor(epsilon, dtype=images.dtype)
    if radius.item() > epsilon:
        # Rounded to single precision, an epsilon just below a whole number would become that number.
        epsilon = torch.nextafter(radius, torch.zeros_like(radius)).item()
    low = (lattice.low - images).clamp_(min=-epsilon, max=0)
    high = (lattice.high - images).clamp_(min=0, max=epsilon)
    if region is not None:
        allowed = region != 0
        low, high = low * allowed, high * allowed
    return low, high


def to_integers(perturbation: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Round to the nearest integer inside the box; returns int16, the type every stored bound fits."""
    # ceil and floor move the bounds of a fractional epsilon inwards: rounding may never leave the ball.
    return torch.minimum(torch.maximum(perturbation.round(), low.ceil()), high.floor()).to(torch.int16)


def random_start(shape: Sequence[int], epsilon: float, seed: int) -> Tensor:
    """Uniform integers in [-floor(epsilon), floor(epsilon)]: on the lattice from the first iterate on.

    Drawn by NumPy's Philox from the sample's own seed, so neither batch, worker, device nor the global generators have a say.
    """
    bound = math.floor(epsilon)
    generator = np.random.Generator(np.random.Philox(key=seed))
    return torch.from_numpy(generator.integers(-bound, bound, size=tuple(shape), endpoint=True, dtype=np.int16))


def first_iterates(
    images: Tensor, given: Tensor, seeds: Sequence[int | None], epsilon: float, lattice: Lattice, region: Tensor | None = None
) -> Tensor:
    """Where attacks begin that go on from given perturbations, (n, C, *spatial) int16: brought inside the ball, the range and the lattice.

    images, region: as `feasible_box` takes them.  given: (n, C, *spatial) of any size.  seeds: one a sample, None where the given one is
    taken; elsewhere the seed of the random start that takes its place.
    """
    low, high = feasible_box(images, epsilon, lattice, region)
    begun = given.to(images, copy=True)
    for row, seed in enumerate(seeds):
        if seed is not None:
            begun[row] = random_start(images.shape[1:], epsilon, seed).to(begun)
    return to_integers(begun, low, high)


def restart_seed(seed: int, restart: int) -> int:
    """The seed of a sample's further start; the first is its own."""
    return seed_of("restart", seed, restart) if restart else seed


def start_seed(run_seed: int, sample: str, attack: str, restart: int = 0) -> int:
    """The seed of one sample's random start."""
    return seed_of(run_seed, sample, attack, restart)
