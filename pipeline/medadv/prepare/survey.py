"""Look at every input before anything is planned: which samples there are, what shape they have, and what cannot be used."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from medadv.common.errors import NothingFoundError, SpecError
from medadv.common.hashing import keyed_hash
from medadv.common.progress import SILENT, Progress
from medadv.datasets.blame import raise_unless_input
from medadv.datasets.file_hashes import FileHashes
from medadv.datasets.identity import content_of
from medadv.datasets.layouts import list_samples
from medadv.datasets.masks import White, look
from medadv.datasets.mirrored import axes_drawn
from medadv.datasets.reader import Reader
from medadv.datasets.sample import Shape
from medadv.datasets.source import Listing, Problem, Source
from medadv.plan.model import PlannedSample
from medadv.spec.data import DataSettings
from medadv.spec.run_spec import RunSpec
from medadv_transforms import InputError


@dataclass(frozen=True)
class Found:
    """A sample that can be planned."""

    sample: PlannedSample
    shape: Shape


@dataclass(frozen=True)
class Survey:
    """What the data set holds, in an order that does not depend on how it was listed."""

    root: Path
    found: list[Found]
    problems: list[Problem]
    classes: list[str] | None
    notes: list[str] = field(default_factory=list)
    """What was passed over without being a problem: words and numbers, to be shown."""
    aside: dict[str, str] = field(default_factory=dict)
    """Files that were set aside and why: private."""


def survey(
    spec: RunSpec, base: Path, hashes: FileHashes, key: bytes, progress: Progress = SILENT, forgotten: Collection[str] = ()
) -> Survey:
    """Inspect and identify every sample of the chosen split.

    Args:
        spec: the run spec.
        base: folder that its paths start from.
        hashes: remembered file hashes.
        key: secret of the group hashes.
        progress: told of samples done and in all.
        forgotten: group hashes of patients that were removed: their samples are passed over, without a record.

    Raises:
        SpecError: a group crosses splits, or nothing is labelled.  NothingFoundError: no sample can be used.
        OSError: the disk failed, not an input.
    """
    listing = list_samples(spec.data, base)
    if listing.nothing_labelled is not None:
        # Images without objects would be scored as found or missed by nothing that anybody wrote down.
        raise SpecError(f"{base / spec.data.path}: {listing.nothing_labelled}; put the labels there, or set data.label: none")
    reader = Reader(listing.root, spec.data, spec.preprocess, spec.victim.head == "sigmoid")
    _drop_crossing(listing, spec.data)
    problems = list(listing.problems)
    found: list[Found] = []
    # Of equal images the first by path stays.
    sources = sorted(listing.sources, key=lambda source: source.images)
    for number, source in enumerate(sources):
        try:
            parts = reader.expand(source)
            shape = reader.inspect(parts[0])
            _refuse_other_axes(spec, shape)
            for part in parts:
                sample = _identify(part, reader, hashes, key)
                if sample.group not in forgotten:
                    found.append(Found(sample, shape))
        except InputError as error:
            raise_unless_input(error)
            problems.append(Problem.of(source.images[0], error))
        except OSError as error:
            raise_unless_input(error)
            problems.append(Problem.of(source.images[0], InputError("not-found", "The file cannot be opened.")))
        progress("inputs", number + 1, len(sources))
    found, repeated = _without_duplicates(found)
    found, odd = _one_unit(found)
    problems += repeated + odd
    if not found:
        raise NothingFoundError(f"no usable sample in {base / spec.data.path} ({_why(problems)})")
    found.sort(key=lambda f: f.sample.id)
    return Survey(listing.root, found, sorted(problems, key=lambda p: (p.path, p.code)), listing.classes, listing.remarks, listing.aside)


def settle_masks(
    seen: Survey, spec: RunSpec, highest: int, planned: Collection[str] = (), known: White | None = None
) -> tuple[Survey, White | None]:
    """The survey with what mask pictures mean in its labels, less the samples whose masks cannot be used; and what 255 is, see `look`.

    planned: ids of samples that an earlier plan holds, whose masks were looked at then.  known: what it found.
    Raises NothingFoundError: no sample is left, and none was planned.
    """
    reader = Reader(seen.root, spec.data, spec.preprocess, spec.victim.head == "sigmoid")
    sources = {item.sample.id: item.sample.source for item in seen.found if item.sample.id not in planned}
    drawn = {name: source for name, source in sources.items() if source.masks and reader.is_picture(source)}
    looked = look(list(drawn.values()), reader, highest, known)
    usable = {source.images: source for source in looked.sources}
    found = []
    for item in seen.found:
        if item.sample.id not in drawn:
            found.append(item)
        elif (source := usable.get(item.sample.source.images)) is not None:
            found.append(replace(item, sample=replace(item.sample, source=source)))
    problems = sorted([*seen.problems, *looked.problems], key=lambda p: (p.path, p.code))
    if not found:
        raise NothingFoundError(f"no usable sample ({_why(problems)})")
    return replace(seen, found=found, problems=problems), looked.white


def _refuse_other_axes(spec: RunSpec, shape: Shape) -> None:
    mirror, axes = spec.preprocess.mirror, len(shape.shape) - 1
    if mirror is not None and (highest := max(mirror.axes)) >= axes:
        raise SpecError(f"preprocess.mirror (of a hardening: flips): axis {highest} of images of {axes} spatial axes, which count from 0")


def _why(problems: list[Problem]) -> str:
    """How many inputs cannot be used, and what is wrong with the first."""
    if not problems:
        return "there is none"
    first = problems[0]
    return f"{len(problems)} cannot be used, the first as {first.code}: {first.message} {first.advice}"


def _identify(source: Source, reader: Reader, hashes: FileHashes, key: bytes) -> PlannedSample:
    identity, label = content_of(source, reader, hashes)
    group = keyed_hash(key, source.group if source.group is not None else f"sample {identity}")
    mirror = reader.preprocess.mirror
    if mirror is not None:
        source = replace(source, mirror=axes_drawn(identity, mirror.axes, mirror.turn))
    return PlannedSample(identity, group, label, source)


def _drop_crossing(listing: Listing, data: DataSettings) -> None:
    crossing = {s.group for s in listing.sources if s.group in listing.other_groups}
    if not crossing:
        return
    inside = sum(s.group in crossing for s in listing.sources)
    if data.group_conflict == "error":
        raise SpecError(
            f"{len(crossing)} groups ({inside} samples) of split {data.split.use if data.split else ''!r} also stand in other splits: "
            "correct the splits, or set data.group_conflict: drop"
        )
    listing.sources = [s for s in listing.sources if s.group not in crossing]


def _without_duplicates(found: list[Found]) -> tuple[list[Found], list[Problem]]:
    """Of equal images the first one stays; where their labels differ, none does."""
    by_id: dict[str, list[Found]] = defaultdict(list)
    for item in found:
        by_id[item.sample.id].append(item)
    kept: list[Found] = []
    problems: list[Problem] = []
    for same in by_id.values():
        if len({item.sample.label_sha256 for item in same}) > 1:
            problems += [Problem.of(item.sample.source.images[0], InputError("duplicate-conflict")) for item in same]
        else:
            kept.append(same[0])
            problems += [Problem.of(item.sample.source.images[0], InputError("duplicate")) for item in same[1:]]
    return kept, problems


def _one_unit(found: list[Found]) -> tuple[list[Found], list[Problem]]:
    """A corpus has one unit and one order of axes: the more frequent one."""
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for item in found:
        counts[item.shape.unit, item.shape.spatial_axes] += 1
    if len(counts) < 2:
        return found, []
    main = max(sorted(counts), key=lambda k: counts[k])
    fits = [(f.shape.unit, f.shape.spatial_axes) == main for f in found]
    odd = [f for f, fit in zip(found, fits, strict=True) if not fit]
    kept = [f for f, fit in zip(found, fits, strict=True) if fit]
    return kept, [Problem.of(f.sample.source.images[0], InputError("wrong-unit")) for f in odd]
