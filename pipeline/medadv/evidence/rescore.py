"""`verify --deep`: let the victim look at every stored sample again, and hold its answers against the stored ones."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medadv.batches.batch import on_device, rows_by_batch
from medadv.common.progress import Progress
from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import Manifest
from medadv.corpus.opening import VALUES, open_corpus, reading
from medadv.corpus.receipt import Receipt
from medadv.datasets.labels import Prediction, same_label
from medadv.evidence.finding import Finding
from medadv.evidence.published import device_of, differences, load_published_victim
from medadv.store.reader import adversarial_image, open_shard, read_answer
from medadv.victims.several import against
from medadv.victims.victim import TaskModel, Victim

SCORE_TOLERANCE = 1e-3
"""How far a score may lie from the stored one on another machine; on the same one it is the same."""


def rescore(
    root: Path, weights: Sequence[Path], trust_code: bool, progress: Progress, links: bool = False, code: Path | None = None
) -> list[Finding]:
    """Scores and answers that the victim does not give again, in fp32, in the planned batches, under the stored success rule.

    On a machine like the maker's every value must be the same; elsewhere scores may differ by `SCORE_TOLERANCE`, and answers with them.
    """
    workspace = Workspace(root)
    manifest = open_corpus(root, links=links, tell=progress.message)
    exact = not differences(manifest)
    victim: Victim | None = None
    shape: tuple[int, ...] = ()
    findings: list[Finding] = []
    for number, entry in enumerate(manifest.shards):
        receipt, problem = entry.receipt(root)
        if receipt is None:
            findings.append(Finding(entry.path, str(problem)))
            continue
        with reading(root, *VALUES), open_shard(root / entry.path) as file:
            if victim is None or shape != file["image"].shape[1:]:
                shape = file["image"].shape[1:]
                victim = load_published_victim(manifest, workspace, shape, weights, trust_code, code)
            findings += list(_shard(file, entry.path, receipt, manifest, victim, exact))
        progress("verify", number + 1, len(manifest.shards))
    return findings


def _shard(file: Any, name: str, receipt: Receipt, manifest: Manifest, victim: Victim, exact: bool) -> Iterator[Finding]:
    for rows in rows_by_batch(record.place[0] for record in receipt.records):
        images = np.stack([np.asarray(file["image"][row]) for row in rows])
        labels = [read_answer(file, "label", row) for row in rows]
        answers: dict[str | None, Sequence[Prediction]] = {}
        for attack, settings in manifest.attacks.items():
            judge = against(victim, settings).scored
            if settings.victim not in answers:
                answers[settings.victim] = predict(judge, images, manifest)
            clean = answers[settings.victim]
            prefix = f"attacks/{attack}"
            deltas = np.stack([np.asarray(file[f"{prefix}/perturbation"][row]) for row in rows])
            after = predict(judge, adversarial_image(images, deltas), manifest)
            for index, row in enumerate(rows):
                pair = {"clean": clean[index], "adversarial": after[index]}
                stored = {key: read_answer(file, f"{prefix}/prediction_{key}", row) for key in pair}
                record = receipt.records[row]
                said = record.attacks[attack]
                scores = {"clean": said.score_clean, "adversarial": said.score_adversarial}
                off = [abs(judge.score(answer, labels[index]) - scores[key]) for key, answer in pair.items()]
                success = judge.succeeded(pair["clean"], pair["adversarial"], labels[index], settings.goal)
                same = all(same_label(pair[key].answer, stored[key]) for key in pair) and success == bool(said.success)
                if said.attackable is not None:
                    same &= judge.vulnerable(pair["clean"], labels[index], settings.goal) == bool(said.attackable)
                if (exact and not same) or max(off) > (0 if exact else SCORE_TOLERANCE):
                    yield Finding(name, f"{attack}: the victim answers otherwise, scores off by {max(off):.2e}", record.id, prefix)


def predict(judge: TaskModel, images: Any, manifest: Manifest) -> Sequence[Prediction]:
    """Answers to (n, C, *spatial) stored images, on the device of the corpus."""
    return judge.predict(on_device(images, torch.device(device_of(manifest))))
