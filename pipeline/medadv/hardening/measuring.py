"""How good is a model on clean images and under fresh attacks? Metrics of a corpus, with resamples that compare to those of another model.

The bootstrap draws whole groups, the same ones for every model that answered the same samples: differences of two models' resamples are
paired, and several seeds may be averaged resample by resample.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from medadv.batches.batch import on_device, rows_by_batch
from medadv.common.errors import IntegrityError, SpecError
from medadv.common.record import Closed, Count, Sha256, parse
from medadv.corpus.manifest import Manifest
from medadv.corpus.opening import open_corpus, reading
from medadv.datasets.labels import Array, Label
from medadv.report.columns import Columns, read_columns
from medadv.report.estimates import statistics
from medadv.report.record import Figure
from medadv.scoring.intervals import Interval, group_draws, percentiles, resamples_for
from medadv.scoring.metrics import headline
from medadv.store.reader import open_shard, read_answer
from medadv.victims.victim import TaskModel

Statistics = Mapping[str, Callable[[Array], float]]


class Estimate(Closed):
    """A metric on the samples, and on every resample of their groups; null where it is not defined, such as the AUC of one class."""

    value: float | None
    resamples: list[float | None] = Field(description="empty of metrics that are not the headline, and of a single group")

    @property
    def figure(self) -> Figure:
        """With its interval."""
        return Figure.of(Interval(_number(self.value), *percentiles(_numbers(self.resamples))))

    def less(self, other: "Estimate") -> Figure:
        """What it is more than another of the same samples, paired."""
        # An earlier medadv drew a single group again and again: beside such a measurement, too, there is no interval.
        paired = bool(self.resamples and other.resamples)
        difference = _numbers(self.resamples) - _numbers(other.resamples) if paired else _numbers([])
        return Figure.of(Interval(_number(self.value) - _number(other.value), *percentiles(difference)))


class UnderAttack(Closed):
    """Answers to attacks of one epsilon, of each sample the worst."""

    epsilon: float
    metrics: dict[str, Estimate]
    attacks: dict[str, float | None] = Field(description="attack -> the headline metric of its answers alone")
    classes_answered: Count | None = Field(description="how many classes are answered; null where that says nothing")


class Measurement(Closed):
    """`validation.json` and `final/NAME.json`: one model on one set of samples."""

    format: Literal["medadv-measurement"] = "medadv-measurement"
    format_version: Literal[1] = 1
    weights_sha256: Sha256
    content_root: Sha256 = Field(description="of the corpus whose samples were answered")
    samples: Count
    groups: Count
    left_out: Count = Field(description="samples of equal images that training saw; they are in no figure")
    metric: str = Field(description="the headline")
    ignoring_image: float | None = Field(description="the headline of an answer that ignores the image")
    clean: dict[str, Estimate]
    robust: list[UnderAttack] = Field(description="by epsilon; empty where nothing was attacked")

    @property
    def headline(self) -> Estimate:
        """On clean images."""
        return self.clean[self.metric]

    def under(self, epsilon: float | None = None) -> Estimate:
        """The headline under attack.  epsilon: the largest where none is given."""
        at = self.robust[-1] if epsilon is None else next(each for each in self.robust if each.epsilon == epsilon)
        return at.metrics[self.metric]


@dataclass(frozen=True, eq=False)
class Answers:
    """Of one model to all samples: answers, empty for masks, and how right each is, (n,)."""

    answers: list[Label]
    scores: Array


def read_measurement(path: Path) -> Measurement | None:
    """What was measured and written down; None where nothing was."""
    try:
        return parse(Measurement, path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise IntegrityError(f"{path} {error}: delete it, and run again to measure anew") from None


def measured(corpus: Path, seen: Collection[str]) -> Measurement:
    """A model's answers as a corpus against it stores them.  seen: ids of the images that training saw."""
    manifest = open_corpus(corpus)
    with reading(corpus):
        columns = read_columns(corpus, manifest)
        first = next(iter(columns.attacks.values()))
        return _measurement(corpus, manifest, columns, Answers(first.clean, first.score_clean), seen, attacked=True)


def measured_clean(model: TaskModel, weights_sha256: str, corpus: Path, seen: Collection[str], device: torch.device) -> Measurement:
    """A model's answers to the clean images of a corpus that was made against another."""
    manifest = open_corpus(corpus)
    with reading(corpus):
        columns = read_columns(corpus, manifest)
        found = _measurement(corpus, manifest, columns, _asked(model, corpus, manifest, device), seen, attacked=False)
    return found.model_copy(update={"weights_sha256": weights_sha256})


