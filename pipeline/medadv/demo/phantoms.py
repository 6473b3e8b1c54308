"""All the demo's images: three small data sets in the layouts that users' own data come in."""

from collections.abc import Callable
from pathlib import Path

from medadv.demo.phantoms_ct import write_chests
from medadv.demo.phantoms_endoscopy import write_endoscopy
from medadv.demo.phantoms_fundus import write_fundus

CHESTS = (15, 3)
"""Patients for training and held out; 12 slices each."""

EYES = (96, 16)
"""Patients for training and held out; two photographs each."""

SESSIONS = (52, 8)
"""Colonoscopies for training and held out; four frames each."""


def write_phantoms(root: Path, *, seed: int = 0, progress: Callable[[float, str], None] | None = None) -> dict[str, Path]:
    """Draw and write everything below `root`; the same seed gives the same files.

    Gives the file that lists each data set: "ct" (dataset.json, Decathlon), "fundus" (labels.csv), "endoscopy" (COCO).
    The chest CTs lie in ct/dicom/PATIENT/ as DICOM series, too.  progress(fraction of all, what is being drawn).
    """

    def part(first: float, last: float) -> Callable[[float, str], None] | None:
        if progress is None:
            return None
        return lambda fraction, text: progress(first + (last - first) * fraction, text)

    return {
        "ct": write_chests(root / "ct", seed=seed, train=CHESTS[0], test=CHESTS[1], progress=part(0, 0.35)),
        "fundus": write_fundus(root / "fundus", seed=seed, train=EYES[0], test=EYES[1], progress=part(0.35, 0.7)),
        "endoscopy": write_endoscopy(root / "endoscopy", seed=seed, train=SESSIONS[0], test=SESSIONS[1], progress=part(0.7, 1)),
    }
