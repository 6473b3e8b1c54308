"""What does an importer find out? The victim in a spec's plain settings, and what its model expects of the data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from medadv.common.record import Json

Written = dict[str, Any]
"""Settings as a run spec writes them."""


@dataclass(frozen=True)
class Imported:
    """Settings as a run spec would write them, each a default for what the spec leaves out.

    victim: of `VictimSettings`, the weights as absolute paths.  data: task, classes, label_map, modality, as far as the model tells.
    preprocess: spacing, orientation, `as`, size.  notes: a line each on what was understood, dropped, or differs from the model's own tool.
    """

    victim: Mapping[str, Json]
    data: Mapping[str, Json] = field(default_factory=dict)
    preprocess: Mapping[str, Json] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    original: Callable[[Path], Tensor] | None = None
    """The logits of the model's own tool for an image file, where it is installed and its code may run."""
