#!/usr/bin/env python
"""What the inexact profiles cost and gain on trained victims: processor time of a PGD step, and mean fp32 scores after whole attacks.

    python scripts/bench/profiles.py fundus --samples 16 --epsilon 2
    python scripts/bench/profiles.py fundus --samples 16 --epsilon 2 --second victims/fundus-second.json

One row for fp32, and one for bf16 and 8 bits each where this processor multiplies them fast, on held-out images of the task's spec.
`precision: auto` holds every victim against the same two questions while a plan is made, and keeps the answers in the manifest.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from attacks import CHECKOUT, SPECS, STEP_SHARE, victim_of_card
from medadv.batches.attacking import attacked_batch
from medadv.batches.batch import Batch
from medadv.batches.judging import scores
from medadv.compare.compare import as_batches, read_samples
from medadv.spec.attack import AttackSettings
from medadv.spec.reading import load_spec
from medadv.victims.loading import VictimRequest
from medadv.victims.speed import Profile, candidates
from medadv.victims.victim import Victim

ROUNDS = 5
TIMED_STEPS = 2


def attacked(victim: Victim, batch: Batch, attack: str, epsilon: float, steps: int) -> torch.Tensor:
    """Perturbation of a batch."""
    step = max(1.0, epsilon * STEP_SHARE)
    settings = AttackSettings.model_validate({"attack": attack, "epsilon": epsilon, "step": step, "steps": steps})
    return attacked_batch(victim, batch, settings, list(range(len(batch)))).delta


def mean_score(victim: Victim, batches: Sequence[Batch], attack: str, arguments: argparse.Namespace) -> float:
    """By fp32 inference, whatever the attack ran in."""
    found = []
    for batch in batches:
        delta = attacked(victim, batch, attack, arguments.epsilon, arguments.steps)
        found += scores(victim.scored, victim.scored.predict(batch.images + delta), batch.labels).tolist()
    return float(np.mean(found))


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=sorted(SPECS))
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--epsilon", type=float, required=True, help="stored units")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--second", type=Path, help="card of another victim of the task")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    path = CHECKOUT / "manifests" / "specs" / f"{SPECS[arguments.task]}.yaml"
    spec, cpu = load_spec(path), torch.device("cpu")
    samples = read_samples(spec, path.parent, arguments.samples)[0][: arguments.samples]
    shape = samples[0].content.image.shape
    chosen = spec.victim
    if arguments.second is not None:
        chosen = victim_of_card(json.loads(arguments.second.read_text()), arguments.second, spec.victim)

    def fresh(profile: Profile) -> Victim:
        return VictimRequest(chosen, spec.data.task, path.parent).load(cpu, shape, profile)

    plain = fresh(Profile())
    batches = list(as_batches(samples, plain.scored, int(spec.execution.batch_size), cpu))
    tried = candidates(plain.scored.module, "cpu")
    found = {"bf16": [p for p in tried if p.bf16 and not p.int8], "8 bits": [p for p in tried if p.int8]}
    profiles = {"fp32": Profile(), **{name: several[-1] for name, several in found.items() if several}}
    victims = {name: fresh(profile) for name, profile in profiles.items()}
    times: dict[str, list[float]] = {name: [] for name in victims}
    for _ in range(ROUNDS + 1):
        for name, victim in victims.items():
            began = time.process_time()
            attacked(victim, batches[0], "pgd", arguments.epsilon, TIMED_STEPS)
            times[name].append((time.process_time() - began) / TIMED_STEPS)
    print(f"{arguments.task}, {len(samples)} samples, batches of {tuple(batches[0].images.shape)}, epsilon {arguments.epsilon:g}\n")
    print("| profile | ms a step | mean score after pgd | after smia |\n|---|---|---|---|")
    for name, victim in victims.items():
        means = [mean_score(victim, batches, attack, arguments) for attack in ("pgd", "smia")]
        # The first round warms up.
        print(f"| {name} | {1e3 * statistics.median(times[name][1:]):.0f} | {means[0]:.3f} | {means[1]:.3f} |", flush=True)


if __name__ == "__main__":
    main()
