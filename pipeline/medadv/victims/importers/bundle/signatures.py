"""What are the arguments of MONAI's classes, functions and methods called? By their signatures: nothing is built, nothing more imported."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import monai
import torch

from medadv.victims.importers.bundle.values import NotReadable, Value, Words

BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
WITHOUT_DOTS = (monai.transforms, monai.inferers, monai.apps.deepedit.transforms, monai.apps.detection.networks.retinanet_detector)
"""Modules of the names that MONAI's parser finds without their module."""


def by_name(target: str, positional: Sequence[Value], named: Mapping[str, Value]) -> Words:
    """All arguments by their names.  target: what is called, a method behind its class.

    Raises NotReadable where there are arguments by place and their names are not known, or there are too many.
    """
    if not positional:
        return dict(named)
    held = parameters(target)
    names = [name for name, each in held.items() if each.kind in BY_PLACE]
    if len(positional) > len(names):
        raise NotReadable(f"{target} is given arguments by their place, whose names are not known here: write each with its name")
    placed = dict(zip(names, positional, strict=False))
    if twice := sorted(placed.keys() & named.keys()):
        raise NotReadable(f"{target} is given {twice[0]} by its place and by its name")
    return {**placed, **named}


def parameters(target: str) -> Mapping[str, inspect.Parameter]:
    """Those of MONAI's own classes, functions and methods; empty for any other."""
    if target == "torch.jit.load":
        return inspect.signature(torch.jit.load).parameters
    first, *rest = target.split(".")
    held: Any = monai if first == "monai" else next((vars(module)[first] for module in WITHOUT_DOTS if first in vars(module)), None)
    owner: Any = None
    for name in rest:
        # Stand-ins for modules that are not installed raise whatever they are asked for.
        owner, held = held, getattr(held, name, None) if inspect.ismodule(held) or inspect.isclass(held) else None
    if not (inspect.isclass(held) or inspect.isfunction(held)) or not held.__module__.startswith("monai."):
        return {}
    known = dict(inspect.signature(held).parameters)
    # A method is called on what its class makes, which takes the place of `self`.
    return {name: each for name, each in known.items() if name != "self"} if inspect.isclass(owner) else known
