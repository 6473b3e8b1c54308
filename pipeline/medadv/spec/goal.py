"""What is an attack for? Any answer that is not the truth, or one that its maker names."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, StrictInt, StrictStr, model_serializer

from medadv.spec.base import Settings

WORDS = ("untruth", "vanish", "fabricate")


class ClassGoal(Settings):
    """The answer is to be one class.

    Frozen settings have the index: None is only as long as nobody asked the data.
    """

    name: StrictInt | StrictStr = Field(alias="class", description="name that the data give the class, or its index")
    index: StrictInt | None = Field(
        None, description="of the class in the labels, those of masks and boxes counted from 1; put in when a plan is frozen"
    )

    @model_serializer(mode="wrap")
    def _without_what_means_nothing_new(self, dump: SerializerFunctionWrapHandler) -> Any:
        # Whoever dumps it: a frozen setting says `class`, as a spec does.
        return {"class": self.name} if self.index is None else {"class": self.name, "index": self.index}


def _read(value: Any) -> Any:
    """In one line, whatever is wrong: a union would tell what is wrong by each of its members."""
    if isinstance(value, ClassGoal) or (isinstance(value, str) and value in WORDS):
        return value
    if not isinstance(value, Mapping) or not {"class"} <= set(value) <= {"class", "index"}:
        raise ValueError(f"is no goal: take {', '.join(WORDS)}, or {{class: NAME}}")
    name, index = value["class"], value.get("index")
    if isinstance(name, bool) or not isinstance(name, int | str):
        raise ValueError(f"class: {name!r} is neither a name nor an index; put a name that YAML reads as something else in quotes")
    if isinstance(index, bool) or not isinstance(index, int | None) or (isinstance(name, int) and index not in (None, name)):
        raise ValueError(f"index={index!r} is not that of class {name!r}: leave index out")
    index = name if isinstance(name, int) else index
    if index is not None and index < 0:
        raise ValueError(f"class: there is no class {index}")
    return ClassGoal(name=name, index=index)


Goal = Literal["untruth", "vanish", "fabricate"] | ClassGoal
GoalSetting = Annotated[Goal, BeforeValidator(_read)]


def meaningless(goal: Goal, task: str, head: str) -> str | None:
    """Why a goal means nothing for a task, with what to do; None where it means something.  head: softmax, sigmoid or binary."""
    if goal == "untruth":
        return None
    if task == "classification":
        if not isinstance(goal, ClassGoal):
            return f"{goal} is for masks and boxes; a class takes untruth, or {{class: NAME}}"
        if head == "sigmoid":
            return "class: labels of a sigmoid head are answered one by one, so that none is the answer; take untruth"
    elif isinstance(goal, ClassGoal) and goal.index == 0:
        return "class: 0 is the background; take vanish, or a class from 1 on"
    return None


def index_of(goal: ClassGoal) -> int:
    """The class in the labels. ValueError where only its name is known."""
    if goal.index is None:
        raise ValueError(f"goal.class={goal.name!r} is a name, and nothing here says which class has it: give the class's index")
    return goal.index


def in_words(goal: Goal, task: str) -> str:
    """What success means, as a clause."""
    things = {"segmentation": "the foreground", "detection": "the true boxes"}.get(task, "the answer")
    if isinstance(goal, ClassGoal):
        verb = "become" if task == "detection" else "becomes"
        return f"{things} {verb} {goal.name}" if isinstance(goal.name, str) else f"{things} {verb} class {goal.name}"
    if goal == "vanish":
        return f"{things} vanish{'' if task == 'detection' else 'es'}"
    if goal == "fabricate":
        return "foreground is invented" if task == "segmentation" else "a box is invented"
    return "the answer is no longer the truth"
