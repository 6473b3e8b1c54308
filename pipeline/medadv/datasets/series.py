"""The CT series of a DICOM folder as a layout lists them: what is no slice of one is refused, or set aside and counted."""

import os
from collections.abc import Collection
from pathlib import Path

from medadv.datasets.source import Listing, Problem
from medadv_transforms import InputError, find_series

ASIDE = {"copy": "byte-for-byte copy of a slice", "scout": "scout without a tag that says so"}


def series_at(
    listing: Listing, folder: str, labels: Collection[str] = (), *, allow_outside: bool = False
) -> list[tuple[tuple[str, ...], str]]:
    """Files and patient of every usable series below `folder`, a path relative to the root; "." is the root itself.

    labels: label files of the samples, relative to the root, which may lie in the tree.
    """
    found: list[tuple[tuple[str, ...], str]] = []
    for series in find_series(listing.root / folder):
        for file, code in series.rejected:
            name = relative(file, listing.root)
            if name not in labels:
                listing.problems.append(Problem.of(name, InputError(code)))
        for file, why in series.aside:
            listing.aside[relative(file, listing.root)] = ASIDE[why]
        files = [listing.locate(relative(f, listing.root), allow_outside) for f in series.files]
        if files and None not in files:
            found.append((tuple(f for f in files if f), series.patient))
    return found


def relative(file: Path, root: Path) -> str:
    """The way from the root to a file, with slashes."""
    return Path(os.path.relpath(file, root)).as_posix()
