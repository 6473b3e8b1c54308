"""Which figures does a report hold? The record, from the manifest, the shards' columns, and some images read again."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

import numpy as np

from medadv.common.hashing import hash_file
from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import Manifest
from medadv.datasets.labels import Array
from medadv.plan.plan_settings import VictimFacts
from medadv.report import checks
from medadv.report.answers import Facts
from medadv.report.by_class import Held, class_drops, held, held_in_masks
from medadv.report.checklist import checklist
from medadv.report.claims import limits, not_to_conclude, terms
from medadv.report.columns import AttackColumns, Columns
from medadv.report.estimates import NAMES, Compared, metrics, success
from medadv.report.noise import WINDOW, SampleNoise
from medadv.report.readback import ReadBack
from medadv.report.record import (
    Appearance,
    Attack,
    Check,
    Drop,
    Figure,
    GroupDrops,
    Model,
    Noise,
    Part,
    Parting,
    Population,
    Report,
    Result,
    Spread,
)
from medadv.report.words import RESPONSIBLE, began, citations, in_short, methods
from medadv.scoring.constant import constant_accuracy
from medadv.scoring.metrics import HEADLINE
from medadv.spec.data import class_names
from medadv.spec.goal import in_words
from medadv.spec.modality import MODALITIES, UNITS
from medadv.spec.normalize import described
from medadv_transforms.units import LATTICES

GREY_SPAN = 255.0
MOST_PARTS = 50
"""Parts of one kind that are listed, the largest first."""


def build(
    workspace: Workspace,
    manifest: Manifest,
    columns: Columns,
    stored: Mapping[str, ReadBack],
    noise: Sequence[SampleNoise] | None,
    window: tuple[tuple[float, float] | None, str],
    rules: Mapping[str, str],
) -> Report:
    """The record of a corpus.

    stored: of each attack, what was read again.  noise: of the same samples, None where images are not in HU.  window: bounds in HU and
    what to call it.  rules: of each attack, its stored rule of success in words.
    """
    unit, names = UNITS[manifest.data.unit], class_names(manifest.data) or None
    overall = {name: metrics(columns, attack) for name, attack in columns.attacks.items()}
    results = list(compared_results(manifest, columns, overall))
    masks = columns.task == "segmentation"
    by_class = {name: held_in_masks(read.dice, names) if masks else held(columns, names) for name, read in stored.items()}
    population = _population(manifest, columns, next(iter(by_class.values())), next(iter(stored.values())))
    said = None if noise is None else _noise(noise)
    found = checks.rows(manifest.sanity, unit)
    baseline = manifest.baseline
    return Report(
        name=manifest.name,
        content_root=manifest.content_root,
        manifest_sha256=hash_file(workspace.manifest),
        made=manifest.run.finished,
        tool=f"{manifest.tool.name or 'medadv'} {manifest.tool.version or ''}".strip(),
        determinism=manifest.determinism.level,
        model=_model(manifest, manifest.victim),
        **({"models": {name: _model(manifest, facts) for name, facts in manifest.victims.items()}} if manifest.victims else {}),
        population=population,
        attacks=[
            Attack(
                name=name,
                settings=in_short(settings, unit, manifest.data.task) + began(manifest.starts.get(name)),
                epsilon=settings.epsilon,
                goal=in_words(settings.goal, manifest.data.task),
                rule=rules[name],
            )
            for name, settings in manifest.attacks.items()
        ],
        results=results,
        drops=list(_drops(columns, by_class, stored, overall)),
        group_drops=[_group_drops(name, attack, columns) for name, attack in columns.attacks.items()],
        appearance=[_appearance(manifest, name, columns.attacks[name], stored[name], said, window[0]) for name in stored],
        window=window[1] or None,
        noise=said,
        ignoring_image=baseline.answer if baseline else None,
        warnings=([baseline.warning] if baseline and baseline.warning else []) + (manifest.sanity.warnings if manifest.sanity else []),
        checks=None if found is None else [Check(check=check, found=text, sound=sound) for check, text, sound in found],
        checklist=checklist(Facts(manifest, columns, results, unit)),
        terms=terms(manifest, population, results, unit),
        limits=list(limits(manifest, population, results, said)),
        not_to_conclude=list(not_to_conclude(manifest, results, unit)),
        methods=methods(manifest, unit),
        citations=citations(manifest.attacks),
        responsible_use=RESPONSIBLE,
    )


def spread_of(values: Sequence[float] | Array) -> Spread:
    """Median and ends of some values; those that are not finite are left out."""
    known = [float(value) for value in values if np.isfinite(value)]
    if not known:
        return Spread(median=None, smallest=None, largest=None, over=0)
    return Spread(median=median(known), smallest=min(known), largest=max(known), over=len(known))


def _model(manifest: Manifest, victim: VictimFacts) -> Model:
    return Model(
        network=victim.network,
        parameters=victim.parameters,
        members=len(victim.members or [None]),
        weights_sha256=victim.weights_sha256,
        input_steps=list(described(victim.normalize)),
        task=manifest.data.task,
        score_threshold=victim.score_threshold if manifest.data.task == "detection" else None,
    )


def _population(manifest: Manifest, columns: Columns, classes: Sequence[Held], read: ReadBack) -> Population:
    data = manifest.data
    partings = [_parting("class", columns, classes, read.count if columns.task == "segmentation" else len(columns.ids))] if classes else []
    partings += [_parting(by, columns, _strata(values), len(columns.ids)) for by, values in columns.strata.items()]
    return Population(
        modality=MODALITIES[data.modality].title,
        unit=UNITS[data.unit],
        samples=manifest.samples,
        groups=len(set(columns.groups)),
        samples_per_group=spread_of(list(Counter(columns.groups).values())),
        split=data.split,
        labels=data.label,
        licence=data.licence,
        quarantined=manifest.quarantined,
        shards_missing=manifest.run.shards_missing,
        partings=partings,
    )


def _parting(by: str, columns: Columns, parts: Sequence[Held], looked_at: int) -> Parting:
    listed = _largest(parts)
    told = [Part(name=part.name, samples=len(part.rows), groups=_groups(part, columns), boxes=part.boxes) for part in listed]
    return Parting(by=by, looked_at=looked_at, parts=told, left_out=len(parts) - len(listed))


def _groups(part: Held, columns: Columns) -> int:
    return len({columns.groups[row] for row in part.rows})


def _largest(parts: Sequence[Held]) -> list[Held]:
    if len(parts) <= MOST_PARTS:
        return list(parts)
    chosen = {id(part) for part in sorted(parts, key=lambda part: -len(part.rows))[:MOST_PARTS]}
    return [part for part in parts if id(part) in chosen]


def _strata(values: Sequence[str]) -> list[Held]:
    """Samples by what the data set says of them."""
    array = np.array(values)
    return [Held(number, name, np.flatnonzero(array == name)) for number, name in enumerate(sorted(set(values)))]


Overall = Mapping[str, Mapping[str, Compared]]
"""Of each attack, every metric over the whole corpus."""


def compared_results(manifest: Manifest, columns: Columns, overall: Overall) -> Iterator[Result]:
    """Every metric of every attack as a record."""
    for name, attack in columns.attacks.items():
        rate = Figure.of(success(columns, attack))
        for key, found in overall[name].items():
            yield Result(
                attack=name,
                metric=NAMES[key],
                clean=Figure.of(found.clean),
                adversarial=Figure.of(found.adversarial),
                drop=Figure.of(found.drop),
                ignoring_image=_ignoring(manifest, columns, key),
                success=rate,
                attackable=int(attack.attackable.sum()),
            )


def _ignoring(manifest: Manifest, columns: Columns, metric: str) -> float | None:
    """The corpus's own figure where it is of this metric; of accuracy it follows from the truths."""
    baseline = manifest.baseline
    if baseline is None:
        return None
    if baseline.metric == metric:
        return baseline.ignoring_image
    known = metric == "accuracy" and len(columns.truths) > 1
    return constant_accuracy(np.stack([np.asarray(truth) for truth in columns.truths])) if known else None


