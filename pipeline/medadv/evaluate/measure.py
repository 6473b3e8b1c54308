"""What do a corpus's ensembles say of its victim? Every figure from the stored samples, and the signs that speak against them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medadv.batches.attacking import start_seeds
from medadv.batches.batch import Batch
from medadv.batches.bench import AttackBench
from medadv.batches.ensemble import NOBODY, START, UNTRIED
from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import Manifest
from medadv.corpus.opening import open_corpus, reading
from medadv.datasets.labels import Array, Boxes, Label, Prediction
from medadv.evaluate.binarization import binarization
from medadv.evaluate.clinical import clinical_readings
from medadv.evaluate.curve import Metric, metric_curve
from medadv.evaluate.flags import Flag, already_probabilities, beaten_by_weaker, clamped, passes_differ, zero_gradients
from medadv.evaluate.readings import Case, ClinicalReport, with_score
from medadv.evaluate.record import AtEpsilon, Evaluation, Found
from medadv.evidence.attack_strength import MAX_VALUES
from medadv.evidence.published import device_of, load_published_victim
from medadv.evidence.stored_strength import first_samples
from medadv.report.columns import AttackColumns, Columns, read_columns
from medadv.report.estimates import statistics
from medadv.scoring.attackable import some_class_right
from medadv.scoring.metrics import headline
from medadv.spec.attack import AttackSettings
from medadv.spec.data import class_names
from medadv.store.reader import open_shard, read_answer, spacing_of
from medadv.victims.tasks.classification import Classifier
from medadv.victims.tasks.segmentation import Segmenter
from medadv.victims.victim import TaskModel, Victim

FLAG_SAMPLES = 8
"""Samples on which the victim is asked again; fewer where they are large."""
CLEARLY = 0.05
"""A weaker attack on masks or boxes counts as having found something where its score is this much lower than all before it."""


def measured(corpus: Path, trust_code: bool) -> Evaluation:
    """Everything that `evaluation.json` says of a complete corpus of ensembles.  Raises as reading a corpus and loading its victim do."""
    workspace = Workspace(corpus)
    manifest = open_corpus(corpus)
    with reading(corpus):
        columns = read_columns(corpus, manifest)
        shape = read_shape(corpus, manifest)
        victim = load_published_victim(manifest, workspace, shape, (), trust_code)
        ensembles = ensembles_of(manifest)
        largest = max(ensembles)
        name, settings = ensembles[largest]
        over = _metrics(columns, ensembles)
        curves = {
            metric: metric_curve({epsilon: each[metric] for epsilon, each in over.items()}, columns.groups, columns.task)
            for metric in over[0.0]
        }
        at = [_at(corpus, manifest, columns, victim.scored, epsilon, *ensembles[epsilon]) for epsilon in sorted(ensembles)]
        batch = first_samples(workspace, manifest, _few(shape)).on(torch.device(device_of(manifest)))
        members = members_of(settings)
        seeds = start_seeds(manifest.execution.seed, batch.ids, name)
        return Evaluation(
            name=manifest.name,
            task=columns.task,
            unit=manifest.data.unit,
            samples=len(columns.ids),
            groups=len(set(columns.groups)),
            content_root=manifest.content_root,
            network=manifest.victim.network,
            weights_sha256=manifest.victim.weights_sha256,
            metric=headline(columns.task, dict.fromkeys(curves, 0.0)),
            curves=curves,
            baseline=manifest.baseline,
            members=list(members.values()),
            epsilons=at,
            flags=_flags(victim, batch, members, columns, {at: ensembles[at][0] for at in sorted(ensembles)}, seeds),
            binarization=binarization(victim, batch, next(iter(members.values())), seeds),
        )


def ensembles_of(manifest: Manifest) -> dict[float, tuple[str, AttackSettings]]:
    """Name and settings of the corpus's ensembles by their epsilon."""
    return {settings.epsilon: (name, settings) for name, settings in manifest.attacks.items() if settings.members}


def members_of(settings: AttackSettings) -> dict[str, AttackSettings]:
    """An ensemble's members in order, each under a name of its own: `2 apgd dlr`."""
    return {f"{at} {each.attack} {each.loss}": each for at, each in enumerate(settings.members or (), 1)}


def read_shape(corpus: Path, manifest: Manifest) -> tuple[int, ...]:
    """(C, *spatial) of the first stored image."""
    with open_shard(corpus / manifest.shards[0].path) as file:
        return tuple(file["image"].shape[1:])


