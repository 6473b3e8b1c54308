"""What is one perturbation for many images fitted to, and which settings mean nothing to it?"""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from medadv.spec.base import Settings

UNIVERSAL = "universal"
LOSS_BOUND = 9.0
"""Bound of each sample's loss in arXiv 1811.11304."""
PART = 10
"""A step is this part of the ball where nobody says more: many of them follow each other, one a batch."""

WHY_NOT = {
    "start": "it is fitted from nothing, or from one random start",
    "members": "it is one perturbation",
    "keep": "all samples share its last iterate",
    "restarts": "it is fitted once",
    "momentum": "its steps follow one batch after the other",
    "target_classes": "all samples share one perturbation; give it a goal",
    "diversity": "it is fitted to the images as they are",
    "nesterov": "it has no momentum to look ahead along",
}
"""Settings of other attacks that mean nothing to a universal perturbation, and why."""


class FitSettings(Settings):
    """The samples that a universal perturbation is fitted to."""

    split: str = Field(
        min_length=1, description="another split than `data.split.use`, named as that is: its samples are fitted to, not attacked"
    )


def misfit(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> str | None:
    """What is wrong with an attack's settings as those of a universal perturbation, or with `fit` and `loss_bound` of any other attack.

    values, defaults: by the fields' names.
    """
    if values["attack"] != UNIVERSAL:
        given = next((name for name in ("fit", "loss_bound") if values[name] is not None), None)
        return f"{given} belongs to attack: universal; leave it out" if given else None
    if values["fit"] is None:
        return "attack: universal is fitted to samples that are not attacked: name their split, as in fit: {split: train}"
    for name, why in WHY_NOT.items():
        if name in values and values[name] != defaults[name]:
            return f"{name}={values[name]}: means nothing to a universal perturbation ({why}); leave it out"
    if values["weight"] and values["smooth"] == "last_step":
        return "smooth: last_step means nothing to a universal perturbation, whose last step was along other images; take perturbation"
    if values["weight"] and values["sigma_unit"] == "mm":
        return "sigma_unit=mm: images that are fitted together may have different voxels; take voxel"
    return None
