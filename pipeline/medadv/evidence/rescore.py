"""`verify --deep`: let the victim look at every stored sample again, and hold its answers against the stored ones."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medadv.batches.judging import planned_batches
from medadv.common.progress import Progress
from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import read_manifest
from medadv.corpus.receipt import load_receipt
from medadv.datasets.labels import Prediction, same_label
from medadv.evidence.finding import Finding
from medadv.evidence.published import device_of, differences, load_published_victim
from medadv.store.reader import adversarial_image, open_shard, read_answer
from medadv.victims.victim import Victim

SCORE_TOLERANCE = 1e-3
"""How far a score may lie from the stored one on another machine; on the same one it is the same."""


def rescore(root: Path, weights: Path | None, trust_code: bool, progress: Progress) -> list[Finding]:
    """Scores and answers that the victim does not give again, in fp32, in the planned batches, under the stored success rule.

    On a machine like the maker's every value must be the same; elsewhere scores may differ by `SCORE_TOLERANCE`, and answers with them.
    """
    workspace = Workspace(root)
    manifest = read_manifest(workspace)
    exact = not differences(manifest)
    victim: Victim | None = None
    shape: tuple[int, ...] = ()
    findings: list[Finding] = []
    for number, entry in enumerate(manifest["shards"]):
        receipt, problem = load_receipt(root, entry)
        if receipt is None:
            findings.append(Finding(entry["path"], str(problem)))
            continue
        with open_shard(root / entry["path"]) as file:
            if victim is None or shape != file["image"].shape[1:]:
                shape = file["image"].shape[1:]
                victim = load_published_victim(manifest, workspace, shape, weights, trust_code)
            findings += list(_shard(file, entry["path"], receipt, manifest, victim, exact))
        progress("verify", number + 1, len(manifest["shards"]))
    return findings


def _shard(
    file: Any, name: str, receipt: dict[str, Any], manifest: dict[str, Any], victim: Victim, exact: bool
) -> Iterator[Finding]:
    for rows in planned_batches(receipt):
        images = np.stack([np.asarray(file["image"][row]) for row in rows])
        labels = [read_answer(file, "label", row) for row in rows]
        clean = predict(victim, images, manifest)
        for attack in manifest["attacks"]:
            prefix = f"attacks/{attack}"
            deltas = np.stack([np.asarray(file[f"{prefix}/perturbation"][row]) for row in rows])
            after = predict(victim, adversarial_image(images, deltas), manifest)
            for index, row in enumerate(rows):
                pair = {"clean": clean[index], "adversarial": after[index]}
                stored = {key: read_answer(file, f"{prefix}/prediction_{key}", row) for key in pair}
                record = receipt["records"][row]
                off = [abs(victim.score(answer, labels[index]) - record["attacks"][attack][f"score_{key}"]) for key, answer in pair.items()]
                success = victim.succeeded(pair["clean"], pair["adversarial"], labels[index])
                same = all(same_label(pair[key].answer, stored[key]) for key in pair)
                same = same and success == bool(record["attacks"][attack]["success"])
                if (exact and not same) or max(off) > (0 if exact else SCORE_TOLERANCE):
                    yield Finding(name, f"{attack}: the victim answers otherwise, scores off by {max(off):.2e}", record["id"], prefix)


def predict(victim: Victim, images: Any, manifest: dict[str, Any]) -> Sequence[Prediction]:
    """Answers to (n, C, *spatial) stored images, on the device of the corpus."""
    return victim.predict(torch.from_numpy(images).to(device_of(manifest), torch.float32))