def _few(shape: tuple[int, ...]) -> int:
    return max(1, min(FLAG_SAMPLES, MAX_VALUES // math.prod(shape)))


def _metrics(columns: Columns, ensembles: Mapping[float, tuple[str, AttackSettings]]) -> dict[float, dict[str, Metric]]:
    """Metrics as functions of indices of samples, of the clean answers under epsilon 0."""
    first = columns.attacks[next(iter(ensembles.values()))[0]]
    found = {0.0: statistics(columns, first.clean, first.score_clean)}
    for epsilon, (name, _) in ensembles.items():
        attack = columns.attacks[name]
        found[epsilon] = statistics(columns, attack.adversarial, attack.score_adversarial)
    return found


def _at(
    corpus: Path, manifest: Manifest, columns: Columns, judge: TaskModel, epsilon: float, name: str, settings: AttackSettings
) -> AtEpsilon:
    attack = columns.attacks[name]
    assert attack.made_by is not None
    assert attack.member_score is not None
    tried, nobody = attack.member_score != UNTRIED, attack.made_by == NOBODY
    untouched = nobody & ~tried.any(1)
    wrong: Array | None = None
    if columns.task == "classification":
        wrong = np.array([not some_class_right(answer, truth) for answer, truth in zip(attack.adversarial, columns.truths, strict=True)])
    found = []
    for at, member in enumerate(members_of(settings)):
        mine = attack.made_by == at
        broke = None if wrong is None else int((mine & wrong).sum())
        found.append(Found(name=member, tried=int(tried[:, at].sum()), kept=int(mine.sum()), broke=broke))
    return AtEpsilon(
        epsilon=epsilon,
        attack=name,
        wrong_when_clean=int(untouched.sum()),
        kept_from_smaller=int((attack.made_by == START).sum()),
        unmoved=int((nobody & ~untouched).sum()),
        found=found,
        clinical=clinical_of(stored_cases(corpus, manifest, name, two_classes(judge)), manifest, judge),
    )


def clinical_of(cases: Iterator[Case], manifest: Manifest, judge: TaskModel) -> ClinicalReport:
    """What clinicians read of answers to a corpus's samples."""
    head = judge.head if isinstance(judge, Classifier | Segmenter) else "softmax"
    return clinical_readings(
        manifest.data.task,
        cases,
        head=head,
        classes=judge.classes,
        score_threshold=manifest.victim.score_threshold,
        names=class_names(manifest.data) or None,
    )


def two_classes(judge: TaskModel) -> bool:
    """Whether the probability of the truth tells both."""
    return isinstance(judge, Classifier) and judge.head == "softmax" and judge.classes == 2


def stored_cases(corpus: Path, manifest: Manifest, attack: str, two: bool) -> Iterator[Case]:
    """Every sample's truth and stored answers, one at a time.  two: whether scores are probabilities of the truth among two classes."""
    for entry in manifest.shards:
        with open_shard(corpus / entry.path) as file:
            axes = file["image"].ndim - 2
            prefix = f"attacks/{attack}"
            for row in range(file["image"].shape[0]):
                truth = read_answer(file, "label", row)
                clean, attacked = (_answer(file, prefix, which, row, truth, two) for which in ("clean", "adversarial"))
                affine = np.asarray(file["affine"][row]) if "affine" in file else None
                group = bytes(file["group_id"][row]).decode()
                yield Case(truth, clean, attacked, group, spacing_of(affine, axes))


def _answer(file: Any, prefix: str, which: str, row: int, truth: Label, two: bool) -> Prediction:
    answer = read_answer(file, f"{prefix}/prediction_{which}", row)
    return with_score(answer, truth, float(file[f"{prefix}/score_{which}"][row])) if two else Prediction(answer)


def _flags(
    victim: Victim, batch: Batch, members: Mapping[str, AttackSettings], columns: Columns, names: Mapping[float, str], seeds: list[int]
) -> list[Flag]:
    """names: the ensembles by their epsilon, from the smallest on."""
    attacks = [columns.attacks[name] for name in names.values()]
    # At a larger epsilon most is found already: a gradient that misleads shows where the weaker attack first found something.
    beaten = [beaten_by_weaker(members, makers) for makers in makers_at(list(members), attacks, columns.truths, columns.task)]
    flags = [max(beaten, key=lambda flag: flag.number or 0.0), passes_differ(victim.scored, batch.images)]
    if isinstance(victim.scored, Classifier | Segmenter):
        with torch.no_grad():
            logits = victim.scored.forward(batch.images)
        flags.append(already_probabilities(logits.double().cpu().numpy(), victim.scored.head))
    bench = AttackBench(victim, batch, seeds, len(batch))
    flags.append(zero_gradients(bench, next(iter(members.values()))))
    return [*flags, clamped(bench)]


def makers_at(members: list[str], attacks: Sequence[AttackColumns], truths: Sequence[Label], task: str) -> list[list[str | None]]:
    """At each epsilon, per sample the member that found what is kept: of one class who broke it, there or at a smaller epsilon; of masks,
    boxes and several labels who went clearly below all before and below what was kept at the epsilon before.

    attacks: the ensembles from the smallest epsilon on, each started from the one before.
    """
    one_class = task == "classification" and not any(np.ndim(truth) for truth in truths if not isinstance(truth, Boxes))
    found: list[list[str | None]] = []
    lowest: Array = np.array(attacks[0].score_clean)
    for attack in attacks:
        inherited = found[-1] if found else [None] * len(truths)
        found.append(_breakers(members, attack, truths, inherited) if one_class else _clearly_below(members, attack, lowest))
        lowest = np.array(attack.score_adversarial)
    return found


def _breakers(
    members: list[str], attack: AttackColumns, truths: Sequence[Label], inherited: Sequence[str | None]
) -> list[str | None]:
    assert attack.made_by is not None
    makers: list[str | None] = []
    for made, answer, truth, before in zip(attack.made_by.astype(int).tolist(), attack.adversarial, truths, inherited, strict=True):
        if made == START:
            makers.append(before)
        else:
            makers.append(members[made] if made < len(members) and not some_class_right(answer, truth) else None)
    return makers


def _clearly_below(members: list[str], attack: AttackColumns, lowest: Array) -> list[str | None]:
    assert attack.member_score is not None
    makers: list[str | None] = [None] * len(lowest)
    for at, name in enumerate(members):
        scores = attack.member_score[:, at]
        for row in np.flatnonzero((scores != UNTRIED) & (scores < lowest - CLEARLY)):
            makers[row] = name
        lowest = np.where(scores == UNTRIED, lowest, np.minimum(lowest, scores))
    return makers
