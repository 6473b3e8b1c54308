"""What may an entry of a bundle's configuration stand for? Plain values, and what would be built or named, kept as words."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Value = Any
"""None, numbers, text, lists, dictionaries with text as keys, and the three classes of this module."""

Words = dict[str, Value]
"""Entries of a configuration, or settings as a spec would write them, by their names."""

MOST_VALUES = 100_000
"""Values of one entry with every reference written out, and characters of one text."""
MOST_BITS = 64
"""Of a whole number."""


class NotReadable(ValueError):
    """An entry that cannot be read without running it, or at all; the text says why.

    code: whether running it would help.
    """

    def __init__(self, why: str, *, code: bool = False) -> None:
        super().__init__(why)
        self.code = code


@dataclass(frozen=True)
class Symbol:
    """A name of a library that is mentioned, such as torch.float32."""

    name: str


@dataclass(frozen=True)
class Unreadable:
    """An entry that could not be read; it matters only where somebody needs it.  key: where it stands."""

    key: str
    why: str
    code: bool = False


@dataclass(frozen=True)
class Call:
    """A method that the configuration calls on what it built.  named: its arguments, or why they cannot be read."""

    name: str
    named: Mapping[str, Value] | Unreadable


@dataclass(frozen=True)
class Component:
    """What the configuration would build: nothing is.

    target: its name, dotted or as MONAI finds it.  key: where it stands.  named: its arguments, those given by their place too.
    calls: its methods that were called, in order.
    """

    target: str
    key: str
    named: Mapping[str, Value]
    calls: list[Call] = field(default_factory=list, compare=False)

    @property
    def name(self) -> str:
        """The last part of its name."""
        return self.target.rpartition(".")[2]

    @property
    def own(self) -> bool:
        """Whether it is none of MONAI's: code of the bundle or of another library, whatever its name."""
        return "." in self.target and not self.target.startswith("monai.")

    def is_monais(self, *names: str) -> bool:
        """Whether it is one of these of MONAI's."""
        return self.name in names and not self.own

    def argument(self, name: str, default: Value = None) -> Value:
        """An argument by its name."""
        return self.named.get(name, default)


def plain(value: Value, key: str) -> Any:
    """A value as JSON can say it.  key: what it is, for the error.

    Raises NotReadable where it holds anything but numbers, text, lists and dictionaries, or too many of them.
    """
    left = [MOST_VALUES]

    def walk(each: Value, where: str) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise NotReadable(f"{key} stands for more than {MOST_VALUES} values")
        if isinstance(each, Unreadable):
            raise NotReadable(f"{each.key}: {each.why}", code=each.code)
        if isinstance(each, Symbol | Component):
            name = each.name if isinstance(each, Symbol) else f"{each.target}(…)"
            raise NotReadable(f"{where} is {name}, which no plain setting can say", code=True)
        if isinstance(each, Mapping):
            return {str(name): walk(inner, f"{where}::{name}") for name, inner in each.items()}
        if isinstance(each, list | tuple):
            return [walk(inner, f"{where}::{number}") for number, inner in enumerate(each)]
        if not isinstance(each, bool | int | float | str | None):
            raise NotReadable(f"{where} is {type(each).__name__}, which no plain setting can say", code=True)
        return bounded(each)

    try:
        return walk(value, key)
    except RecursionError:
        raise NotReadable(f"{key} is nested too deeply") from None


def bounded(value: Value) -> Value:
    """The same value.  Raises NotReadable where it is a number or a text of no sensible size."""
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        raise NotReadable("a number of too many digits")
    if isinstance(value, float) and not math.isfinite(value):
        raise NotReadable("a number that is none")
    if isinstance(value, str | list | tuple | dict) and len(value) > MOST_VALUES:
        raise NotReadable(f"more than {MOST_VALUES} values")
    return value


def components(value: Value) -> list[Component]:
    """Every component in a value, itself included, outermost first, each once."""
    found: list[Component] = []
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if id(each) in seen or not isinstance(each, Component | Mapping | list | tuple):
            continue
        seen.add(id(each))
        if isinstance(each, Component):
            found.append(each)
            waiting += each.named.values()
        else:
            waiting += each.values() if isinstance(each, Mapping) else each
    return found
