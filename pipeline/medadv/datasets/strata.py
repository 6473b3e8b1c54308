"""By what else are samples told apart in a report? Sites, devices and the like, as a label file or a DICOM header has them."""

from collections.abc import Mapping, MutableSequence
from pathlib import Path

import pydicom

from medadv.common.errors import SpecError
from medadv.common.printable import printable
from medadv.spec.data import DICOM_STRATA, DataSettings

MOST_CHARACTERS = 64


def strata_of(entry: Mapping[str, object], data: DataSettings, where: object) -> tuple[tuple[str, str], ...]:
    """(column, value) of each of `data.strata`; empty text where a record says nothing.

    entry: a row or record.  where: what to name it by.  SpecError: no such column, or a text too long to be a site's or device's name.
    """
    found = []
    for column in data.strata or ():
        if column not in entry:
            raise SpecError(f"{where}: data.strata names {column!r}, which is not there; there are {', '.join(map(str, entry))}")
        value = entry[column]
        text = "" if value is None else printable(str(value).strip())
        if len(text) > MOST_CHARACTERS or isinstance(value, list | dict):
            raise SpecError(
                f"{where}: data.strata: {column}={text[:20]!r}… is no text of at most {MOST_CHARACTERS} characters, which are published; "
                "take a column of short names"
            )
        found.append((column, text))
    return tuple(found)


def dicom_strata(first: Path, data: DataSettings) -> tuple[tuple[str, str], ...]:
    """The same of a DICOM series, by its first file."""
    if not data.strata:
        return ()
    header = pydicom.dcmread(first, stop_before_pixels=True, specific_tags=list(data.strata))
    # Kernels may have several values, which stay one text.
    values = {name: header.get(name, "") for name in DICOM_STRATA}
    said = {name: "/".join(map(str, value)) if isinstance(value, MutableSequence) else value for name, value in values.items()}
    return strata_of(said, data, "a DICOM header")
