#!/usr/bin/env python
"""Time of one attack step, ours beside other libraries: same victim, same start, same steps, one process, interleaved, medians.

    python scripts/bench/attack.py resnet18 unet2d --threads 2
    python scripts/bench/attack.py --report            # the table of everything measured so far

Each call adds its victims to attack.json beside this script (or in --out) and writes attack.md anew. Libraries that are not installed and
attacks that a library refuses stand in the table with the reason. Weights are random; success means an answer other than the clean one
(classes), a Dice drop of 0.1 (masks), or no box matched any more, by fp32 inference on the rounded result.
"""

import argparse
import json
import statistics
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from attack_floors import floors
from attack_peers import PEERS
from attack_victims import Case, build
from torch import Tensor

from medadv.attacks.engine import perturb
from medadv.batches.judging import batch_of
from medadv.batches.trial import Trial
from medadv.common.errors import SpecError
from medadv.common.files import writable_folder
from medadv.corpus.environment import environment
from medadv.prepare.choose_profile import choose_profile
from medadv.spec.attack import AttackSettings
from medadv.victims.speed.profiles import Profile, exact_profile, with_profile
from medadv.victims.victim import Identity, TaskModel, Victim
from medadv_transforms.units import LATTICES

LIBRARIES = ("torchattacks", "foolbox", "adversarial-robustness-toolbox", "adv_lib")
EPSILON = 4


def settings(attack: str, steps: int) -> AttackSettings:
    """From the clean image, so that every library starts where ours does."""
    return AttackSettings.model_validate({"attack": attack, "epsilon": EPSILON, "step": 1, "steps": steps, "random_start": False})


def ours(case: Case, victim: TaskModel, attack: str, steps: int) -> Callable[[], Tensor]:
    """Our engine on a victim in some profile."""
    chosen = settings(attack, steps)
    return lambda: perturb(victim, case.images, case.targets, chosen, lattice=LATTICES["level8"], seeds=[0] * len(case.images))


def in_profile(case: Case, profile: Profile, shape: tuple[int, ...]) -> Victim:
    """A fresh victim of a case."""
    model = case.victim()
    return Victim(model, with_profile(model, profile, shape), Identity("", None, 0))


def contenders(case: Case, steps: int, tell: Callable[[str], None]) -> tuple[dict[str, Callable[[], Tensor]], list[dict[str, Any]]]:
    """Name -> attack; the execution profiles that were tried beside."""
    shape, device = tuple(case.images.shape[1:]), case.images.device
    judge = case.victim()
    trial = Trial(batch_of(case.loaded(), judge, device), {"pgd": settings("pgd", steps)}, 0)
    plain = exact_profile(judge.module, device.type)
    profile, records = choose_profile(lambda p: in_profile(case, p, shape), plain, trial, tell)
    exact = with_profile(case.victim(), plain, shape)
    tuned = with_profile(case.victim(), profile, shape)
    found = {name: peer(case, EPSILON, steps) for name, peer in PEERS.items()}
    found |= {"medadv fp32": ours(case, exact, "pgd", steps), "medadv auto": ours(case, tuned, "pgd", steps)}
    found |= {"medadv fp32, smia": ours(case, exact, "smia", steps), "medadv auto, smia": ours(case, tuned, "smia", steps)}
    return found, [record.model_dump() for record in records]


def measure(case: Case, steps: int, rounds: int) -> dict[str, Any]:
    """Medians of a victim; the first round warms up and does not count."""
    runs, records = contenders(case, steps, lambda text: print(f"  {text}", flush=True))
    times: dict[str, list[float]] = {name: [] for name in runs}
    results: dict[str, dict[str, Any]] = {}
    judge = case.victim()
    for number in range(rounds + 1):
        for name, attack in list(runs.items()):
            started = time.perf_counter()
            try:
                delta = attack()
                if delta.is_cuda:
                    torch.cuda.synchronize()
            except Exception as error:  # a library that cannot do this is part of the result
                results[name] = {"refused": (str(error) or type(error).__name__).splitlines()[0][:120]}
                del runs[name]
                continue
            if number:
                times[name].append((time.perf_counter() - started) / steps)
            else:
                results[name] = case.strength(judge, delta)
    for name in runs:
        results[name]["seconds_per_step"] = statistics.median(times[name])
    base = results["torchattacks"].get("seconds_per_step") or results["plain loop"]["seconds_per_step"]
    for result in results.values():
        if "seconds_per_step" in result:
            result["ratio"] = base / result["seconds_per_step"]
    chosen = next(record["profile"] for record in records if record["verdict"] == "chosen")
    return {
        "shape": list(case.images.shape),
        "steps": steps,
        "rounds": rounds,
        "profile": chosen,
        "profiles": records,
        "results": results,
        "floors": floors(case),
        "threads": torch.get_num_threads(),
    }


def table(stored: dict[str, Any]) -> str:
    """Everything measured so far as Markdown."""
    machine = stored["environment"]
    versions = ", ".join(f"{name} {value or 'not installed'}" for name, value in stored["libraries"].items())
    machine_line = f"{machine['processor']}, {machine['gpu'] or 'no GPU'}, torch {machine['packages']['torch']}"
    lines = [f"{machine_line}; {versions}; commit {stored['commit']}", ""]
    for name, case in stored["victims"].items():
        floor = case["floors"]
        lines += [
            f"**{name}** {case['shape']}, {case['steps']} steps, {case['rounds']} rounds, {case['threads']} threads; "
            + f"auto is {case['profile']}. Floors of a PGD step: {floor['operations'] / 1e9:.1f} GFLOP at "
            + "; ".join(
                f"{1e-9 * floor[f'{kind}_rate']:.0f} GFLOP/s ({kind}) = {floor[f'{kind}_ms']:.0f} ms"
                for kind in ("fp32", "bf16")
                if f"{kind}_rate" in floor
            )
            + "; "
            + f"{floor['bytes'] / 1e9:.2f} GB (fp32) at {floor['bandwidth'] / 1e9:.1f} GB/s = {floor['bandwidth_ms']:.0f} ms.",
            "",
            "| attack | ms a step | times torchattacks | success | mean score |",
            "|---|---|---|---|---|",
        ]
        for key, result in case["results"].items():
            if "refused" in result:
                lines.append(f"| {key} | | | {result['refused']} | |")
            else:
                strength = f"{result['success']:.3f} | {result['score']:.3f}"
                lines.append(f"| {key} | {1e3 * result['seconds_per_step']:.0f} | {result['ratio']:.2f} | {strength} |")
        lines.append("")
    return "\n".join(lines)


def installed(name: str) -> str | None:
    """Version of a package."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("victims", nargs="*")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, help="samples; a few on a CPU, many on a GPU otherwise")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--report", action="store_true", help="print the table and measure nothing")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    try:
        writable_folder(arguments.out)
    except SpecError as error:
        parser.error(str(error))
    torch.set_num_threads(arguments.threads)
    path = arguments.out / "attack.json"
    stored: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"victims": {}}
    if not arguments.report:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True).stdout
        libraries = {name: installed(name) for name in LIBRARIES}
        stored |= {"environment": environment().model_dump(), "commit": commit.strip(), "libraries": libraries}
    for name in arguments.victims:
        print(name, flush=True)
        stored["victims"][name] = measure(build(name, torch.device(arguments.device), arguments.batch), arguments.steps, arguments.rounds)
        path.write_text(json.dumps(stored, indent=1) + "\n")
    (arguments.out / "attack.md").write_text(table(stored) + "\n")
    print(table(stored))


if __name__ == "__main__":
    main()
