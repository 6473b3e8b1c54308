#!/usr/bin/env python3
"""Does an attack of another library find what `medadv evaluate` did not? On the clean images that an evaluation stored, against its victim.

    scripts/bench/evaluate_peers.py EVALUATION pgd --epsilon 2 [--steps 200] [--starts 5] [--weights FILE] [--out FILE]
    scripts/bench/evaluate_peers.py EVALUATION autoattack --epsilon 1 [--steps 100] [--queries 5000]

EVALUATION is the folder that `medadv evaluate` left. pgd: torchattacks' PGD for classes and masks, a bare loop for boxes. autoattack:
pyautoattack's apgd-ce, apgd-t, fab and square, for classes. Both move in floats; what they find is brought to the lattice, inside
the same ball, and scored as the corpus is. Classes: only images that the evaluation left right are attacked, and how many of them fall is
how many more the other finds; those that it broke are broken. Masks and boxes: every image, and of each the worst answer over all starts.
"""

import argparse
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medadv.attacks.feasible import feasible_box, to_integers
from medadv.attacks.untouched import untouched
from medadv.batches.batch import Batch, rows_by_batch
from medadv.common.errors import SpecError
from medadv.common.files import writable_file, write_file
from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import Manifest, read_manifest
from medadv.datasets.labels import Boxes
from medadv.evaluate.measure import ensembles_of, read_shape
from medadv.evidence.published import load_published_victim
from medadv.scoring.metrics import corpus_metrics
from medadv.spec.attack import AttackSettings
from medadv.store.reader import open_shard, read_answer
from medadv.training.networks import device_of
from medadv.victims.victim import TaskModel, Victim
from medadv_transforms.units import LATTICES

PLAIN = AttackSettings(attack="pgd", epsilon=1, step=1)


class Unit(nn.Module):
    """The victim as other libraries want it: images in [0, 1] to logits."""

    def __init__(self, judge: TaskModel, low: float, high: float) -> None:
        super().__init__()
        self.judge, self.low, self.high = judge, low, high
        self.module = judge.module

    def forward(self, images: Tensor) -> Tensor:
        return self.judge.forward(images * (self.high - self.low) + self.low)


def batches(corpus: Path, manifest: Manifest, device: torch.device) -> Iterator[tuple[Batch, list[Any]]]:
    """Stored clean images with their truths, in planned batches, and the worst answers that the corpus holds at each epsilon."""
    names = {epsilon: name for epsilon, (name, _) in ensembles_of(manifest).items()}
    for entry in manifest.shards:
        receipt, _ = entry.receipt(corpus)
        assert receipt is not None
        with open_shard(corpus / entry.path) as file:
            for rows in rows_by_batch(record.place[0] for record in receipt.records):
                images = torch.from_numpy(np.stack([file["image"][row] for row in rows]))
                regions = torch.from_numpy(np.stack([file["region"][row] for row in rows]))[:, None] if "region" in file else None
                labels = [read_answer(file, "label", row) for row in rows]
                batch = Batch(images, labels, [receipt.records[row].id for row in rows], LATTICES[manifest.data.unit], regions)
                stored = [
                    {
                        epsilon: (
                            read_answer(file, f"attacks/{name}/prediction_adversarial", row),
                            float(file[f"attacks/{name}/score_adversarial"][row]),
                        )
                        for epsilon, name in names.items()
                    }
                    for row in rows
                ]
                yield batch.on(device), stored


def torchattacks_pgd(victim: Victim, batch: Batch, epsilon: float, steps: int, start: int) -> Tensor:
    """torchattacks' PGD from one random start, as a float perturbation in stored units."""
    import torchattacks

    low, high = batch.lattice.low, batch.lattice.high
    torch.manual_seed(start)
    attack = torchattacks.PGD(Unit(victim.scored, low, high), epsilon / (high - low), epsilon / (high - low) / 4, steps, random_start=True)
    images = (batch.images - low) / (high - low)
    labels = torch.from_numpy(np.stack([np.asarray(label) for label in batch.labels])).long().to(images.device)
    return (attack(images, labels) - images) * (high - low)


