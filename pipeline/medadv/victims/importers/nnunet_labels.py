"""What do the channels of nnU-Net's answer mean? Labels, or regions that overlap, as dataset.json has them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medadv.common.errors import SpecError
from medadv.victims.importers.nnunet_plans import Dataset

IGNORE = "ignore"


@dataclass(frozen=True)
class Answers:
    """heads: channels of the answer.  classes: names from 1 on, of labels.  label_map: of regions, each name with its values in masks."""

    heads: int
    head: Literal["softmax", "sigmoid"]
    classes: list[str] | None
    label_map: dict[str, list[int]] | None
    notes: list[str]


def answers(dataset: Dataset, file: Path) -> Answers:
    """Labels are classes of which one holds (softmax, background included); with a region of several values, each region is one (sigmoid).

    Raises SpecError for labels that nnU-Net takes neither as.
    """
    if dataset.labels.get("background") != 0:
        raise SpecError(f"{file}: labels name no background of value 0")
    values = {name: _values(file, name, given) for name, given in dataset.labels.items() if name != IGNORE}
    ignored = dataset.labels.get(IGNORE)
    notes = [] if ignored is None else [f"masks hold {ignored} where nothing is known; layout nnunet leaves that out of every score"]
    regions = {name: held for name, held in values.items() if set(held) != {0}}
    if any(len(held) > 1 for held in values.values()):
        order = dataset.regions_class_order
        if order is None or len(order) != len(regions):
            raise SpecError(f"{file}: {len(regions)} regions need as many entries of regions_class_order")
        return Answers(len(regions), "sigmoid", None, regions, [*notes, "each region is a class by itself, and regions may overlap"])
    by_value = {held[0]: name for name, held in values.items()}
    if sorted(by_value) != list(range(len(values))):
        raise SpecError(f"{file}: labels are not numbered 0, 1, 2, ... without a gap")
    return Answers(len(by_value), "softmax", [name for value, name in sorted(by_value.items()) if value], None, notes)


def _values(file: Path, name: str, given: int | list[int]) -> list[int]:
    values = [given] if isinstance(given, int) else given
    if not values or min(values) < 0:
        raise SpecError(f"{file}: label {name!r} has no value, or one below 0")
    return values
