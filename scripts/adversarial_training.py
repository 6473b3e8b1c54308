#!/usr/bin/env python3
"""Does training on a corpus pay? Fine-tune a victim on its corpus, and as a control on the same clean images for as many steps.

adversarial_training.py SPEC --train CORPUS [--refresh N] [--seeds N] [--steps N] [--images N] [--out FILE]

A plain PyTorch loop over CorpusDataset. Both arms start from the victim's weights and see the same samples in the same order; one in
mode `clean`, one in mode `mixed`. Both are then attacked anew, white-box, on held-out images of the spec: the figures are means over
images and seeds, intervals 95 % percentile bootstrap over held-out images, paired between the arms. --refresh makes a further corpus
against the improved model (`medadv run` on the training split) and trains on, on all corpora so far.
"""

import argparse
import copy
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch.utils.data import ConcatDataset, DataLoader

from medadv.attacks.engine import perturb
from medadv.common.errors import SpecError
from medadv.common.files import writable_file
from medadv.common.progress import SILENT
from medadv.datasets.labels import Label
from medadv.datasets.layouts import list_samples
from medadv.datasets.reader import Reader
from medadv.prepare.request import Options
from medadv.run.run import run
from medadv.spec.attack import AttackSettings
from medadv.spec.reading import load_spec
from medadv.spec.run_spec import RunSpec
from medadv.training.collate import collate
from medadv.training.dataset import CorpusDataset
from medadv.training.labels import labels_of
from medadv.victims.loading import VictimRequest
from medadv_transforms.units import LATTICES

RESAMPLES = 2000


def held_out(spec: RunSpec, base: Path, victim: Any, count: int) -> tuple[Any, list[Label], str]:
    """Images (n, C, *spatial) in stored units, labels and unit of the spec's own split, which training never sees."""
    listing = list_samples(spec.data, base)
    reader = Reader(listing.root, spec.data, spec.preprocess, spec.victim.head == "sigmoid")
    sources = [part for source in listing.sources for part in reader.expand(source)]
    picked = np.random.default_rng(0).permutation(len(sources))[:count]
    samples = [reader.read(sources[index]) for index in sorted(picked.tolist())]
    return np.stack([s.image for s in samples]), [victim.as_label(s.label) for s in samples], samples[0].unit


def fine_tune(victim: Any, corpora: Sequence[Path], mode: Any, steps: int, batch_size: int, rate: float, seed: int) -> Any:
    """A copy of the victim after `steps` steps of AdamW on all the corpora; batch-norm statistics stay as they are."""
    model = copy.deepcopy(victim)
    torch.manual_seed(seed)
    datasets = [CorpusDataset(corpus, mode=mode, probability=0.7, seed=seed) for corpus in corpora]
    optimiser = torch.optim.AdamW(model.module.parameters(), lr=rate)
    done, epoch = 0, 0
    while done < steps:
        for dataset in datasets:
            dataset.set_epoch(epoch)
        order = torch.Generator().manual_seed(seed * 1000 + epoch)
        together: ConcatDataset[Any] = ConcatDataset(datasets)
        for batch in DataLoader(together, batch_size, shuffle=True, drop_last=True, generator=order, collate_fn=collate):
            optimiser.zero_grad()
            targets = model.targets(labels_of(model, batch, "label", batch["image"].shape[2:]), torch.device("cpu"))
            model.deviation(model.forward(batch["image"]), targets, AttackSettings(attack="pgd", epsilon=1)).mean().backward()
            optimiser.step()
            done += 1
            if done == steps:
                break
        epoch += 1
    model.module.eval()
    return model


def scores(victim: Any, images: Any, labels: Sequence[Label], unit: str, attack: AttackSettings | None, batch: int) -> Any:
    """(n,) score of each image as the metric has it: correct or not, Dice, or AP of the image; attacked anew when `attack` is given."""
    found = []
    for start in range(0, len(images), batch):
        part = torch.from_numpy(images[start : start + batch]).float()
        truths = labels[start : start + batch]
        if attack is not None:
            targets = victim.targets(truths, torch.device("cpu"))
            seeds = list(range(start, start + len(part)))
            part = part + perturb(victim, part, targets, attack, lattice=LATTICES[unit], seeds=seeds).float()
        for answer, truth in zip(victim.predict(part), truths, strict=True):
            correct = victim.task == "classification"
            found.append(float(np.array_equal(answer.answer, truth)) if correct else victim.score(answer, truth))
    return np.array(found)


