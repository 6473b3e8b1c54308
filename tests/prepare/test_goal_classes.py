"""Names of classes and the indices that they stand for, task by task; what cannot be meant is told with what can."""

from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from medadv.common.errors import SpecError
from medadv.prepare.goal_classes import with_indices
from medadv.spec.attack import AttackSettings
from medadv.victims.tasks.classification import Classifier
from medadv.victims.tasks.segmentation import Segmenter

VICTIMS: dict[str, Any] = {
    "classes": Classifier(nn.Identity(), "softmax", 3),
    "masks": Segmenter(nn.Identity(), "softmax", 4, 2),
    "masks of several": Segmenter(nn.Identity(), "sigmoid", 3, 2),
    "boxes": SimpleNamespace(task="detection", classes=4),
    "one class": Segmenter(nn.Identity(), "softmax", 2, 2),
}
NAMES = ["a", "b", "c"]


def index_for(victim: str, goal: Any, names: list[str] | None) -> int | None:
    settings = AttackSettings.model_validate({"attack": "pgd", "epsilon": 4, "goal": goal})
    return with_indices({"x": settings}, VICTIMS[victim], names)["x"].goal.index


@pytest.mark.parametrize(("victim", "first"), [("classes", 0), ("masks", 1), ("masks of several", 1), ("boxes", 1)])
def test_names_are_counted_from_the_tasks_first_class(victim: str, first: int) -> None:
    assert [index_for(victim, {"class": name}, NAMES) for name in NAMES] == [first, first + 1, first + 2]
    assert index_for(victim, {"class": 2}, NAMES) == index_for(victim, {"class": 2}, None) == 2
    assert index_for(victim, {"class": "b", "index": first + 1}, NAMES) == first + 1
    # Of data that name nothing, who says both is believed.
    assert index_for(victim, {"class": "b", "index": 2}, None) == 2


@pytest.mark.parametrize(
    ("victim", "goal", "names", "said"),
    [
        ("classes", "d", NAMES, "attacks.x.goal.class='d': the data know no such class; they name a, b, c"),
        ("classes", "d", [f"n{i}" for i in range(25)], "n19 and 5 more"),
        ("classes", "d", None, "the data name no classes; give its index"),
        ("classes", 3, NAMES, "answers classes 0 to 2, and this is class 3"),
        ("boxes", 4, NAMES, "answers classes 1 to 3, and this is class 4"),
        ("masks of several", 4, NAMES, "answers classes 1 to 3, and this is class 4"),
        ("masks", "background", ["background", "b"], "the background is no class to become"),
        ("one class", 1, ["lung"], "answers one class alone, so that nothing can become it"),
    ],
)
def test_what_cannot_be_meant(victim: str, goal: Any, names: list[str] | None, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        index_for(victim, {"class": goal}, names)
    assert said in str(caught.value)


def test_other_goals_stay_as_they_are() -> None:
    made = {goal: AttackSettings.model_validate({"attack": "pgd", "epsilon": 4, "goal": goal}) for goal in ("untruth", "vanish")}
    assert with_indices(made, VICTIMS["masks"], None) == made


@pytest.mark.parametrize("place", ["ensemble", "member"])
def test_an_ensemble_has_no_goal(place: str) -> None:
    goal = {"goal": "vanish"}
    members = [{"attack": "pgd", **(goal if place == "member" else {})}]
    whole = {"attack": "ensemble", "epsilon": 4, "members": members, **(goal if place == "ensemble" else {})}
    with pytest.raises(ValueError, match="goal: an ensemble keeps the answer that is worst by the truth"):
        AttackSettings.model_validate(whole)
