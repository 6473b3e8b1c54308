"""All the demo's images: three small data sets in the layouts that users' own data come in."""

from collections.abc import Callable
from pathlib import Path

from medadv.demo.phantoms_ct import write_chests
from medadv.demo.phantoms_endoscopy import write_endoscopy
from medadv.demo.phantoms_fundus import write_fundus

WRITERS = {"ct": write_chests, "fundus": write_fundus, "endoscopy": write_endoscopy}
COUNTS = {"ct": (15, 3), "fundus": (96, 16), "endoscopy": (52, 8)}
"""Patients, or colonoscopies, for training and held out: 12 slices, two photographs and four frames each."""


def write_phantoms(kind: str, root: Path, *, seed: int = 0, progress: Callable[[float, str], None] | None = None) -> Path:
    """Draw and write one data set to `root`/`kind`; the same seed gives the same files.

    Gives the file that lists it, which is written last: of "ct" dataset.json (Decathlon), of "fundus" labels.csv, of "endoscopy"
    annotations_coco.json.  The chest CTs lie in ct/dicom/PATIENT/ as DICOM series, too.  progress(fraction of all, what is being drawn).
    """
    train, test = COUNTS[kind]
    return WRITERS[kind](root / kind, seed=seed, train=train, test=test, progress=progress)
