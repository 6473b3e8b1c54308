"""Which corpus does an evaluation make? For each epsilon an ensemble of the task's strongest attacks, each started from the one before.

Larger balls hold smaller ones: what is broken at a small epsilon is broken at every larger one, and costs nothing there.
"""

from collections.abc import Sequence

from pydantic import JsonValue, ValidationError

from medadv.common.errors import SpecError
from medadv.spec.data import Task
from medadv.spec.evaluation import EvaluationSettings, resolved
from medadv.spec.run_spec import RunSpec

_FIVE_STARTS: list[dict[str, JsonValue]] = [{"attack": "apgd", "steps": 50}] * 5
STRONGEST: dict[Task, list[dict[str, JsonValue]]] = {
    "classification": [
        {"attack": "apgd", "loss": "ce", "steps": 50},
        {"attack": "apgd", "loss": "dlr", "target_classes": 9, "steps": 50},
        {"attack": "square", "steps": 500},
    ],
    "segmentation": [{"attack": "sea", "steps": 50}, {"attack": "square", "steps": 500}],
    # Each start is an attack by itself: of several starts of one attack the loss would choose, and here the score of the answer does.
    "detection": [*_FIVE_STARTS, {"attack": "square", "steps": 500}],
}
"""The set of each task. AutoAttack's own has 100 steps and 5,000 queries: `evaluation.attacks` says so where time is no matter."""
SUFFIX = "-evaluation"
LONGEST_NAME = 100


def attack_name(epsilon: float) -> str:
    """What the ensemble of an epsilon is called in the corpus."""
    return f"worst-{epsilon:g}"


def evaluation_of(spec: RunSpec, epsilons: Sequence[float] | None = None) -> RunSpec:
    """The spec of the corpus that answers how robust a spec's victim is.

    epsilons: stored units; the spec's own where none are given, else the largest of its attacks.
    Raises SpecError where an epsilon or an attack is wrong.
    """
    spec.alone("evaluate")
    settings = spec.evaluation or EvaluationSettings()
    attacks = settings.attacks or STRONGEST[spec.data.task]
    given = list(epsilons or settings.epsilons or [max(attack.epsilon for attack in spec.attacks.values())])
    if (least := min(given)) < 1:
        raise SpecError(
            f"an evaluation at epsilon {least:g} moves no stored value, and measures the clean images in any case: name epsilons from 1 on"
        )
    ensembles: dict[str, JsonValue] = {}
    before: str | None = None
    told_apart: dict[str, JsonValue] = {
        "ties": "margin" if spec.data.task == "detection" else "first",
        # An answer of several labels is rarely wrong in all of them, and what is reported is how many are right.
        "rank": "labels" if spec.data.task == "classification" and spec.victim.head == "sigmoid" else "score",
        "starts": "own" if any(attack in attacks[:at] for at, attack in enumerate(attacks)) else "shared",
    }
    for epsilon in sorted(set(given)):
        name = attack_name(epsilon)
        try:
            members: list[JsonValue] = [resolved(attack, at, epsilon).model_dump(mode="json") for at, attack in enumerate(attacks)]
        except ValueError as error:
            raise SpecError(f"evaluation.{error}") from None
        ensembles[name] = {"attack": "ensemble", "epsilon": epsilon, "members": members, "start": before, **told_apart}
        before = name
    changed = {
        **spec.model_dump(mode="json", by_alias=True, exclude={"evaluation", "hardening"}),
        "name": spec.name[: LONGEST_NAME - len(SUFFIX)] + SUFFIX,
        "attacks": ensembles,
        "output": f"evaluations/{spec.name}/corpus",
    }
    try:
        return RunSpec.model_validate(changed)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise SpecError(f"evaluation: {first['msg'].removeprefix('Value error, ')}") from None