def bare_pgd(victim: Victim, batch: Batch, epsilon: float, steps: int, start: int) -> Tensor:
    """PGD as one writes it down, on the task's own loss: detectors are in no attack library."""
    torch.manual_seed(start)
    low, high = (batch.lattice.low - batch.images).clamp(min=-epsilon), (batch.lattice.high - batch.images).clamp(max=epsilon)
    delta = ((torch.rand_like(batch.images) * 2 - 1) * epsilon).clamp(low, high)
    targets = victim.scored.targets(batch.labels, batch.images.device)
    with untouched(victim.scored.module):
        for _ in range(steps):
            delta.requires_grad_()
            loss = victim.scored.deviation(victim.scored.forward(batch.images + delta), targets, PLAIN).sum()
            (gradient,) = torch.autograd.grad(loss, delta)
            delta = (delta.detach() + epsilon / 4 * gradient.sign()).clamp(low, high)
    return delta


def autoattack(victim: Victim, batch: Batch, epsilon: float, steps: int, queries: int) -> Tensor:
    """AutoAttack's standard set, of two classes apgd-ce, fab and square, as a float perturbation in stored units."""
    from pyautoattack import AutoAttack

    low, high = batch.lattice.low, batch.lattice.high
    images = (batch.images - low) / (high - low)
    classes = victim.scored.classes  # type: ignore[attr-defined]
    attacks = ["apgd-ce", "fab", "square"] if classes == 2 else ["apgd-ce", "apgd-t", "fab-t", "square"]
    unit, device = Unit(victim.scored, low, high), images.device
    adversary = AutoAttack(unit, attacks=attacks, eps=epsilon / (high - low), seed=0, version="custom", device=device)
    adversary.verbose = False
    adversary.apgd.n_iter = adversary.apgd_targeted.n_iter = adversary.fab.n_iter = steps
    adversary.apgd.n_restarts = adversary.fab.n_restarts = 1
    adversary.apgd_targeted.n_target_classes = adversary.fab.n_target_classes = min(9, classes - 1)
    adversary.square.n_queries = queries
    labels = torch.tensor([int(np.asarray(label)) for label in batch.labels], device=images.device)
    found, _ = adversary.run_standard_evaluation(images, labels, batch_size=len(images))
    return (found - images) * (high - low)


LOST = (False, 0.0)
"""Nothing of the answer is right any more."""


def on_lattice(batch: Batch, delta: Tensor, epsilon: float) -> Tensor:
    """The nearest whole perturbation inside the same bounds as ours."""
    low, high = feasible_box(batch.images, epsilon, batch.lattice, batch.region)
    return to_integers(delta.detach(), low, high)


def worst(judge: TaskModel, batch: Batch, tries: Iterable[Callable[[Batch], Tensor]], epsilon: float) -> Tensor:
    """Of each image the whole perturbation whose answer has the lowest score; one that has nothing left to lose is not tried again."""
    kept = torch.zeros_like(batch.images)
    ranks: list[tuple[bool, float]] = [(True, float("inf"))] * len(batch.labels)
    for attempt in tries:
        rows = [row for row, rank in enumerate(ranks) if rank > LOST]
        if not rows:
            break
        part = batch.chosen(rows)
        deltas = on_lattice(part, attempt(part), epsilon)
        for place, (row, answer) in enumerate(zip(rows, judge.predict(part.images + deltas), strict=True)):
            score = judge.score(answer, batch.labels[row])
            # Of classes a wrong one counts before a low probability of the right one, and no wrong one before another.
            left = judge.vulnerable(answer, batch.labels[row]) if judge.task == "classification" else score > 0
            rank = (True, score) if left else LOST
            if rank < ranks[row]:
                ranks[row], kept[row] = rank, deltas[place]
    return kept


def remembered(path: Path | None, find: Callable[[], Tensor]) -> Tensor:
    """What `find` gives, on the processor, kept in a file where there is to be one: hours of attacks go on where they were stopped."""
    if path is not None and path.is_file():
        with np.load(path) as file:
            return torch.from_numpy(file["perturbation"]).float()
    found = find().cpu()
    if path is not None:
        content = io.BytesIO()
        np.savez_compressed(content, perturbation=found.numpy().astype(np.int16))
        write_file(path, content.getvalue())
    return found


