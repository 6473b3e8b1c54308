"""Which arguments of a bundle's transform are understood? Any other is refused, unless it says what MONAI does without it."""

from collections.abc import Callable
from dataclasses import dataclass

from medadv.victims.importers.bundle.found import Found
from medadv.victims.importers.bundle.signatures import parameters
from medadv.victims.importers.bundle.values import Component, Symbol, Unreadable, Value

ANYWHERE = ("keys", "allow_missing_keys", "lazy", "device", "track_meta", "wrap_sequence", "meta_keys", "meta_key_postfix")
"""Arguments of many transforms that change no number of an image."""
HANDED_ON = {"affine_lps_to_ras": True}
"""What MONAI's readers do without arguments that transforms hand on to them."""
FLOATS = ("float", "float32", "float64", "double")
"""Those of shorter floats are rounded to what no spec says."""
LEVELS = "uint8"
"""What pictures are read as: their levels are whole."""


@dataclass(frozen=True)
class Reader:
    """read: says what the transform means.  understood: arguments that it heeds, or that change no number of an image."""

    read: Callable[[Found, Component], None]
    understood: tuple[str, ...] = ()


def check_arguments(found: Found, transform: Component, reader: Reader) -> None:
    """Raise SpecError where an argument changes the image in a way that nobody here heeds, by its name."""
    known = parameters(transform.target)
    for name, value in transform.named.items():
        if name == "dtype":
            _check_kind(found, transform, value)
        elif name not in (*reader.understood, *ANYWHERE):
            usual = HANDED_ON.get(name, known[name].default if name in known else ...)
            if not _same(value, usual):
                raise found.configuration.refused(
                    f"{transform.key} is {transform.name} with {name}={word(value)}, which has no word in a spec: prepare images so that "
                    "it has nothing to do, and leave it out of a copy of the configuration"
                )


def _check_kind(found: Found, transform: Component, value: Value) -> None:
    """Numbers stay what they are as floats, and pictures as levels when they are read."""
    keys = found.keys(transform)
    if isinstance(value, list) and value:
        value = value[keys.index(found.image)] if len(value) == len(keys) and found.image in keys else value[0]
    kind = word(value).rpartition(".")[2]
    levels = found.picture and transform.name.startswith("LoadImage") and kind == LEVELS
    if value is not None and kind not in FLOATS and not levels:
        raise found.configuration.refused(f"{transform.key} is {transform.name} to {word(value)}, which has no word in a spec")


def _same(value: Value, usual: Value) -> bool:
    """Whether a value is the usual one, or that for each key."""
    plain = list(usual) if isinstance(usual, tuple) else usual
    return value == plain or (isinstance(value, list) and bool(value) and all(each == plain for each in value))


def word(value: Value) -> str:
    """A value as an error names it."""
    if isinstance(value, Symbol | Component):
        return value.name if isinstance(value, Symbol) else f"{value.target}(…)"
    return f"what cannot be read ({value.why})" if isinstance(value, Unreadable) else str(value)
