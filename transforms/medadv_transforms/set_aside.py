"""What lies among the slices of a series and is none of them: repeated files, and scouts whose header does not call them so."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .frames import Frame
from .stack import SAME_POSITION_MM

SCOUTS_AT_MOST = 2
"""A frontal and a lateral one."""

SLICES_AT_LEAST = 3
"""So many slices of one plane make another plane the odd one."""

OTHER_PLANE = 0.9
"""Cosine of the angle between normals below which a picture is of another plane than the slices."""


def set_aside(slices: Sequence[tuple[Path, Frame]]) -> dict[Path, str]:
    """Files of a series that are to be left out -> "copy" or "scout".

    slices: files with their (first) frames, in the order in which the first of equal files is kept.
    """
    aside = dict.fromkeys(_copies(slices), "copy")
    planes = Counter(_plane(frame) for path, frame in slices if path not in aside)
    if not planes:
        return aside
    main, count = planes.most_common(1)[0]
    others = [(path, frame) for path, frame in slices if path not in aside and _plane(frame) != main]
    normal = next(frame.normal for _, frame in slices if _plane(frame) == main)
    turned = all(abs(float(frame.normal @ normal)) < OTHER_PLANE for _, frame in others)
    if count >= SLICES_AT_LEAST and len(others) <= SCOUTS_AT_MOST and turned:
        aside |= {path: "scout" for path, _ in others}
    return aside


def _plane(frame: Frame) -> tuple[float, ...]:
    """Direction of the slices' normal, coarse enough for rounded headers."""
    return tuple(np.round(frame.normal, 1) + 0.0)


def _copies(slices: Sequence[tuple[Path, Frame]]) -> list[Path]:
    """Files whose bytes are those of an earlier one at the same place; only files of one size and place are read."""
    alike: dict[tuple[int, int], list[Path]] = defaultdict(list)
    for path, frame in slices:
        alike[path.stat().st_size, round(float(frame.normal @ frame.position) / SAME_POSITION_MM)].append(path)
    copies = []
    for paths in alike.values():
        seen: set[bytes] = set()
        for path in paths if len(paths) > 1 else ():
            digest = hashlib.sha256(path.read_bytes()).digest()
            if digest in seen:
                copies.append(path)
            seen.add(digest)
    return copies