def interval(values: Any) -> tuple[float, float, float]:
    """Mean and 95 % interval of per-image values."""
    draw = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(values[draw].mean(1), [2.5, 97.5])
    return float(values.mean()), float(low), float(high)


def refreshed(spec_path: Path, spec: RunSpec, train_split: str, model: Any, folder: Path, attacks: dict[str, Any]) -> Path:
    """A corpus of the training split against the improved model."""
    weights = folder / "improved.safetensors"
    save_file({key: value.contiguous() for key, value in model.module.network.state_dict().items()}, weights)
    overrides = [f"victim.weights={weights}", f"data.split.use={train_split}", f"attacks={json.dumps(attacks)}"]
    return run(spec_path, Options(out=folder / "corpus", overrides=overrides), SILENT).corpus


def main() -> None:
    """Train, attack, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", type=Path)
    parser.add_argument("--train", type=Path, required=True, help="corpus of the training split, made against the spec's victim")
    parser.add_argument("--refresh", type=int, default=0, help="further corpora made against the improved model")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200, help="per generation")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--images", type=int, default=64, help="held-out images")
    parser.add_argument("--attack-steps", type=int, default=10, help="of the fresh attacks")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    try:
        if arguments.out:
            writable_file(arguments.out)
    except SpecError as error:
        parser.error(str(error))
    torch.set_num_threads(1)
    spec, base = load_spec(arguments.spec), arguments.spec.resolve().parent
    manifest = json.loads((arguments.train / "manifest.json").read_text())
    shape = CorpusDataset(arguments.train)[0]["image"].shape
    victim = VictimRequest(spec.victim, spec.data.task, base).load(torch.device("cpu"), tuple(shape)).scored
    images, labels, unit = held_out(spec, base, victim, arguments.images)
    epsilon = max(settings["epsilon"] for settings in manifest["attacks"].values())
    fresh = {
        name: AttackSettings(attack=name, epsilon=epsilon, step=max(1, round(epsilon / 4)), steps=arguments.attack_steps)  # type: ignore[arg-type]
        for name in ("pgd", "smia")
    }
    measures: dict[str, AttackSettings | None] = {"clean": None, **fresh}

    def measured(model: Any) -> dict[str, Any]:
        return {name: scores(model, images, labels, unit, attack, arguments.batch) for name, attack in measures.items()}

    table: dict[str, dict[str, list[Any]]] = {"victim": {name: [value] for name, value in measured(victim).items()}}
    for seed in range(arguments.seeds):
        arms = {"control": victim, "adversarial": victim}
        corpora = [arguments.train]
        for generation in range(arguments.refresh + 1):
            settings = (arguments.steps, arguments.batch, arguments.rate, seed + 100 * generation)
            arms = {
                "control": fine_tune(arms["control"], corpora, "clean", *settings),
                "adversarial": fine_tune(arms["adversarial"], corpora, "mixed", *settings),
            }
            for arm, model in arms.items():
                for name, value in measured(model).items():
                    table.setdefault(f"{arm} {generation + 1}", {}).setdefault(name, []).append(value)
            report(table, arguments, len(images), epsilon, unit)
            if generation < arguments.refresh:
                folder = Path(tempfile.mkdtemp(prefix="refresh-"))
                corpora.append(refreshed(arguments.spec, spec, manifest["data"]["split"], arms["adversarial"], folder, manifest["attacks"]))


def report(table: dict[str, dict[str, list[Any]]], arguments: argparse.Namespace, images: int, epsilon: float, unit: str) -> None:
    """Print what is known so far, and write it to --out."""
    rows: dict[str, Any] = {}
    for arm, values in table.items():
        rows[arm] = {name: interval(np.mean(runs, 0)) for name, runs in values.items()}
        if arm.startswith("adversarial"):
            control = table[arm.replace("adversarial", "control")]
            rows[f"{arm} - control"] = {name: interval(np.mean(runs, 0) - np.mean(control[name], 0)) for name, runs in values.items()}
    seeds = max(len(runs) for values in table.values() for runs in values.values())
    print(f"\n{arguments.spec.stem}: {images} held-out images, {seeds} seeds, {arguments.steps} steps, fresh attacks at {epsilon:g} {unit}")
    for arm, figures in rows.items():
        cells = [f"{name} {mean:+.3f} [{low:+.3f}, {high:+.3f}]" for name, (mean, low, high) in figures.items()]
        print(f"{arm:28}{'  '.join(cells)}", flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps({"rows": rows, "seeds": seeds, "images": images, "epsilon": epsilon}, indent=1))


if __name__ == "__main__":
    main()
