"""Every random generator that a transform holds, found by walking its attributes, with the way to it."""

import random
import sys
from collections import deque
from collections.abc import Callable, Iterator
from functools import cache, partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, TypeAlias

import numpy as np
import torch
from monai.transforms.transform import Randomizable

Generator: TypeAlias = Randomizable | np.random.RandomState | np.random.Generator | random.Random | torch.Generator
GENERATORS = (Randomizable, np.random.RandomState, np.random.Generator, random.Random, torch.Generator)
LEAVES = (type(None), bool, int, float, str, bytes, type, ModuleType, BuiltinFunctionType, torch.Tensor, np.ndarray, np.generic)
"""Values that hold no generator."""


def generators_in(transform: Any) -> Iterator[tuple[str, Generator]]:
    """(way, generator) for every one of MONAI's Randomizables and every generator of NumPy, `random` and torch that `transform` holds.

    Looked through: lists, tuples, deques and dictionaries, attributes (those of nn.Modules, and of instances and classes of one's own),
    partials, methods, and what functions close over. The way to a generator, such as `.transforms.0.flip`, is the same in every process and
    does not depend on what else was found. A generator that is held twice comes once. Not found: what a function reaches by a global name,
    and what stands in a set, whose order differs between processes.
    """
    seen: dict[int, Any] = {}  # holds what it has seen: the id of something freed may be given out again
    ways: list[tuple[str, Any]] = [("", transform)]
    while ways:
        way, value = ways.pop()
        if isinstance(value, LEAVES) or id(value) in seen:
            continue
        seen[id(value)] = value
        if isinstance(value, GENERATORS):
            yield way, value
        # Reversed, since the last one pushed is the first one looked at.
        ways.extend((f"{way}.{name}", part) for name, part in reversed(_parts(value)))


def _parts(value: Any) -> list[tuple[Any, Any]]:
    """What one value holds, by name."""
    if isinstance(value, dict):
        return [*value.items(), *_attributes(value)]
    if isinstance(value, list | tuple | deque):
        return [*enumerate(value), *_attributes(value)]
    if isinstance(value, partial):
        return [("func", value.func), ("args", value.args), ("keywords", value.keywords)]
    if isinstance(value, MethodType):
        return [("self", value.__self__), ("function", value.__func__)]
    if isinstance(value, FunctionType):
        return [*_closed_over(value), ("defaults", value.__defaults__), ("keywords", value.__kwdefaults__)]
    if isinstance(value, GENERATORS[1:]) or type(value).__module__.partition(".")[0] in sys.stdlib_module_names:
        # Loggers, threads, files: a way into the whole process.
        return []
    return _attributes(value)


def _attributes(value: Any) -> list[tuple[str, Any]]:
    # The state of a Randomizable is its generator, and stands for it.
    skipped = ("R",) if isinstance(value, Randomizable) else ()
    kind: type = type(value)
    shared = {name: getattr(kind, name, None) for name in _shared(kind)}
    held = {**shared, **_slots(value), **getattr(value, "__dict__", {})}
    return [(name, part) for name, part in held.items() if name not in skipped]


@cache
def _shared(kind: type) -> tuple[str, ...]:
    """Names of a class's attributes that are generators, which all instances share."""
    return tuple(dict.fromkeys(name for each in kind.__mro__ for name, part in vars(each).items() if isinstance(part, GENERATORS)))


def _closed_over(function: Callable[..., Any]) -> list[tuple[str, Any]]:
    found = []
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found.append((name, cell.cell_contents))
        except ValueError:  # a name that has no value yet
            continue
    return found


def _slots(value: Any) -> dict[str, Any]:
    names = [slots if isinstance(slots, tuple) else (slots,) for kind in type(value).__mro__ if (slots := kind.__dict__.get("__slots__"))]
    return {name: getattr(value, name) for group in names for name in group if isinstance(name, str) and hasattr(value, name)}
