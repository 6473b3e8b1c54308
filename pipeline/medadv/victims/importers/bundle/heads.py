"""Is an answer of a bundle one of several classes, or each by itself? By its postprocessing; where that is silent, by names and number."""

import re
from typing import Any

from medadv.victims.importers.bundle.arguments import word
from medadv.victims.importers.bundle.found import Found
from medadv.victims.importers.bundle.networks import FoundNetwork
from medadv.victims.importers.bundle.outputs import Metadata, excludes
from medadv.victims.importers.bundle.transforms import LABELS
from medadv.victims.importers.bundle.values import Component, Unreadable, Value, components

PLACES = ("postprocessing", "validate::postprocessing", "inference::postprocessing", "val::postprocessing", "train::postprocessing")
ANSWER = "pred"
"""MONAI's key of what a network answers."""
ENDING = re.compile(r"(Dict|d|D)$")
"""Of the names of transforms that take dictionaries."""
VALUES_STAY = (
    *("Activations", "AsDiscrete", "CastToType", "CopyItems", "DataStats", "DeleteItems", "EnsureChannelFirst", "EnsureType"),
    *("FromMetaTensor", "Identity", "Invert", "MeanEnsemble", "SaveImage", "SelectItems", "SqueezeDim"),
    *("ToDevice", "ToMetaTensor", "ToTensor"),
)
"""Transforms behind which a probability still is one; activations that are on are asked for before."""
Head = dict[str, str]


def read_head(found: Found, metadata: Metadata, network: FoundNetwork, said: str | None = None) -> Head:
    """Head and activation, as a spec writes them.  said: the spec's own head, which is taken where the bundle tells none.

    Raises SpecError where neither postprocessing nor the number or the names of the outputs tell it.
    """
    place = next((name for name in PLACES if found.configuration.has(name)), None)
    after = found.configuration.get(place) if place else None
    transforms = [each for each in components(after) if not each.own and not _of_labels(found, each)]
    activations = [each for each in transforms if each.name.startswith("Activations")]
    discrete = [each for each in transforms if each.name.startswith("AsDiscrete")]
    sigmoid, softmax = (any(True in _plain(found, each, name) for each in activations) for name in ("sigmoid", "softmax"))
    argmax = any(True in _plain(found, each, "argmax") for each in discrete)
    thresholds = [value for each in discrete for value in _plain(found, each, "threshold")]
    by_itself: Head = {"head": "binary" if network.classes == 1 else "sigmoid"}
    hidden = _hidden(found, after)
    if others := [(each, value) for each in activations for value in _of_answer(found, each, each.argument("other"))]:
        why = f"{others[0][0].key} is {others[0][0].name} with other={word(others[0][1])}"
    elif sigmoid and softmax:
        why = f"{place} has both sigmoid and softmax"
    elif sigmoid:
        _note_threshold(found, thresholds)
        return by_itself
    elif network.network == "monai:vista3d132":
        return by_itself
    elif softmax or argmax:
        return {"head": "softmax"}
    elif thresholds and not hidden:
        found.note("answers are compared with a threshold as they are, so the network is taken to answer probabilities")
        _note_threshold(found, thresholds)
        return {**by_itself, "activation": "sigmoid"}
    elif thresholds:
        why = f"what answers are before {place} compares them with a threshold is not known ({hidden})"
    else:
        why = f"{place} says neither softmax nor sigmoid" if place else "no postprocessing says softmax or sigmoid"
        why += f" that can be read ({hidden})" if hidden else ""
    # A threshold for each output speaks against what their names say.
    return _otherwise(found, network, said, why, exclusive=not thresholds and excludes(metadata, network))


def _otherwise(found: Found, network: FoundNetwork, said: str | None, why: str, *, exclusive: bool) -> Head:
    """The head where postprocessing does not tell.  Raises SpecError where nothing does.

    why: what postprocessing says instead.  exclusive: whether the outputs' names say that one alone holds.
    """
    if said is not None:
        found.note(f"{why}: the spec's victim.head is taken, {said}")
        return {"head": said}
    if network.classes == 1:
        found.note(f"{why}: the one output can be no softmax, and is taken for the logit of a sigmoid (head: binary)")
        return {"head": "binary"}
    if exclusive:
        found.note(f"{why}: metadata.json names background among the outputs, so they exclude one another (head: softmax)")
        return {"head": "softmax"}
    raise found.configuration.refused(
        f"{why}, and its outputs may be one of several classes, or each a class by itself: write victim.head in the spec (softmax or "
        "sigmoid), and victim.activation beside it where the network answers probabilities"
    )


def _note_threshold(found: Found, thresholds: list[Any]) -> None:
    if any(value not in (0.5, True) for value in thresholds):
        found.note(f"the bundle's threshold is {thresholds[0]}, and here it is 0.5")


def _of_answer(found: Found, transform: Component, value: Value) -> list[Value]:
    """What an argument holds for the answer: its own part where there is one a key, all of them where that is not known."""
    values = value if isinstance(value, list) else [value]
    keys = found.keys(transform)
    if len(values) == len(keys) and ANSWER in keys:
        values = [values[keys.index(ANSWER)]]
    return [each for each in values if each is not None]


def _plain(found: Found, transform: Component, name: str) -> list[Any]:
    """An argument of the answer as JSON says it.  Raises SpecError where it cannot: what is not known may be on."""
    return _of_answer(found, transform, found.argument(transform, name))


def _of_labels(found: Found, transform: Component) -> bool:
    """Whether a transform changes labels alone."""
    keys = transform.named.get("keys")
    names = keys if isinstance(keys, list) else [keys]
    return bool(names) and all(isinstance(each, str) and each.lower() in LABELS for each in names)


def _hidden(found: Found, value: Value) -> str | None:
    """The first transform that may turn answers into something else, or cannot be read."""
    for each in _flat(value):
        if isinstance(each, Unreadable):
            return f"{each.key}: {each.why}"
        if not _of_labels(found, each) and (each.own or ENDING.sub("", each.name) not in VALUES_STAY):
            return f"{each.key} is {each.target}"
        if each.name.startswith("AsDiscrete") and _of_answer(found, each, each.argument("threshold")):
            break
    return None


def _flat(value: Value) -> list[Component | Unreadable]:
    """The transforms in order."""
    if isinstance(value, list):
        return [transform for each in value for transform in _flat(each)]
    if isinstance(value, Component) and value.is_monais("Compose"):
        return _flat(value.argument("transforms", []))
    return [value] if isinstance(value, Component | Unreadable) else []
