"""What do models answer to a corpus that was made against another? Transfer, and one table for several models on the same samples."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from pydantic import Field

from medadv.batches.batch import on_device, rows_by_batch
from medadv.common.errors import SpecError
from medadv.common.files import all_or_nothing
from medadv.common.machine import set_threads
from medadv.common.printable import aligned
from medadv.common.progress import Progress
from medadv.common.record import Closed, Sha256
from medadv.common.stop import Stop
from medadv.corpus.manifest import Manifest
from medadv.corpus.opening import open_corpus, reading
from medadv.datasets.labels import Label, Prediction
from medadv.evaluate.measure import clinical_of, read_shape
from medadv.evaluate.readings import Case, ClinicalReport
from medadv.evaluate.write import csv_text
from medadv.prepare.settings import resolve_device
from medadv.report.columns import Columns
from medadv.report.estimates import statistics
from medadv.report.record import Figure
from medadv.scoring.intervals import bootstrap, resamples_for
from medadv.scoring.metrics import headline
from medadv.store.reader import adversarial_image, open_shard, read_answer, spacing_of
from medadv.victims.importers.resolve import read_spec
from medadv.victims.loading import VictimRequest
from medadv.victims.victim import TaskModel


class OnAttack(Closed):
    """One model's answers to one attack of a corpus; intervals over groups."""

    attack: str
    metrics: dict[str, Figure]
    clinical: ClinicalReport


class OnCorpus(Closed):
    """One model on the stored samples of a corpus."""

    spec: str
    network: str
    weights_sha256: Sha256
    own: bool = Field(description="whether the corpus was made against these weights; otherwise its attacks are transferred ones")
    metric: str
    clean: dict[str, Figure]
    attacks: list[OnAttack]


class Leaderboard(Closed):
    """`leaderboard.json`: several models on one corpus."""

    corpus: str
    content_root: Sha256
    models: list[OnCorpus]


def on_corpus(
    specs: Sequence[Path], corpus: Path, overrides: Sequence[str], trust_code: bool, progress: Progress, stop: Stop
) -> Leaderboard:
    """Let the victim of every spec answer what a corpus holds; nothing is attacked.

    Raises SpecError where a spec is wrong or its victim does not fit the corpus; IntegrityError where the corpus cannot be read.
    """
    manifest = open_corpus(corpus)
    if not manifest.samples:
        raise SpecError(f"{corpus}: holds no sample")
    with reading(corpus):
        models = []
        for done, path in enumerate(specs):
            stop.check("nothing was written")
            progress("models", done, len(specs), path.name)
            models.append(_model(path, corpus, manifest, overrides, trust_code))
    return Leaderboard(corpus=manifest.name, content_root=manifest.content_root, models=models)


def _model(path: Path, corpus: Path, manifest: Manifest, overrides: Sequence[str], trust_code: bool) -> OnCorpus:
    spec = read_spec(path, overrides, trust_code)[0].alone("evaluate")
    if spec.data.task != manifest.data.task:
        raise SpecError(f"{path}: its task is {spec.data.task}, that of {corpus} {manifest.data.task}")
    set_threads(spec.execution.threads)
    device = torch.device(resolve_device(spec.execution.device))
    request = VictimRequest(spec.victim, spec.data.task, path.resolve().parent, trust_code, manifest.x_first)
    victim = request.load(device, read_shape(corpus, manifest))
    judge, clean, attacks = victim.scored, {}, []
    for name in manifest.attacks:
        seen = _Seen(judge)
        clinical = clinical_of(seen.cases(corpus, manifest, name, device), manifest, judge)
        clean = seen.figures("clean")
        attacks.append(OnAttack(attack=name, metrics=seen.figures("attacked"), clinical=clinical))
    identity = victim.identity
    known = [member.weights_sha256 for member in manifest.victim.members or ()]
    return OnCorpus(
        spec=spec.name,
        network=spec.victim.network,
        weights_sha256=identity.weights_sha256,
        own=identity.weights_sha256 == manifest.victim.weights_sha256 and list(identity.members) == known,
        metric=headline(manifest.data.task, dict.fromkeys(clean, 0.0)),
        clean=clean,
        attacks=attacks,
    )


