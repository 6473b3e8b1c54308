"""How does an attack climb without gradients? Square: random squares of full height are added, and kept where the answer gets worse.

Andriushchenko, Croce, Flammarion, Hein: Square Attack, ECCV 2020 (arXiv 1912.00049), in L-infinity. The share of an image that a square
covers falls with the queries by the paper's schedule, rescaled to their number. Beyond the paper: squares are boxes of as many axes as the
image has; what is tried always lies on the lattice; and each sample has squares of its own, drawn from its own seed.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from medadv.attacks.best import Best
from medadv.attacks.feasible import to_integers
from medadv.attacks.problem import Problem
from medadv.attacks.sign_steps import Watch
from medadv.common.hashing import seed_of

FIRST_SHARE = 0.8
"""Of the image's voxels, in the first square."""
HALVED = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""After these queries, of 10,000, the share is halved."""
QUERIES = 10_000


def share(query: int, queries: int) -> float:
    """Part of the image's voxels that the square of a query covers."""
    rescaled = int(query / queries * QUERIES)
    return FIRST_SHARE / 2 ** sum(rescaled > place for place in HALVED)


def side_lengths(spatial: Sequence[int], part: float) -> tuple[int, ...]:
    """Sides of a box of equal sides that covers a part of the image's voxels; axes shorter than that are taken whole, the others more."""
    whole: set[int] = set()
    while True:
        free = [axis for axis in range(len(spatial)) if axis not in whole]
        volume = part * math.prod(spatial) / math.prod(spatial[axis] for axis in whole)
        side = max(1, round(volume ** (1 / len(free))))
        short = {axis for axis in free if spatial[axis] < side}
        if not short or len(short) == len(free):
            return tuple(length if axis in whole else min(side, length) for axis, length in enumerate(spatial))
        whole |= short


def stripes(problem: Problem, seeds: Sequence[int]) -> Tensor:
    """Where the attack starts: at stripes of full height along the first spatial axis, or at the images as the settings say."""
    if not problem.settings.random_start:
        return torch.zeros_like(problem.images)
    channels, _, *rest = problem.images.shape[1:]
    signs = np.stack([_generator("stripes", seed).integers(0, 2, (channels, 1, *rest)) * 2 - 1 for seed in seeds])
    heights = problem.settings.epsilon * torch.from_numpy(signs).to(problem.images)
    return _whole(problem, heights.expand(problem.images.shape))


def proposals(problem: Problem, seeds: Sequence[int], sides: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Squares of all queries, drawn on the host and copied at once: a few numbers each.

    sides: of each query's square.  Returns (queries, n, axes) int64 first corners, and (queries, n, C) signs.
    """
    spatial = np.asarray(problem.images.shape[2:])
    room = spatial - np.asarray(sides)
    corners, signs = [], []
    for seed in seeds:
        generator = _generator("squares", seed)
        corners.append(generator.integers(0, room, endpoint=True))
        signs.append(generator.integers(0, 2, (len(room), problem.images.shape[1])) * 2 - 1)
    device = problem.images.device
    return torch.from_numpy(np.stack(corners, 1)).to(device), torch.from_numpy(np.stack(signs, 1)).to(problem.images)


def square(problem: Problem, start: Tensor, seeds: Sequence[int], best: Best | None, watch: Watch | None) -> Tensor:
    """The perturbation whose answer is the worst for the victim, whole.

    start: (n, C, *spatial), within the bounds.  seeds: one a sample.  best: is offered nothing, since the end is the best of what was seen.
    watch: is called at the start and where squares become smaller, with the wrongness seen so far.
    """
    settings, spatial = problem.settings, problem.images.shape[2:]
    sides = [side_lengths(spatial, share(query, settings.steps)) for query in range(settings.steps)]
    corners, signs = proposals(problem, seeds, sides)
    places = [torch.arange(length, device=start.device) for length in spatial]
    with torch.no_grad():
        delta = _whole(problem, start)
        wrongness, score = problem.seen(delta)
        for query, lengths in enumerate(sides):
            if watch is not None and (not query or lengths != sides[query - 1]):
                watch(query, delta, wrongness, None)
            tried = _whole(problem, delta + settings.step * _squares(places, corners[query], lengths, signs[query]))
            wrongness_there, score_there = problem.seen(tried)
            worse = (wrongness_there > wrongness) | ((wrongness_there == wrongness) & (score_there > score))
            # Of which all is wrong stays as it is; the host is not asked whether any is left.
            worse &= wrongness < 1
            delta = torch.where(worse.view(-1, *[1] * (delta.ndim - 1)), tried, delta)
            wrongness, score = torch.where(worse, wrongness_there, wrongness), torch.where(worse, score_there, score)
    return delta


def _squares(places: Sequence[Tensor], corners: Tensor, sides: Sequence[int], signs: Tensor) -> Tensor:
    """(n, C, *spatial): each channel's sign within each sample's square, 0 elsewhere."""
    axes = len(places)
    found = signs.view(*signs.shape, *[1] * axes)
    for axis, (place, side) in enumerate(zip(places, sides, strict=True)):
        first = corners[:, axis : axis + 1]
        within = (place >= first) & (place < first + side)
        found = found * within.view(len(within), 1, *[-1 if other == axis else 1 for other in range(axes)])
    return found


def _whole(problem: Problem, delta: Tensor) -> Tensor:
    """On the lattice and within the bounds: what could be stored."""
    return to_integers(delta, problem.low, problem.high).to(problem.images)


def _generator(what: str, seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed_of(what, seed)))
