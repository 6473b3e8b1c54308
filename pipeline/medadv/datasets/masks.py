"""What the levels of a data set's mask pictures mean: looked at once, before anything is planned, and written into the plan."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from medadv.datasets.reader import Reader
from medadv.datasets.source import Problem, Source
from medadv_transforms import InputError
from medadv_transforms.mask_pictures import IGNORE, Levels, read_levels, soft_edges
from medadv_transforms.picture import opened

White = Literal["foreground", "ignore"]
"""What 255 in a mask picture is: class 1 beside 0, or pixels that count nowhere."""

VALUE: dict[White, int] = {"foreground": 1, "ignore": IGNORE}


@dataclass(frozen=True)
class Looked:
    """sources: those whose masks can be used, in their order, with what 255 means there.  white: None where it decides nothing."""

    sources: list[Source]
    problems: list[Problem]
    white: White | None


def look(sources: Sequence[Source], reader: Reader, highest: int, known: White | None = None) -> Looked:
    """Read every mask picture among the labels and settle what 255 means: foreground where no usable one holds another value beside 0.

    highest: the victim's highest class index in a mask.  known: what an earlier plan settled; a picture that contradicts it is refused.
    """
    settled = reader.data.label_map is None and reader.data.threshold is None
    problems: list[Problem] = []
    usable: list[Source] = []
    telling: list[Source] = []
    for source in sources:
        if not source.masks or not reader.is_picture(source):
            usable.append(source)
            continue
        try:
            others = _others(source, reader, highest)
            if others and settled and known == "foreground":
                raise InputError("label-values", "the mask holds other values than 0 and 255, and 255 is foreground in this corpus")
        except InputError as error:
            problems.append(Problem.of(source.images[0], error))
            continue
        usable.append(source)
        if others:
            telling.append(source)
    if not settled or not any(source.masks and reader.is_picture(source) for source in usable):
        return Looked(usable, problems, known)
    white: White = known or ("ignore" if telling else "foreground")
    marked = [
        replace(source, label={**source.label, "white": VALUE[white]}) if source.masks and reader.is_picture(source) else source
        for source in usable
    ]
    return Looked(marked, problems, white)


def _others(source: Source, reader: Reader, highest: int) -> bool:
    """Whether a sample's masks hold values other than 0 and 255. Raises InputError where they cannot be used."""
    with opened(reader.root / source.images[0]) as (_, header):
        size = header.upright_size
    named = [number for numbers in (reader.data.label_map or {}).values() for number in numbers if 0 <= number < IGNORE]
    allowed = range(2) if len(source.masks) > 1 else sorted({*range(min(highest, IGNORE - 1) + 1), *named})
    found = False
    for name in source.masks:
        levels: Levels = read_levels(reader.root / name, reader.data.threshold)
        if levels.values.shape != size:
            raise InputError("size-differs", "the mask has another size than its image")
        if wrong := soft_edges(levels, allowed):
            raise InputError("label-values", wrong)
        found |= not levels.binary and bool(np.any(levels.counts[1:IGNORE]))
    return found