@dataclass
class _Seen:
    """What is kept of the answers to one attack: no masks."""

    judge: TaskModel
    groups: list[str] = field(default_factory=list)
    truths: list[Label] = field(default_factory=list)
    answers: dict[str, list[Label]] = field(default_factory=lambda: {"clean": [], "attacked": []})
    scores: dict[str, list[float]] = field(default_factory=lambda: {"clean": [], "attacked": []})

    def cases(self, corpus: Path, manifest: Manifest, attack: str, device: torch.device) -> Iterator[Case]:
        """Every sample, in batches as they were planned, with this model's answers."""
        for entry in manifest.shards:
            receipt, problem = entry.receipt(corpus)
            if receipt is None:
                raise SpecError(f"{entry.path}: {problem}; run `medadv verify`")
            with open_shard(corpus / entry.path) as file:
                for rows in rows_by_batch(record.place[0] for record in receipt.records):
                    images = np.stack([file["image"][row] for row in rows])
                    deltas = np.stack([file[f"attacks/{attack}/perturbation"][row] for row in rows])
                    clean = self.judge.predict(on_device(images, device))
                    attacked = self.judge.predict(on_device(adversarial_image(images, deltas), device))
                    for row, before, after in zip(rows, clean, attacked, strict=True):
                        truth = self._truth(read_answer(file, "label", row))
                        affine = np.asarray(file["affine"][row]) if "affine" in file else None
                        group = bytes(file["group_id"][row]).decode()
                        self._note(truth, group, {"clean": before, "attacked": after})
                        yield Case(truth, before, after, group, spacing_of(affine, images.ndim - 2))

    def _truth(self, stored: Label) -> Label:
        try:
            return self.judge.as_label(stored)
        except ValueError as error:
            raise SpecError(f"the corpus's labels do not fit this victim: {error}") from None

    def _note(self, truth: Label, group: str, answers: dict[str, Prediction]) -> None:
        self.groups.append(group)
        small = self.judge.task != "segmentation"
        if small:
            self.truths.append(truth)
        for which, answer in answers.items():
            self.scores[which].append(self.judge.score(answer, truth))
            if small:
                self.answers[which].append(answer.answer)

    def figures(self, which: str) -> dict[str, Figure]:
        """Metrics with their intervals."""
        columns = Columns(self.judge.task, [], self.groups, [], self.truths, {})
        count, resamples = len(self.groups), resamples_for(self.judge.task, len(self.groups))
        each = statistics(columns, self.answers[which], np.array(self.scores[which], np.float64))
        return {name: Figure.of(bootstrap(statistic, count, resamples, self.groups)) for name, statistic in each.items()}


def write_leaderboard(folder: Path, board: Leaderboard) -> list[Path]:
    """JSON and CSV. Returns them."""
    rows: list[tuple[str | float | None, ...]] = [("spec", "own", "attack", "metric", "value", "low", "high")]
    for model in board.models:
        for attack, metrics in (("clean", model.clean), *((each.attack, each.metrics) for each in model.attacks)):
            for name, figure in metrics.items():
                rows.append((model.spec, "yes" if model.own else "no", attack, name, figure.value, figure.low, figure.high))
    with all_or_nothing(folder) as made:
        (made / "leaderboard.json").write_text(json.dumps(board.model_dump(mode="json"), indent=1) + "\n")
        (made / "leaderboard.csv").write_text(csv_text(rows))
    return [folder / "leaderboard.json", folder / "leaderboard.csv"]


def as_text(board: Leaderboard) -> str:
    """The table for a terminal: the headline metric of every model under every attack."""
    attacks = [each.attack for each in board.models[0].attacks]
    lines = [["model", "attacks are", "metric", "clean", *attacks]]
    for model in board.models:
        figures = [model.clean[model.metric], *(each.metrics[model.metric] for each in model.attacks)]
        lines.append([model.spec, "its own" if model.own else "transferred", model.metric, *map(_told, figures)])
    return aligned(lines)


def _told(figure: Figure) -> str:
    return "n/a" if figure.value is None else f"{figure.value:.3f}"
