"""Which samples is a universal perturbation fitted to? Those of another split, of which none is attacked and no group either."""

from collections.abc import Callable, Collection
from pathlib import Path

from medadv.common.errors import NothingFoundError, SpecError
from medadv.common.progress import Progress
from medadv.datasets.file_hashes import FileHashes
from medadv.datasets.masks import White
from medadv.plan.model import PlannedSample
from medadv.prepare.fit import check_labels, highest_class
from medadv.prepare.survey import Found, Survey, settle_masks, survey
from medadv.spec.data import DataSettings
from medadv.spec.run_spec import RunSpec
from medadv.victims.victim import Victim

EVERYBODY = "everybody"
"""Stands for the sample in the seed of a random start that all samples share."""
SHOWN = 3

def fit_samples(
    spec: RunSpec,
    base: Path,
    hashes: FileHashes,
    key: bytes,
    progress: Progress,
    forgotten: Collection[str],
    seen: Survey,
    victim: Victim,
    mask_255: White | None,
    tell: Callable[[str], None],
) -> dict[str, list[PlannedSample]]:
    """By attack, the samples that its one perturbation is fitted to, sorted by id.

    seen: what is attacked.  victim: on the CPU.  mask_255: what 255 means in the masks of what is attacked.  tell: of what is left out.

    Raises SpecError: nothing to fit to; a group that is attacked too, unless `group_conflict: drop`; another shape, unit or classes.
    """
    found: dict[str, list[PlannedSample]] = {}
    known: dict[str, list[Found]] = {}
    for name, settings in spec.attacks.items():
        if settings.fit is None:
            continue
        split = settings.fit.split
        where = f"attacks.{name}.fit.split={split!r}"
        try:
            if split not in known:
                other = _surveyed(spec, split, base, hashes, key, progress, forgotten, victim, mask_255)
                if other.problems:
                    tell(f"{len(other.problems)} inputs of split {split!r} cannot be used and are not fitted, the first: {_why(other)}")
                known[split] = _apart(other.found, seen.found, spec.data, split)
                _check(known[split], seen, other)
        except (SpecError, NothingFoundError) as error:
            raise SpecError(f"{where}: {error}") from None
        found[name] = [item.sample for item in known[split]]
    return found


def without_fitted(found: list[Found], fitted: Collection[str], data: DataSettings) -> list[Found]:
    """What is attacked, less the groups that a corpus's universal perturbations were fitted to: those are refused, or dropped."""
    crossing = [item for item in found if item.sample.group in fitted]
    if crossing and data.group_conflict == "error":
        groups = len({item.sample.group for item in crossing})
        raise SpecError(
            f"{groups} groups ({len(crossing)} samples) of split {data.split.use if data.split else ''!r} were fitted by a universal "
            "perturbation of this corpus: correct the splits, or set data.group_conflict: drop"
        )
    return [item for item in found if item.sample.group not in fitted]


def check_shapes(shapes: Collection[tuple[int, ...]]) -> None:
    """Raise SpecError where images of several stored shapes would share one perturbation. shapes: of all that is attacked and fitted."""
    if len(several := sorted({*shapes})) > 1:
        more = f" and {len(several) - SHOWN} more" if len(several) > SHOWN else ""
        raise SpecError(
            "one perturbation for all images needs one stored shape, and there are "
            f"{', '.join(str(list(shape)) for shape in several[:SHOWN])}{more}: set preprocess.size (pictures), or "
            "leave other images out"
        )


def _surveyed(
    spec: RunSpec,
    split: str,
    base: Path,
    hashes: FileHashes,
    key: bytes,
    progress: Progress,
    forgotten: Collection[str],
    victim: Victim,
    mask_255: White | None,
) -> Survey:
    assert spec.data.split is not None
    data = spec.data.model_copy(update={"split": spec.data.split.model_copy(update={"use": split})})
    other = spec.model_copy(update={"data": data})
    found = survey(other, base, hashes, key, progress, forgotten)
    if spec.data.task == "segmentation":
        found, _ = settle_masks(found, other, highest_class(victim), (), mask_255)
    check_labels(other, victim, found)
    return found


def _apart(found: list[Found], attacked: list[Found], data: DataSettings, split: str) -> list[Found]:
    """Without what is attacked, by the same rule as groups that cross splits; an image without a group is one by itself."""
    groups, ids = {item.sample.group for item in attacked}, {item.sample.id for item in attacked}
    both = [item for item in found if item.sample.group in groups or item.sample.id in ids]
    if not both:
        return found
    if data.group_conflict == "error":
        raise SpecError(
            f"{len({item.sample.group for item in both})} groups ({len(both)} samples) of split {split!r} also stand in the split that is "
            f"attacked, {data.split.use if data.split else ''!r}: correct the splits, or set data.group_conflict: drop"
        )
    crossing = {id(item) for item in both}
    return [item for item in found if id(item) not in crossing]


def _check(found: list[Found], seen: Survey, other: Survey) -> None:
    if not found:
        raise SpecError("every sample of it is attacked too, so that nothing is left to fit to")
    if found[0].shape.unit != seen.found[0].shape.unit:
        raise SpecError("its images are in another unit than those that are attacked")
    if other.classes != seen.classes:
        raise SpecError(f"its classes are {other.classes}, and those of what is attacked {seen.classes}: name them in data.classes")
    check_shapes({item.shape.shape for item in (*found, *seen.found)})


def _why(seen: Survey) -> str:
    first = seen.problems[0]
    return f"{first.code}: {first.message} {first.advice}"