def _drops(
    columns: Columns, by_class: Mapping[str, Sequence[Held]], stored: Mapping[str, ReadBack], overall: Overall
) -> Iterator[Drop]:
    for name, attack in columns.attacks.items():
        classes = _largest(by_class[name])
        if columns.task == "detection" and len(classes) == 1:
            # Boxes of one class alone: its AP is the corpus's, which takes long to resample.
            yield _drop(name, "class", classes[0], NAMES["ap50"], overall[name]["ap50"], columns)
        else:
            for part, metric, found in class_drops(columns, attack, classes, stored[name].dice):
                yield _drop(name, "class", part, metric, found, columns)
        for by, values in columns.strata.items():
            for part in _largest(_strata(values)):
                compared = metrics(columns, attack, part.rows)
                # Of a part that holds one class alone there is no AUC.
                known = [key for key, value in compared.items() if np.isfinite(value.clean.value)]
                key = next(key for key in HEADLINE[columns.task] if key in known)
                yield _drop(name, by, part, NAMES[key], compared[key], columns)


def _drop(attack: str, by: str, part: Held, metric: str, found: Compared, columns: Columns) -> Drop:
    return Drop(
        attack=attack,
        by=by,
        name=part.name,
        metric=metric,
        samples=len(part.rows),
        groups=_groups(part, columns),
        boxes=part.boxes,
        clean=Figure.of(found.clean),
        adversarial=Figure.of(found.adversarial),
        drop=Figure.of(found.drop),
    )


def _group_drops(name: str, attack: AttackColumns, columns: Columns) -> GroupDrops:
    """Score drops by group: of each its mean."""
    rows: dict[str, list[float]] = {}
    for group, drop in zip(columns.groups, attack.drop, strict=True):
        rows.setdefault(group, []).append(float(drop))
    means = {group: float(np.mean(drops)) for group, drops in rows.items()}
    worst = max(means, key=lambda group: (means[group], group)) if len(means) > 1 else None
    return GroupDrops(attack=name, mean=spread_of(list(means.values())), worst_group=worst)


def _appearance(
    manifest: Manifest, name: str, attack: AttackColumns, stored: ReadBack, noise: Noise | None, window: tuple[float, float] | None
) -> Appearance:
    epsilon, lattice = manifest.attacks[name].epsilon, LATTICES[manifest.data.unit]
    span = lattice.high - lattice.low
    rms = spread_of(stored.rms)
    sigma = noise.tissue.median if noise else None
    return Appearance(
        attack=name,
        epsilon=epsilon,
        grey_levels=epsilon * GREY_SPAN / (span if window is None else window[1] - window[0]),
        share_of_range=epsilon / span,
        linf=spread_of(attack.linf),
        rms=rms,
        ssim=spread_of(stored.ssim),
        ssim_shown=spread_of(stored.ssim_shown),
        epsilon_in_noise=epsilon / sigma if sigma else None,
        rms_in_noise=rms.median / sigma if sigma and rms.median is not None else None,
    )


def _noise(found: Sequence[SampleNoise]) -> Noise:
    tissue, air, bound = (
        spread_of([value for each in found if (value := getattr(each, which)) is not None]) for which in ("tissue", "air", "at_bound")
    )
    return Noise(tissue=tissue, air=air, air_at_bound=bound, looked_at=len(found), window=WINDOW)
