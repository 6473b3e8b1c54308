"""The checklist flips with the corpus: what is measured is answered by its figure, what is not is `not done`."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.report.test_drops import columns

from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import Against, Manifest, Rung, SanityReport, read_manifest
from medadv.report.answers import Facts
from medadv.report.build import compared_results
from medadv.report.checklist import POINTS, checklist
from medadv.report.columns import Columns
from medadv.report.estimates import metrics
from medadv.report.record import Answer
from medadv.spec.attack import AttackSettings

SOUND = SanityReport(
    samples=4,
    sample_ids=[],
    warnings=[],
    attack="a",
    epsilon_ladder=[Rung(epsilon=epsilon, success=success) for epsilon, success in ((0, 0), (4, 0.25), (8, 0.5), (16, 0.75))],
    steps_ladder=[Rung(steps=steps, success=success) for steps, success in ((1, 0.25), (5, 0.5), (10, 0.5), (20, 0.75))],
    huge_epsilon=Rung(epsilon=64, success=1),
    noise=Against(success=0.25, white_box=0.5),
    zero_gradients=0.125,
)
PGD = {"attack": "pgd", "epsilon": 8, "steps": 10}
SQUARE = {"attack": "square", "epsilon": 8}


@pytest.fixture(scope="module")
def manifest(tiny_corpus: Path) -> Manifest:
    return read_manifest(Workspace(tiny_corpus))


def two(second: list[float] | None = None) -> Columns:
    """Four samples, of which attack `a` fools the first two; `b` those that are told."""
    truths = [np.asarray(v, np.int64) for v in (0, 0, 1, 1)]
    right = [0.9] * 4
    found = columns("classification", truths, truths, truths, (right, [0.1, 0.1, 0.9, 0.9]), list("abcd"))
    if second is not None:
        found.attacks["b"] = columns("classification", truths, truths, truths, (right, second), list("abcd")).attacks["a"]
    return found


def answered(manifest: Manifest, found: Columns, attacks: dict[str, dict[str, Any]], sanity: SanityReport | None) -> dict[str, Answer]:
    settings = {name: AttackSettings.model_validate(value) for name, value in attacks.items()}
    facts = manifest.model_copy(update={"attacks": settings, "sanity": sanity})
    overall = {name: metrics(found, attack) for name, attack in found.attacks.items()}
    results = list(compared_results(facts, found, overall))
    return {each.point: each for each in checklist(Facts(facts, found, results, "grey levels"))}


def test_every_point_is_answered_or_not_done(manifest: Manifest) -> None:
    found = answered(manifest, two(), {"a": PGD}, SOUND)
    assert len(found) == len(POINTS) == 28
    assert all(each.found for each in found.values())
    assert {each.part for each in found.values()} == {"severe flaws", "pitfalls", "special cases"}


@pytest.mark.parametrize(
    ("point", "figure"),
    [
        ("Many steps do better than one", "25% after 1 step, 75% after 20"),
        ("More epsilon, more success", "0% at 0, 25% at 4, 50% at 8, 75% at 16 grey levels, on 4 samples"),
        ("With a huge epsilon nothing is left of the model", "100% at 64 grey levels"),
        ("Success over epsilon, until all samples fall", "; all of the samples in the end"),
        ("Adaptive attacks do better than any other", "noise 25%, the attack 50%"),
        ("Attacks have converged: twice the steps do no better", "50% after 10 steps, 75% after 20"),
        ("What is not differentiable is accounted for", "12.5%"),
        ("Random noise of the same size", "25%, the attack 50%"),
        ("Settings of the attacks were investigated", "4 epsilons and 4 numbers of steps"),
    ],
)
def test_a_point_flips_with_the_checks(manifest: Manifest, point: str, figure: str) -> None:
    with_checks, without = (answered(manifest, two(), {"a": PGD}, sanity)[point] for sanity in (SOUND, None))
    assert with_checks.done
    assert figure in with_checks.found
    assert not without.done


@pytest.mark.parametrize(
    ("point", "attacks", "second", "figure"),
    [
        ("Attacks are diverse", {"b": SQUARE}, [0.9] * 4, "2 ways of searching: queries alone, steps along the sign"),
        ("A gradient-free attack", {"b": SQUARE}, [0.9, 0.9, 0.1, 0.9], "a 50%, b 25%"),
        ("Targeted and untargeted attacks", {"b": {**PGD, "goal": {"class": 1}}}, [0.9] * 4, "towards a goal: b; away from the truth: a"),
        ("There are enough random restarts", {"b": {**PGD, "restarts": 5}}, [0.9] * 4, "from 5 starts"),
    ],
)
def test_a_point_flips_with_the_attacks(manifest: Manifest, point: str, attacks: dict[str, Any], second: list[float], figure: str) -> None:
    alone = answered(manifest, two(), {"a": PGD}, SOUND)[point]
    both = answered(manifest, two(second), {"a": PGD, **attacks}, SOUND)[point]
    assert not alone.done
    assert both.done
    assert figure in both.found


def test_more_of_the_same_is_not_diverse(manifest: Manifest) -> None:
    found = answered(manifest, two([0.9] * 4), {"a": PGD, "b": {"attack": "smia", "epsilon": 8}}, SOUND)
    assert not found["Attacks are diverse"].done


def test_black_box_is_held_against_white_box_sample_by_sample(manifest: Manifest) -> None:
    """Square fools the third sample alone, which PGD does not: as shares 25 % is less than 50 %, and yet it is a sign."""
    found = answered(manifest, two([0.9, 0.9, 0.1, 0.9]), {"a": PGD, "b": SQUARE}, SOUND)
    assert "1 of 4 samples fall to answers alone (b)" in found["Adaptive attacks do better than any other"].found
    assert "3 of 4 samples (75%)" in found["Success for each sample, over all attacks"].found


def test_transfer_needs_a_second_model(manifest: Manifest) -> None:
    with_second = SOUND.model_copy(update={"transfer": Against(success=0.125, white_box=0.5)})
    point = "Transfer from a similar model"
    assert not answered(manifest, two(), {"a": PGD}, SOUND)[point].done
    assert "12% on the second model" in answered(manifest, two(), {"a": PGD}, with_second)[point].found


def test_answers_alone_are_no_adaptive_attack(manifest: Manifest) -> None:
    point = "Attacks are adaptive: the whole model, end to end"
    assert answered(manifest, two(), {"a": PGD}, SOUND)[point].done
    square = answered(manifest, two(), {"a": SQUARE}, SOUND)
    assert not square[point].done
    assert "answers alone" in square["The threat model is stated: goals, knowledge, capabilities, bound"].found


def test_a_truth_that_is_the_victims_own_answer_is_no_clean_metric(manifest: Manifest) -> None:
    own = manifest.model_copy(update={"data": manifest.data.model_copy(update={"label": "prediction"})})
    point = "The clean metric is reported"
    assert answered(manifest, two(), {"a": PGD}, SOUND)[point].done
    assert not answered(own, two(), {"a": PGD}, SOUND)[point].done
