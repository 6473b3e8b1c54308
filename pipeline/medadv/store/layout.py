"""Names, types and chunks of a shard; see DESIGN of the format in manifests/README.md."""

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from medadv.common.hashing import hash_array
from medadv.datasets.labels import Array, Boxes, Label

FORMAT = "medadv"
FORMAT_VERSION = 1
BRICK = (32, 64, 64)
"""Chunk of 3D arrays along the spatial axes: a 64-voxel patch touches few of them."""

RESULTS = ("success", "linf", "l2", "score_clean", "score_adversarial")
"""What each sample's row of an attack says, and its receipt again."""

ATTACKABLE = "attackable"
"""What an attack's row says besides where the attack has a goal: whether its clean answer left it something to do."""

MADE_BY, MEMBER_SCORE = "made_by", "member_score"
"""What an ensemble's rows say besides: which member made the perturbation, and how right the answer was after each."""
MOST_MEMBERS = 32

PERTURBATION, START, WARM = "perturbation", "start", "warm"
"""What an attack moves a sample by; where it began, in the same form, if it starts from another corpus; and 1 where that held the sample,
0 where it began as it would without."""

SAMPLE_ID = "[A-Za-z0-9][A-Za-z0-9-]{0,99}"
"""Pattern of a sample's id, which becomes part of names of files: hexadecimal digits, and behind a hyphen the number of a slice."""
BOX_PARTS = ("boxes", "classes", "offsets", "scores")
"""Arrays of a group that holds boxes."""

# Group ids are keyed by a secret of the corpus's maker, so they say nothing about the content.
OUTSIDE_CONTENT = ("group_id",)


class Stored(Protocol):
    """What is used of an open file's dataset."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    ndim: int
    chunks: tuple[int, ...] | None
    fletcher32: bool

    def __getitem__(self, place: Any) -> Any: ...


@dataclass
class ShardContent:
    """Everything that a shard file holds: attributes by group path, arrays by dataset path."""

    attributes: dict[str, dict[str, Any]] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)

    def hashes(self) -> dict[str, str]:
        """Hash of each array that belongs to the content."""
        return {name: hash_array(a) for name, a in sorted(self.arrays.items()) if name not in OUTSIDE_CONTENT}


def perturbation_dtype(epsilon: float) -> npt.DTypeLike:
    """int8 where it holds every perturbation, else int16."""
    return np.int8 if epsilon <= 127 else np.int16


def is_move(name: str) -> bool:
    """Whether an array holds differences of images, laid out and bounded as perturbations are."""
    return name.rpartition("/")[2] in (PERTURBATION, START) and "/" in name


def chunks_of(name: str, shape: tuple[int, ...], spatial: int) -> tuple[int, ...] | None:
    """Chunk shape of a dataset: one sample in 2D, bricks in 3D; None (contiguous) where HDF5 allows no chunk.

    spatial: number of spatial axes of the shard's images.
    """
    if not shape or 0 in shape:
        return None
    on_grid = len(shape) > spatial and (name == "image" or is_move(name) or _is_mask(name))
    if not on_grid:
        return shape
    if spatial == 3:
        return (1,) * (len(shape) - 3) + tuple(min(b, n) for b, n in zip(BRICK, shape[-3:], strict=True))
    return (1, *shape[1:])


def _is_mask(name: str) -> bool:
    return name in ("label", "region") or name.rsplit("/", 1)[-1] in ("prediction_clean", "prediction_adversarial")


def answer_arrays(name: str, answers: list[Label]) -> dict[str, Array]:
    """Labels or predictions of a shard as arrays under `name`: one array, or a group of boxes with offsets."""
    if answers and isinstance(answers[0], Boxes):
        boxes = [a for a in answers if isinstance(a, Boxes)]
        arrays: dict[str, Array] = {
            f"{name}/boxes": np.concatenate([b.boxes for b in boxes]),
            f"{name}/classes": np.concatenate([b.classes for b in boxes]),
            f"{name}/offsets": np.cumsum([0, *(len(b.boxes) for b in boxes)]).astype(np.int64),
        }
        if boxes[0].scores is not None:
            arrays[f"{name}/scores"] = np.concatenate([b.scores for b in boxes if b.scores is not None])
        return arrays
    return {name: np.stack([np.asarray(a) for a in answers])}


def answer_at(arrays: dict[str, Array], name: str, index: int) -> Label:
    """One sample's label or prediction back from the arrays of a shard."""
    if name in arrays:
        return np.asarray(arrays[name][index])
    low, high = arrays[f"{name}/offsets"][index : index + 2]
    scores = arrays.get(f"{name}/scores")
    return Boxes(
        arrays[f"{name}/boxes"][low:high],
        arrays[f"{name}/classes"][low:high],
        None if scores is None else scores[low:high],
    )
