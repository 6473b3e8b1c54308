"""Which functions may an expression call, and what do they give? Each on plain values of bounded size."""

import math
from collections.abc import Callable

from medadv.victims.importers.bundle.values import MOST_BITS, MOST_VALUES, NotReadable, Value

SCALARS = (bool, int, float, str, type(None))


def is_number(value: Value) -> bool:
    """Whether a value can be reckoned with."""
    return isinstance(value, int | float)


def is_plain(value: Value) -> bool:
    """Whether a value is one of JSON's."""
    return isinstance(value, (*SCALARS, list, dict))


def flat(value: Value) -> Value:
    """The same value, where it can be compared in no more steps than it has parts.  Raises NotReadable for lists of lists."""
    inside = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else [value]
    if not all(isinstance(each, SCALARS) for each in inside):
        raise NotReadable(f"compares {type(value).__name__.lower()}", code=True)
    return value


def power(base: Value, exponent: Value) -> Value:
    """One number to the power of another, of a sensible size."""
    if abs(exponent) > MOST_BITS or (abs(base) > 1 and abs(exponent) * math.log2(abs(base)) > MOST_BITS) or (base < 0 and exponent % 1):
        raise NotReadable("a power of no sensible size")
    return base**exponent


def joined(operation: str, one: Value, two: Value) -> Value:
    """Texts and lists: together, or several times."""
    if operation == "Add" and ((isinstance(one, str) and isinstance(two, str)) or (isinstance(one, list) and isinstance(two, list))):
        _sized(len(one) + len(two))
        return one + two  # type: ignore[operator]
    if operation == "Mult" and isinstance(two, str | list):
        one, two = two, one
    if operation == "Mult" and isinstance(one, str | list) and isinstance(two, int):
        _sized(len(one) * max(two, 0))
        return one * two
    raise NotReadable(f"does not compute ({type(one).__name__} and {type(two).__name__})", code=True)


def _sized(length: int) -> None:
    if length > MOST_VALUES:
        raise NotReadable(f"more than {MOST_VALUES} values")


def _range(*ends: Value) -> list[Value]:
    numbers = range(*ends)
    # Huge ranges have a length that Python's own `len` cannot say.
    _sized((numbers.stop - numbers.start) // numbers.step)
    return list(numbers)


def _number_of(kind: Callable[[Value], Value]) -> Callable[[Value], Value]:
    def read(value: Value) -> Value:
        if not isinstance(value, int | float | str) or (isinstance(value, str) and len(value) > MOST_BITS):
            raise NotReadable("a number of no sensible size")
        return kind(value)

    return read


def _text(value: Value) -> str:
    if not isinstance(value, SCALARS):
        raise NotReadable(f"writes {type(value).__name__.lower()} as text", code=True)
    return str(value)


def _listed(value: Value = ()) -> list[Value]:
    if not isinstance(value, list | tuple | dict | str):
        raise NotReadable(f"lists {type(value).__name__.lower()}", code=True)
    return list(value)


def _truth(value: Value) -> bool:
    if not is_plain(value):
        raise NotReadable(f"asks whether {type(value).__name__.lower()} is true", code=True)
    return bool(value)


def _extreme(choose: Callable[..., Value]) -> Callable[..., Value]:
    return lambda *values: choose(*(flat(value) for value in values))


BUILT_IN: dict[str, Callable[..., Value]] = {
    "int": _number_of(int),
    "float": _number_of(float),
    "bool": _truth,
    "str": _text,
    "len": lambda value: len(_listed(value)),
    "list": _listed,
    "tuple": _listed,
    "sorted": lambda value: sorted(flat(_listed(value))),
    "range": _range,
    "round": round,
    "abs": abs,
    "min": _extreme(min),
    "max": _extreme(max),
    "sum": lambda value: sum(flat(_listed(value))),
}
KEPT = ("copy.deepcopy", "copy.copy", "torch.from_numpy", "torch.tensor", "torch.as_tensor", "numpy.array", "numpy.asarray")
"""Functions whose result is what they were given, in another container."""
CONSTANTS: dict[str, Value] = {
    **{f"monai.utils.{place}CommonKeys.{name.upper()}": name for place in ("", "enums.") for name in ("image", "label", "pred")},
    "math.pi": math.pi,
    "numpy.pi": math.pi,
}
