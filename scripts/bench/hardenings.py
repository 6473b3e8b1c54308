#!/usr/bin/env python3
"""The hardenings of TRAINING.md: renewed corpora, and beside them attacks in memory in every step with as many passes.

    scripts/bench/hardenings.py lungs --spec manifests/specs/lung-slices.yaml --out hardenings [--seeds 0 1 2] [--only ARM]
    scripts/bench/hardenings.py fundus --spec DIR/fundus-plain.yaml --out hardenings      # of robust_victims.py --only plain --size 128
    scripts/bench/hardenings.py polyps --spec polyps.yaml --out hardenings                # on what first_groups.py left of the frames
    scripts/bench/hardenings.py lungs --spec manifests/specs/lung-slices.yaml --out hardenings --only bundle --seeds 0

One `medadv harden` after the other, each into OUT/TASK-SEED or OUT/TASK-ARM-SEED; what is finished is left as it is, and what was
stopped goes on. Each one's figures go to scripts/bench/training/, from which training.py writes the tables. `bundle`: renewed corpora, but
the MONAI bundle beside this script trains on them, by MONAI's own trainer, which needs pytorch-ignite.
"""

import argparse
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from medadv.common.errors import ExitCode, SpecError
from medadv.common.files import writable_folder

HERE = Path(__file__).resolve().parent
BUNDLE = HERE / "lung_bundle"
EPOCHS = 2
ARMS = ("renewed", "memory", "bundle")


@dataclass(frozen=True)
class Task:
    """How a victim is trained. steps: of the attack against each generation; in memory each epoch has its share of them.
    validation_steps: of the attack that chooses, cheaper than that of final images."""

    split: str
    epsilon: float
    generations: int
    steps: int
    training: dict[str, Any]
    validation_steps: int = 10
    more: dict[str, Any] = field(default_factory=dict)


TASKS = {
    "lungs": Task("training", 60, 20, 6, {"batch_size": 4, "rate": 1e-3}),
    "fundus": Task("train", 1, 10, 4, {"batch_size": 16, "rate": 5e-4}, more={"epsilons": [1, 2]}),
    "polyps": Task("train", 2, 10, 4, {"batch_size": 8, "rate": 2e-4}, validation_steps=5),
}


def written(name: str, given: Path, out: Path, seed: int, arm: str) -> Path:
    """The spec of one hardening, beside its folder; a program that trains reads it, too."""
    task, base = TASKS[name], given.resolve().parent
    spec = yaml.safe_load(given.read_text())
    for part, key in (("data", "path"), ("data", "root"), ("victim", "weights")):
        if key in spec[part]:
            spec[part][key] = str((base / spec[part][key]).resolve())
    choosing = [{"attack": "pgd", "steps": task.validation_steps}]
    hardening = {"split": task.split, "seed": seed, "validation_attacks": choosing, **task.training, **task.more}
    called = name if arm == "renewed" else f"{name}-{arm}"
    path = out / f"{called}-{seed}.yaml"
    steps = task.steps
    if arm == "memory":
        steps //= EPOCHS
        program = [sys.executable, str(HERE / "in_memory.py"), "--spec", str(path), "--corpus", "{corpus}", "--weights", "{weights}"]
        program += ["--out", "{out}", "--mode", "{mode}", "--epochs", str(task.generations * EPOCHS)]
        hardening |= {"generations": 1, "command": program}
    else:
        hardening |= {"generations": task.generations, "epochs": EPOCHS}
    if arm == "bundle":
        # A process for each generation and arm: half as many, of twice the epochs.
        hardening |= {"generations": task.generations // 2, "epochs": 2 * EPOCHS, "bundle": {"path": str(BUNDLE)}}
    spec |= {"name": called, "hardening": hardening}
    spec |= {"attacks": {"pgd": {"attack": "pgd", "epsilon": task.epsilon, "steps": steps}}}
    spec["execution"] = {**spec.get("execution", {}), "workers": 1}
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return path


def main() -> None:
    """Harden, one seed and arm after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=sorted(TASKS))
    parser.add_argument("--spec", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", choices=ARMS, help="else renewed and memory")
    arguments = parser.parse_args()
    if arguments.only == "bundle" and arguments.task != "lungs":
        parser.error("--only bundle: there is one for lungs alone")
    try:
        out = writable_folder(arguments.out).resolve()
    except SpecError as error:
        parser.error(str(error))
    for seed in arguments.seeds:
        for arm in [arguments.only] if arguments.only else ARMS[:2]:
            spec = written(arguments.task, arguments.spec, out, seed, arm)
            folder = spec.with_suffix("")
            trust = [] if arm == "renewed" else ["--trust-code"]
            done = subprocess.run(["medadv", "harden", str(spec), "--out", str(folder), *trust], check=False)
            # Some of the slices stand in their set twice, and are quarantined.
            if done.returncode not in (ExitCode.DONE, ExitCode.QUARANTINED):
                sys.exit(done.returncode)
            subprocess.run([sys.executable, str(HERE / "training.py"), "keep", str(folder)], check=True)


if __name__ == "__main__":
    main()