def metric(task: str, rows: list[tuple[Any, Any, float]]) -> tuple[float, int]:
    """Accuracy, mean Dice or AP50, and for classes how many are right."""
    if task == "classification":
        right = sum(int(np.array_equal(truth, answer)) for truth, answer, _ in rows)
        return right / len(rows), right
    value = corpus_metrics(task, rows)["dice" if task == "segmentation" else "ap50"]
    return value, 0


def main() -> None:
    """Attack, score, and print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evaluation", type=Path)
    parser.add_argument("attack", choices=["pgd", "autoattack"])
    parser.add_argument("--epsilon", type=float, required=True)
    parser.add_argument("--steps", type=int, help="200 for pgd, 100 for autoattack")
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--queries", type=int, default=5000)
    parser.add_argument("--weights", type=Path, action="append", default=[], help="where the maker's .medadv is not at hand")
    parser.add_argument("--out", type=Path, help="JSON file for the figures; perturbations lie beside it, and are not looked for again")
    arguments = parser.parse_args()
    try:
        if arguments.out:
            writable_file(arguments.out)
    except SpecError as error:
        parser.error(str(error))
    corpus = arguments.evaluation / "corpus"
    manifest = read_manifest(Workspace(corpus))
    task, epsilon = manifest.data.task, arguments.epsilon
    if epsilon not in ensembles_of(manifest):
        parser.error(f"--epsilon {epsilon:g}: the evaluation has {', '.join(f'{each:g}' for each in ensembles_of(manifest))}")
    victim = load_published_victim(manifest, Workspace(corpus), read_shape(corpus, manifest), arguments.weights, False)
    judge = victim.scored
    device = device_of(judge.module) or torch.device("cpu")
    steps = arguments.steps or (200 if arguments.attack == "pgd" else 100)
    pgd = bare_pgd if task == "detection" else torchattacks_pgd
    if arguments.attack == "autoattack":
        tries: list[Callable[[Batch], Tensor]] = [partial(autoattack, victim, epsilon=epsilon, steps=steps, queries=arguments.queries)]
    else:
        tries = [partial(pgd, victim, epsilon=epsilon, steps=steps, start=start) for start in range(arguments.starts)]
    settings = f"{manifest.content_root[:12]}-{arguments.attack}-{epsilon:g}-{steps}-{arguments.starts}-{arguments.queries}"
    parts = arguments.out.parent / f"{arguments.out.stem}-{settings}" if arguments.out else None
    if parts:
        parts.mkdir(exist_ok=True)
    ours: list[tuple[Any, Any, float]] = []
    theirs: list[tuple[Any, Any, float]] = []
    clean: list[tuple[Any, Any, float]] = []
    for done, (batch, stored) in enumerate(batches(corpus, manifest, device), 1):
        kept = [answers[epsilon] for answers in stored]
        before = judge.predict(batch.images)
        rows = [row for row, label in enumerate(batch.labels) if task != "classification" or np.array_equal(label, kept[row][0])]
        found = list(kept)
        if rows:
            part = batch.chosen(rows)
            path = parts / f"{done:05d}.npz" if parts else None
            delta = remembered(path, partial(worst, judge, part, tries, epsilon))
            for row, answer in zip(rows, judge.predict(part.images + delta.to(part.images)), strict=True):
                found[row] = answer.answer, judge.score(answer, batch.labels[row])
        for label, first, (mine, my_score), (other, score) in zip(batch.labels, before, kept, found, strict=True):
            # Corpus metrics of masks are made of scores alone, and masks are large.
            small = (label, first.answer, mine, other) if isinstance(label, Boxes) or np.ndim(label) < 2 else (0,) * 4
            clean.append((small[0], small[1], judge.score(first, label)))
            ours.append((small[0], small[2], my_score))
            theirs.append((small[0], small[3], score))
        print(f"batch {done}: {len(theirs)} of {manifest.samples} images", file=sys.stderr, flush=True)
    figures = {
        "task": task,
        "attack": arguments.attack,
        "steps": steps,
        "starts": 1 if arguments.attack == "autoattack" else arguments.starts,
        "epsilon": epsilon,
        "images": len(theirs),
        **{
            name: dict(zip(("metric", "right"), metric(task, rows), strict=True))
            for name, rows in (("clean", clean), ("evaluate", ours), (arguments.attack, theirs))
        },
    }
    print(json.dumps(figures))
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
