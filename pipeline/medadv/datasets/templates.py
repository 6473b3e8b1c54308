"""Templates of file names: `images/{id}.png`, and nothing but names between the braces."""

from collections.abc import Mapping
from string import Formatter
from typing import Any


def filled(template: str, values: Mapping[str, Any]) -> str:
    """A template with its names replaced by their values.

    Widths, attributes and items, which `str.format` knows, would let a template take memory at will or look into objects.
    Raises ValueError: anything but a name stands between braces.  KeyError: a name has no value.
    """
    parts = []
    for text, name, form, conversion in Formatter().parse(template):
        parts.append(text)
        if name is None:
            continue
        if not name or form or conversion or any(mark in name for mark in ".[]{}"):
            raise ValueError(f"{{{name}}}")
        parts.append(str(values[name]))
    return "".join(parts)