def image_ids(ids: Iterable[str]) -> set[str]:
    """Ids of the images that samples come from: a slice's ends with its number."""
    return {name.partition("-")[0] for name in ids}


def _measurement(
    corpus: Path, manifest: Manifest, columns: Columns, clean: Answers, seen: Collection[str], *, attacked: bool
) -> Measurement:
    rows = np.array([row for row, name in enumerate(columns.ids) if name.partition("-")[0] not in seen], np.int64)
    if not len(rows):
        raise SpecError(f"{corpus}: every image is equal to one that was trained on: nothing is left to measure with")
    groups = [columns.groups[row] for row in rows]
    of_clean = _statistics(columns, clean)
    metric = headline(columns.task, dict.fromkeys(of_clean, 0.0))
    robust = []
    for epsilon in sorted({manifest.attacks[name].epsilon for name in manifest.attacks}) if attacked else ():
        each = {
            name: Answers(columns.attacks[name].adversarial, columns.attacks[name].score_adversarial)
            for name in manifest.attacks
            if manifest.attacks[name].epsilon == epsilon
        }
        worst = _worst(list(each.values()))
        alone = {name: _number_or_none(_statistics(columns, answers)[metric](rows)) for name, answers in each.items()}
        metrics = _estimates(_statistics(columns, worst), rows, groups, columns.task)
        robust.append(UnderAttack(epsilon=epsilon, metrics=metrics, attacks=alone, classes_answered=_classes(worst, rows, columns.task)))
    return Measurement(
        weights_sha256=manifest.victim.weights_sha256,
        content_root=manifest.content_root,
        samples=len(rows),
        groups=len(set(groups)),
        left_out=len(columns.ids) - len(rows),
        metric=metric,
        ignoring_image=manifest.baseline.ignoring_image if manifest.baseline else None,
        clean=_estimates(of_clean, rows, groups, columns.task),
        robust=robust,
    )


def _statistics(columns: Columns, answers: Answers) -> Statistics:
    return statistics(columns, answers.answers, answers.scores)


def _estimates(each: Statistics, rows: Array, groups: Sequence[str], task: str) -> dict[str, Estimate]:
    metric = headline(task, dict.fromkeys(each, 0.0))
    # A single group drawn again is itself: an interval without width, of which every difference would lie outside.
    draws = group_draws(groups, resamples_for(task, len(rows))) if len(set(groups)) > 1 else ()
    resamples = [_number_or_none(each[metric](rows[drawn])) for drawn in draws]
    return {
        name: Estimate(value=_number_or_none(statistic(rows)), resamples=resamples if name == metric else [])
        for name, statistic in each.items()
    }


def _worst(each: Sequence[Answers]) -> Answers:
    """Of every sample the answer that is least right."""
    scores = np.stack([answers.scores for answers in each])
    lowest = scores.argmin(0)
    answers = [each[number].answers[row] for row, number in enumerate(lowest.tolist())] if each[0].answers else []
    return Answers(answers, scores.min(0))


def _classes(answers: Answers, rows: Array, task: str) -> int | None:
    if task != "classification":
        return None
    return len({tuple(np.atleast_1d(np.asarray(answers.answers[row])).tolist()) for row in rows})


def _asked(model: TaskModel, corpus: Path, manifest: Manifest, device: torch.device) -> Answers:
    answers, scores = [], []
    for entry in manifest.shards:
        receipt, problem = entry.receipt(corpus)
        if receipt is None:
            raise IntegrityError(f"{entry.path}: {problem}; run `medadv verify`")
        with open_shard(corpus / entry.path) as file:
            for rows in rows_by_batch(record.place[0] for record in receipt.records):
                images = on_device(np.stack([file["image"][row] for row in rows]), device)
                for row, answer in zip(rows, model.predict(images), strict=True):
                    scores.append(model.score(answer, model.as_label(read_answer(file, "label", row))))
                    if model.task != "segmentation":
                        answers.append(answer.answer)
    return Answers(answers, np.array(scores, np.float64))


def _number_or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _numbers(values: Sequence[float | None]) -> Array:
    return np.array([_number(value) for value in values], np.float64)
