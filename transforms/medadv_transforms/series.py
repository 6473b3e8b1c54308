"""Find the DICOM series in a folder tree that may mix series, other objects and files that are no DICOM at all."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from .errors import InputError
from .frames import Frame, frames_of, read_dataset
from .quiet import quiet
from .set_aside import set_aside


@dataclass(frozen=True)
class Series:
    """The files of one series, by position along the normal where they have one, else by name.

    files: usable CT files.  rejected: (file, reason code) of the others; a series of nothing but rejected files has no `files`.
    aside: (file, "copy" or "scout") of those that are superfluous: copies of a slice, scouts that no tag calls so.
    uid, study, patient: as in the headers, for grouping; identifying, so they never stand in a repr.
    """

    files: tuple[Path, ...]
    rejected: tuple[tuple[Path, str], ...]
    aside: tuple[tuple[Path, str], ...] = ()
    uid: str = field(repr=False, default="")
    study: str = field(repr=False, default="")
    patient: str = field(repr=False, default="")


@dataclass(frozen=True)
class _Member:
    path: Path
    frame: Frame | None
    code: str
    patient: str
    study: str
    uid: str

    @property
    def height(self) -> float:
        """Place along the normal of its own plane, mm."""
        return float(self.frame.normal @ self.frame.position) if self.frame is not None else 0.0


def find_series(root: str | Path, *, follow_symlinks: bool = False, allow_burned_in: bool = False) -> list[Series]:
    """Group the DICOM files below `root` by SeriesInstanceUID, sorted by path of the first file.

    Files without a series UID are grouped by folder, study and frame of reference. Files that are no DICOM come in series of their
    own, without `files`.  Symbolic links are rejected unless they are followed.  Raises InputError `not-found` for the root.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError("not-found", "the data folder does not exist")
    groups: dict[tuple[str, ...], list[_Member]] = {}
    for path in _walk(root, follow_symlinks):
        key, member = _member(path, follow_symlinks, allow_burned_in)
        groups.setdefault(key, []).append(member)
    series = [_series(members) for members in groups.values()]
    return sorted(series, key=lambda each: min([*each.files, *(path for path, _ in each.rejected)]))


def _walk(root: Path, follow_symlinks: bool) -> list[Path]:
    found: list[Path] = []
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=follow_symlinks):
        real = os.path.realpath(folder)
        if real in seen:
            # A link back up the tree would never end.
            folders.clear()
            continue
        seen.add(real)
        if not follow_symlinks:
            found += [Path(folder, name) for name in folders if Path(folder, name).is_symlink()]
        found += [Path(folder, name) for name in names]
    return sorted(found)


def _member(path: Path, follow_symlinks: bool, allow_burned_in: bool) -> tuple[tuple[str, ...], _Member]:
    if path.is_symlink() and not follow_symlinks:
        return ("file", str(path)), _Member(path, None, "symlink", "", "", "")
    try:
        dataset = read_dataset(path, pixels=False)
    except InputError as error:
        return ("file", str(path)), _Member(path, None, error.code, "", "", "")
    with quiet():
        try:
            uid, study, patient, reference = (
                str(dataset.get(keyword) or "") for keyword in ("SeriesInstanceUID", "StudyInstanceUID", "PatientID", "FrameOfReferenceUID")
            )
        except Exception:
            return ("file", str(path)), _Member(path, None, "decode-failed", "", "", "")
    code, first = "", None
    try:
        first = frames_of(dataset, path, allow_burned_in=allow_burned_in)[0]
    except InputError as error:
        code = error.code
    key = ("series", uid) if uid else ("folder", str(path.parent), study, reference)
    return key, _Member(path, first, code, patient, study, uid)


def _series(members: list[_Member]) -> Series:
    usable = sorted((member for member in members if not member.code), key=lambda member: (member.height, member.path))
    rejected = tuple((member.path, member.code) for member in sorted(members, key=lambda member: member.path) if member.code)
    aside = set_aside([(member.path, member.frame) for member in usable if member.frame is not None])
    files = tuple(member.path for member in usable if member.path not in aside)
    first = members[0]
    return Series(files, rejected, tuple(aside.items()), first.uid, first.study, first.patient)
