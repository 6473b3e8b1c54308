"""Properties that hold for every attack and setting: the ball, the lattice, the region, the batch."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.attacks.attack_cases import ALONE, HU, LEVEL8, classifier, images, labels, segmenter, settings

from medadv.attacks.engine import perturb
from medadv.attacks.feasible import first_iterates
from medadv.spec.attack import UNUSED, AttackSettings

VICTIM = segmenter(2, classes=2)


@st.composite
def attack_settings(draw: st.DrawFn) -> dict[str, Any]:
    name = draw(st.sampled_from(ALONE))
    chosen: dict[str, Any] = {
        "attack": name,
        "epsilon": draw(st.one_of(st.integers(0, 300), st.floats(1, 40))),
        "step": draw(st.one_of(st.integers(1, 60), st.floats(0.1, 20))),
        "steps": 1 if name == "fgsm" else draw(st.integers(1, 3)),
        # Without momentum there is none to look ahead along.
        "momentum": draw(st.sampled_from([0.5, 1.0] if name == "nifgsm" else [0.0, 0.5, 1.0])),
        "gradient_sigma": draw(st.sampled_from([None, 1.0])),
        "gradient_kernel_size": 3,
        "sigma": draw(st.floats(0.3, 3)),
        "kernel_size": draw(st.sampled_from([3, 5])),
        "loss": draw(st.sampled_from(["ce", "dice_ce", "margin"])),
    }
    for unused in UNUSED.get(name, {}):
        chosen.pop(unused, None)
    if not name.startswith("smia"):
        chosen["random_start"] = draw(st.booleans())
    if name == "smia":
        chosen |= {"weight": draw(st.floats(0, 3)), "smooth": draw(st.sampled_from(["perturbation", "image"]))}
        chosen["stop_gradient"] = draw(st.booleans())
    return chosen


@budget(max_examples=60, deadline=None)
@given(chosen=attack_settings(), hu=st.booleans(), seed=st.integers(0, 2**32), use_region=st.booleans(), single=st.booleans())
def test_ball_lattice_and_region(chosen: dict[str, Any], hu: bool, seed: int, use_region: bool, single: bool) -> None:
    lattice = HU if hu else LEVEL8
    victim = VICTIM
    batch = images(2, 1, 8, 9, seed=seed, low=lattice.low, high=lattice.high)
    region = None
    if use_region:
        # Any nonzero value allows: masks come as 1 or as 255.
        region = torch.zeros(2, 1, 8, 9, dtype=torch.float64)
        region[:, :, 2:6, 3:7] = 255
    if single:
        batch = batch.float()
        victim = segmenter(2, classes=2)
        victim.module.float()
    resolved = AttackSettings.model_validate(chosen)
    found = perturb(victim, batch, labels(2, 2, 8, 9), resolved, lattice=lattice, seeds=[seed, seed + 1], region=region)
    assert found.dtype == torch.int16
    assert found.abs().max() <= math.floor(resolved.epsilon)
    adversarial = batch + found
    assert adversarial.min() >= lattice.low
    assert adversarial.max() <= lattice.high
    if region is not None:
        assert not found[(region == 0).expand_as(found)].any()
        # Without momentum or a random start one whole step cannot cancel out; a square may be turned down.
        free = resolved.steps > 1 or resolved.random_start or min(resolved.epsilon, resolved.step) < 1 or resolved.attack == "square"
        assert free or found.any()


@pytest.mark.parametrize("attack", ALONE)
def test_epsilon_zero_is_the_identity(attack: str) -> None:
    found = perturb(VICTIM, images(2, 1, 16, 16), labels(2, 2, 16, 16), settings(attack, 0, step=1), lattice=LEVEL8, seeds=[1, 2])
    assert not found.any()


@pytest.mark.parametrize("attack", ["pgd", "mifgsm", "smia", "apgd", "square"])
def test_a_sample_does_not_depend_on_its_neighbours(attack: str) -> None:
    """In exact arithmetic. In floating point a batch of another size may sum in another order, and a gradient next to zero change its
    sign; fp64 makes that rare enough to be seen as equality here, fp32 does not, which is why a plan fixes its batches."""
    victim, batch, truth = classifier(), images(4, 3, 16, 16), labels(4, 4)
    chosen = settings(attack, steps=30 if attack in UNUSED else 4)
    together = perturb(victim, batch, truth, chosen, lattice=LEVEL8, seeds=[1, 2, 3, 4])
    alone = [perturb(victim, batch[i : i + 1], truth[i : i + 1], chosen, lattice=LEVEL8, seeds=[i + 1]) for i in range(4)]
    assert torch.equal(together, torch.cat(alone))
    turned = perturb(victim, batch.flip(0), truth.flip(0), chosen, lattice=LEVEL8, seeds=[4, 3, 2, 1])
    assert torch.equal(together, turned.flip(0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "hard", "stop_gradient": True, "weight": 1.0}, "cancels the gradient"),
        ({"target": "hard", "weight": 0.5}, "no gradient to follow"),
        ({"smooth": "last_step"}, "stop_gradient: true"),
        ({"kernel_size": 4}, "must be odd"),
        ({"epsilon": -1}, "greater than or equal to 0"),
        ({"step": 0}, "greater than 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        settings("smia", **changes)


def test_hard_target_at_weight_one_would_cancel() -> None:
    """Why the combination is refused: where the answer has not flipped, both cross-entropies are the same."""
    victim, batch = classifier(), images(2, 3, 16, 16)
    logits = victim.forward(batch)
    unflipped = logits.argmax(1)
    chosen = settings("smia", target="hard", stop_gradient=True, weight=0.5)
    difference = victim.deviation(logits, unflipped, chosen) - victim.divergence(logits.detach(), logits, chosen)
    assert not difference.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: (images(1, 1, 8, 8).to(torch.int16), [0]), "floating point"),
        (lambda: (images(1, 1, 8, 8) / 255, [0]), "stored units"),
        (lambda: (images(1, 1, 8, 8), [0, 1]), "2 seeds for 1 images"),
        (lambda: (images(1, 1, 8, 8, low=-50), [0]), "not on the lattice"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(change, message: str) -> None:  # type: ignore[no-untyped-def]
    batch, seeds = change()
    with pytest.raises(ValueError, match=message):
        perturb(VICTIM, batch, labels(1, 2, 8, 8), settings("pgd"), lattice=LEVEL8, seeds=seeds)


def test_millimetres_need_a_spacing() -> None:
    with pytest.raises(ValueError, match="sigma_unit: voxel"):
        perturb(VICTIM, images(1, 1, 8, 8), labels(1, 2, 8, 8), settings("smia", sigma_unit="mm"), lattice=LEVEL8, seeds=[0])


def test_a_given_start_is_brought_inside_ball_range_region_and_lattice() -> None:
    image = torch.tensor([0.0, 255, 100, 100, 3]).view(1, 1, 1, 5)
    given_ = torch.tensor([7, 7, 7, 7, -7], dtype=torch.int16).view(1, 1, 1, 5)
    region = torch.tensor([1.0, 1, 1, 0, 1]).view(1, 1, 1, 5)
    assert first_iterates(image, given_, [None], 2.5, LEVEL8, region).flatten().tolist() == [2, 0, 2, 0, -2]
    drawn = first_iterates(image, given_, [3], 2.5, LEVEL8, region)
    # Steps too short to leave a whole number.
    short = settings("pgd", 2.5, step=1e-9, steps=1)
    begun = perturb(VICTIM, image.double(), labels(1, 2, 1, 5), short, lattice=LEVEL8, seeds=[3], region=region)
    assert torch.equal(drawn, begun)
