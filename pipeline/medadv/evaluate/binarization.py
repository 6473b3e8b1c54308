"""Would the attack find an adversarial example that is certainly there? The binarization test of attacks on a classifier.

Zimmermann, Brendel, Tramèr, Carlini: Increasing Confidence in Adversarial Robustness Evaluations, NeurIPS 2022 (arXiv 2206.13991). Per
sample the last linear layer is replaced by one of two classes, which tells points well inside the epsilon ball from one at its boundary.
That point is an adversarial example of the new classifier by construction, so that an attack which seldom finds one is too weak to say that
a model with these features is robust. How seldom random points find one says that the problem is not too easy.

On the lattice: inner points are whole numbers within 0.95 of epsilon (all of the ball where that leaves the image alone, below epsilon 2);
the boundary point is a corner of the ball, cut to the lattice's range and the region. Where the features do not tell the points apart, and
no such problem can be built, the sample is left out and counted. The model is attacked as it is scored, in fp32.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from medadv.attacks.feasible import feasible_box, random_start
from medadv.attacks.untouched import untouched
from medadv.batches.batch import Batch
from medadv.batches.bench import AttackBench
from medadv.common.hashing import seed_of
from medadv.common.record import Closed, Count
from medadv.datasets.labels import Array
from medadv.evaluate.last_layer import Binary, Features, last_linear
from medadv.prepare.losses import fitted
from medadv.spec.attack import AttackSettings
from medadv.victims.tasks.classification import Classifier
from medadv.victims.victim import Victim

PASSING = 0.95
"""Success that a sound attack reaches, as the authors ask for."""
EASY = 0.5
"""Random points that succeed on more of the samples than this make the test say little."""
INNER = 0.95
"""Radius of the inner points, as a share of epsilon."""
INNER_POINTS = 127
RANDOM_POINTS = 128
ROUNDING = 1e-5
"""Features that differ by less than this share of the largest one are equal but for single precision."""
TOLD = 0.1
"""How far apart a plane holds the boundary point, whose answer should be 1, and the inner ones, whose answer should be 0."""
CLOSENESS = 0.999
"""How near the plane lies to the boundary point, on the way from the nearest inner one."""
SAMPLES = 8


class Binarization(Closed):
    """What the test found, or why it was not done."""

    samples: Count = Field(description="on which a problem could be built, and the attack was tried")
    left_out: Count = Field(description="samples whose features do not tell inner points from the boundary point")
    success: float | None = Field(description="share of the samples on which the attack found what is there; null without any")
    random_success: float | None = Field(description="share of the samples on which any of some random points of the ball did")
    not_done: str | None = Field(description="why there is no result")
    warnings: list[str]


def binarization(
    victim: Victim,
    batch: Batch,
    settings: AttackSettings,
    seeds: Sequence[int],
    *,
    samples: int = SAMPLES,
    batch_size: int = 32,
) -> Binarization:
    """Test an attack on the first samples of a batch.

    Args:
        victim: a classifier whose last linear layer can be found; of others the test says that it is not done.
        batch: samples on the victim's device; their labels are not read.
        settings: the attack; with an epsilon of at least 1.
        seeds: one per sample.
        samples: at most so many.
        batch_size: points per pass; the attack itself goes sample by sample, since each has a classifier of its own.
    """
    scored = victim.scored
    if scored.task != "classification":
        return _not_done(f"it is for classifiers, and the task is {scored.task}")
    if settings.epsilon < 1:
        return _not_done("an epsilon below 1 allows no perturbation on the lattice")
    if not len(batch):
        return _not_done("there are no samples")
    layer = last_linear(scored.module, batch.images[:1])
    if layer is None:
        return _not_done("no linear layer answers the logits")
    features = Features(scored.module, layer)
    tried, found, randomly = 0, 0, 0
    rows = range(min(samples, len(batch)))
    for row in rows:
        one = batch.chosen([row])
        binary = _problem(features, one, settings.epsilon, seeds[row], batch_size)
        if binary is None:
            continue
        tried += 1
        found += _attacked(victim, binary, one, settings, seeds[row])
        randomly += _by_chance(binary, one, settings.epsilon, seeds[row], batch_size)
    success, chance = (count / tried if tried else None for count in (found, randomly))
    return Binarization(
        samples=tried,
        left_out=len(rows) - tried,
        success=success,
        random_success=chance,
        not_done=None if tried else "the features of no sample tell inner points from the boundary point",
        warnings=_warnings(success, chance),
    )


def _not_done(why: str) -> Binarization:
    return Binarization(samples=0, left_out=0, success=None, random_success=None, not_done=why, warnings=[])


def _warnings(success: float | None, chance: float | None) -> list[str]:
    if success is None or chance is None:
        return []
    texts = []
    if success < PASSING:
        texts.append(f"The attack finds {success:.0%} of the adversarial examples that the binarization test puts there: it is too weak.")
    if chance > EASY:
        texts.append(f"Random points solve the binarization test on {chance:.0%} of the samples: passing it says little.")
    return texts


def _attacked(victim: Victim, binary: Binary, one: Batch, settings: AttackSettings, seed: int) -> bool:
    """Whether the attack moves the sample across the plane, with the loss and the wrong classes that two classes have."""
    judge = Classifier(binary, "softmax", 2)
    inner = Batch(one.images, [np.asarray(0, np.int64)], one.ids, one.lattice, one.region, one.spacing_mm)
    bench = AttackBench(Victim(judge, judge, victim.identity), inner, [seed], 1)
    name = "binarization"
    across = fitted({name: settings.model_copy(update={"goal": "untruth"})}, judge)[0][name]
    return bool(bench.each(bench.attack(across), judge, "untruth")[0])


def _by_chance(binary: Binary, one: Batch, epsilon: float, seed: int, batch_size: int) -> bool:
    """Whether any of the random points does, half of them from the ball and half from its corners."""
    ball = _Ball.around(one, epsilon)
    points = [ball.within(epsilon, seed_of("binarization", seed, "random", index)) for index in range(RANDOM_POINTS // 2)]
    points += [ball.corner(seed_of("binarization", seed, "random corner", index)) for index in range(RANDOM_POINTS // 2)]
    return bool((binary.answer(_features(binary.features, one.images + torch.cat(points), batch_size)) > 0).any())


@dataclass(frozen=True, eq=False)
class _Ball:
    """Perturbations of one sample on the lattice.  low, high: (1, C, *spatial), whole."""

    low: Tensor
    high: Tensor

    @classmethod
    def around(cls, one: Batch, epsilon: float) -> "_Ball":
        low, high = feasible_box(one.images, epsilon, one.lattice, one.region)
        return cls(low.ceil(), high.floor())

    def within(self, radius: float, seed: int) -> Tensor:
        """Uniform whole numbers of the radius."""
        return torch.minimum(torch.maximum(random_start(self.low.shape, radius, seed).to(self.low), self.low), self.high)

    def corner(self, seed: int) -> Tensor:
        """Each voxel at one end or the other."""
        side = np.random.Generator(np.random.Philox(key=seed)).integers(0, 2, self.low.shape, dtype=np.int8)
        return torch.where(torch.from_numpy(side).to(self.low) == 0, self.low, self.high)


def _problem(features: Features, one: Batch, epsilon: float, seed: int, batch_size: int) -> Binary | None:
    """The binary classifier of a sample; None where no plane tells its inner points from its boundary point."""
    ball = _Ball.around(one, epsilon)
    radius = INNER * epsilon if math.floor(INNER * epsilon) >= 1 else epsilon
    count = max(1, min(INNER_POINTS, features.layer.in_features // 2))
    inner = [ball.within(radius, seed_of("binarization", seed, "inner", index)) for index in range(count)]
    boundary = ball.corner(seed_of("binarization", seed, "boundary"))
    # The image itself is the point that the attack starts from, and the first of the inner ones.
    points = torch.cat([torch.zeros_like(boundary), *inner, boundary])
    values = _features(features, one.images + points, batch_size)
    plane = _plane(values.cpu().numpy())
    if plane is None:
        return None
    weight, bias = plane
    return Binary(features, torch.from_numpy(weight).to(values.device), torch.tensor(bias, dtype=torch.float64, device=values.device))


def _plane(values: Array) -> tuple[Array, float] | None:
    """Weight (F,) and bias of the plane between all rows but the last, and the last, (n, F) float64; None where none is found.

    The shortest weight that answers the inner points with 0 and the last with 1, by least squares; then the plane is moved towards the
    last, so that what crosses it goes as far as the last does.
    """
    centre = values[:-1].mean(0)
    moved = values - centre
    if np.abs(moved[-1]).max() <= ROUNDING * np.abs(values).max():
        return None
    weight = np.linalg.lstsq(moved, np.array([0.0] * (len(values) - 1) + [1.0]), rcond=ROUNDING)[0]
    answers = moved @ weight
    nearest, last = answers[:-1].max(), answers[-1]
    # The shortest weight answers the last point with 1, if it can be told from the rest.
    if last - nearest <= TOLD:
        return None
    cut = nearest + CLOSENESS * (last - nearest)
    # The whole way from the nearest inner point to the last is 1, so that no answer saturates the loss.
    scale = 1 / (last - nearest)
    return weight * scale, float(-(cut + centre @ weight) * scale)


def _features(features: Features, images: Tensor, batch_size: int) -> Tensor:
    """(n, F) float64."""
    with untouched(features.module), torch.no_grad():
        return torch.cat([features(part).double() for part in images.split(batch_size)])
