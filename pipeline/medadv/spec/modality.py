"""What may be asked of a kind of image? One row a modality: what its stored values are, and what specs and reports follow from that."""

from dataclasses import dataclass
from typing import Literal

Modality = Literal["ct", "fundus", "endoscopy"]
UNITS = {"hu": "HU", "level8": "grey levels"}
"""Stored units in words."""


@dataclass(frozen=True)
class ModalityRules:
    """One kind of image. What its pictures are decoded to says `PICTURE_RULES` in medadv_transforms/colour.py."""

    title: str
    """As people write it."""
    unit: str
    """What epsilon counts, in words."""
    in_space: bool
    """Whether voxels have a place in the patient: volumes and their slices, spacing, orientation, lengths in mm."""
    one_size: bool
    """Whether sources have sizes of their own, so that a corpus must give the one of its images."""
    hu_window: bool
    """Whether a victim may look through a HU window."""
    most_epsilon: int | None
    """The whole range of the unit, where an epsilon beyond it is a slip of the pen."""
    words: tuple[str, ...] = ()
    """Beginnings of words that tell it in the description of somebody's model of pictures."""


MODALITIES: dict[str, ModalityRules] = {
    "ct": ModalityRules("CT", UNITS["hu"], in_space=True, one_size=False, hu_window=True, most_epsilon=None),
    "fundus": ModalityRules(
        "fundus", UNITS["level8"], in_space=False, one_size=True, hu_window=False, most_epsilon=255, words=("fundus", "retin")
    ),
    "endoscopy": ModalityRules(
        "endoscopy",
        UNITS["level8"],
        in_space=False,
        one_size=True,
        hu_window=False,
        most_epsilon=255,
        words=("endosc", "colonosc", "polyp", "laparosc"),
    ),
}


def amount(value: float, unit: str) -> str:
    """An epsilon in words: `60 HU`, `2 grey levels`, `1 grey level`.  unit: one of UNITS."""
    return f"{value:g} {unit.removesuffix('s') if value == 1 else unit}"
