#!/usr/bin/env python
"""Which settings of the stabilized attack earn their place: one factor at a time, then one test on images the choice never saw.

    python scripts/bench/attacks.py lung --samples 16 --second victims/lung-second.json
    python scripts/bench/attacks.py lung --samples 16 --second victims/lung-second.json --test smia-momentum
    python scripts/bench/attacks.py lung --show

The first call measures every variant on the first half of the held-out images (in content order) and appends each row to a JSON file as it
is made; a second call goes on where the first stopped, and ends with an error where it is asked for other images, another budget or another
second victim. With --test, the named variant meets PGD and MI-FGSM on the other half, by paired bootstrap over groups (such as patients).
--show prints what is stored as Markdown. Budgets are equal: --passes forward and as many backward passes of the victim per sample, for all.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from medadv.attacks.cost import passes
from medadv.common.errors import SpecError
from medadv.common.files import writable_file
from medadv.common.hashing import hash_file
from medadv.compare.compare import as_batches, read_samples
from medadv.compare.scores import paired_difference
from medadv.compare.table import Bench, Row
from medadv.compare.write import as_records
from medadv.prepare.settings import resolve_device
from medadv.spec.attack import AttackSettings
from medadv.spec.reading import load_spec
from medadv.spec.victim import VictimSettings
from medadv.victims.loading import VictimRequest

CHECKOUT = Path(__file__).resolve().parents[2]
SPECS = {"fundus": "fundus-referable", "lung": "lung-slices", "polyp": "polyp-detection"}
EPSILON = {"fundus": 2, "lung": 60, "polyp": 2}
"""Stored units: where PGD takes most, but not all, of the metric."""
POOL = 128

BASE = {"attack": "smia", "weight": 1.0, "sigma": 1.0, "kernel_size": 3}
WIDE = {"sigma": 1.5, "kernel_size": 5}
CHOSEN = {**BASE, **WIDE, "weight": 0.5, "step_share": 0.5}
TI = {"gradient_sigma": 1.0, "gradient_kernel_size": 5}
VARIANTS: dict[str, dict[str, Any]] = {
    "pgd": {"attack": "pgd"},
    "mifgsm": {"attack": "mifgsm"},
    "tifgsm": {"attack": "tifgsm"},
    "smia": BASE,
    "smia-momentum": {**BASE, "momentum": 1.0},
    "smia-ti": {**BASE, **TI},
    "smia-momentum-ti": {**BASE, "momentum": 1.0, **TI},
    "weight-0.1": {**BASE, "weight": 0.1},
    "weight-0.3": {**BASE, "weight": 0.3},
    "weight-3": {**BASE, "weight": 3.0},
    "sigma-1.5-kernel-5": {**BASE, **WIDE},
    "sigma-3-kernel-13": {**BASE, "sigma": 3.0, "kernel_size": 13},
    "smooth-image": {**BASE, "smooth": "image"},
    "stop-gradient": {**BASE, "stop_gradient": True},
    "smia-listing": {"attack": "smia-listing"},
    "step-tenth": {**BASE, "step_share": 0.1},
    "step-half": {**BASE, "step_share": 0.5},
    "pgd-step-half": {"attack": "pgd", "step_share": 0.5},
    "wide-step-half": {**BASE, **WIDE, "step_share": 0.5},
    "wide-step-half-weight-0.5": CHOSEN,
    "wide-step-half-weight-0.3": {**CHOSEN, "weight": 0.3},
    "chosen-ti": {**CHOSEN, **TI},
    "chosen-momentum-ti": {**CHOSEN, "momentum": 1.0, **TI},
    "pgd-best": {"attack": "pgd", "keep": "best"},
    "pgd-best-2": {"attack": "pgd", "keep": "best", "restarts": 2},
    "chosen-best": {**CHOSEN, "keep": "best"},
    "chosen-best-2": {**CHOSEN, "keep": "best", "restarts": 2},
    "apgd": {"attack": "apgd", "step_share": 2.0},
    "apgd-chosen": {**CHOSEN, "attack": "apgd", "step_share": 2.0},
}
"""One factor at a time; `chosen` puts together what helped alone, and the last ones keep the best iterate, from one start or two.

APGD moves in floats, so that a third of its budget goes into looking at what could be stored.
"""
RIVALS = ("pgd", "mifgsm")
STEP_SHARE = 0.25


def settings_of(name: str, epsilon: float, budget: int) -> AttackSettings:
    """A variant with as many steps as the budget of passes allows: forwards and backwards together, 2 * budget."""
    chosen = dict(VARIANTS[name])
    step = max(1.0, round(epsilon * chosen.pop("step_share", STEP_SHARE)))
    steps = 1
    while sum(passes(AttackSettings.model_validate({**chosen, "epsilon": epsilon, "step": step, "steps": steps + 1}))) <= 2 * budget:
        steps += 1
    return AttackSettings.model_validate({**chosen, "epsilon": epsilon, "step": step, "steps": steps})


def benches(arguments: argparse.Namespace) -> tuple[Bench, Bench]:
    """The images that settings are chosen on, and those that only the final test sees."""
    path = CHECKOUT / "manifests" / "specs" / f"{SPECS[arguments.task]}.yaml"
    spec, base = load_spec(path), path.parent
    device = torch.device(resolve_device(spec.execution.device))
    samples, _ = read_samples(spec, base, POOL)
    half = len(samples) // 2
    parts = samples[:half][: arguments.samples], samples[half:][: arguments.samples]
    shape = samples[0].content.image.shape
    victims = []
    card = None if arguments.second is None else json.loads(arguments.second.read_text())
    for settings in (spec.victim, None if card is None else victim_of_card(card, arguments.second, spec.victim)):
        loaded = None if settings is None else VictimRequest(settings, spec.data.task, base).load(device, shape)
        victims.append(loaded)
    first, second = reversed(victims) if arguments.swap else victims
    assert first is not None
    judge = None if second is None else second.scored
    size = spec.execution.batch_size
    groups = {sample.id: sample.group for sample in samples}
    made = [Bench(first, judge, list(as_batches(part, first.scored, size, device)), arguments.seed, groups=groups) for part in parts]
    return made[0], made[1]


def victim_of_card(card: dict[str, Any], path: Path, like: VictimSettings) -> VictimSettings:
    """A victim as the card beside its weights describes it."""
    network = {"network": card["network"], "arguments": card["arguments"], "normalize": card["normalize"]}
    return VictimSettings.model_validate(
        {**network, "weights": str(path.with_suffix(".safetensors").resolve()), "score_threshold": like.score_threshold}
    )


def conditions(bench: Bench, arguments: argparse.Namespace) -> dict[str, Any]:
    """What all rows of a table have in common.  second: SHA-256 of the second victim's weights."""
    second = None if arguments.second is None else hash_file(arguments.second.with_suffix(".safetensors"))
    budget = {"passes": arguments.passes, "seed": arguments.seed, "epsilon": arguments.epsilon}
    return {"task": arguments.task, "samples": len(bench.labels), **budget, "second": second}


def known_rows(out: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """What the file holds, or a table without rows where there is none.  Raises SpecError where its rows were made in another way."""
    if not out.exists():
        return {**asked, "rows": []}
    stored = json.loads(out.read_text())
    # An older file does not say which second victim judged. What it does not say is not held against it, nor said for it now.
    other = [f"{key} {stored[key]}, not {value}" for key, value in asked.items() if key in stored and stored[key] != value]
    if other:
        raise SpecError(f"{out} holds rows of {'; '.join(other)}: ask for the same, or name another folder with --out")
    return stored


def choose(bench: Bench, arguments: argparse.Namespace, out: Path) -> None:
    """Measure the variants that the file does not hold yet, one row at a time."""
    stored = known_rows(out, conditions(bench, arguments))
    known = {row["attack"] for row in stored["rows"]}
    for name in ["clean", *(arguments.only or VARIANTS)]:
        if name in known:
            continue
        started = time.monotonic()
        row = bench.row(name, None if name == "clean" else settings_of(name, arguments.epsilon, arguments.passes))
        (record,) = as_records([row])
        stored["rows"].append({**record, "steps": 0 if row.settings is None else row.settings.steps})
        stored["metric"] = row.scores["as_is"].name
        out.write_text(json.dumps(stored, indent=1) + "\n")
        shown = {key: round(value.value, 3) for key, value in {**row.metrics, **row.sizes}.items()}
        print(f"{name}: {shown} ({time.monotonic() - started:.0f} s)", flush=True)


def test(bench: Bench, arguments: argparse.Namespace, out: Path) -> None:
    """The chosen variant against its rivals on the held-out half."""
    rows: dict[str, Row] = {}
    for name in (*arguments.rivals, arguments.test):
        rows[name] = bench.row(name, settings_of(name, arguments.epsilon, arguments.passes))
    results: list[dict[str, Any]] = []
    for rival in arguments.rivals:
        for condition, scores in rows[arguments.test].scores.items():
            difference, share = paired_difference(scores, rows[rival].scores[condition])
            results.append(
                {
                    "rival": rival,
                    "condition": condition,
                    "chosen": scores.value(),
                    "other": rows[rival].scores[condition].value(),
                    "difference": difference.value,
                    "low": difference.low,
                    "high": difference.high,
                    "share_not_stronger": share,
                }
            )
            print(results[-1], flush=True)
    variances = {name: row.sizes["variance"].value for name, row in rows.items()}
    answer = {**conditions(bench, arguments), "chosen": arguments.test, "tests": results, "variance": variances}
    out.with_suffix(f".{arguments.test}.test.json").write_text(json.dumps(answer, indent=1) + "\n")


def show(out: Path) -> None:
    """The stored rows and tests as Markdown tables."""
    stored = json.loads(out.read_text())
    rows = stored["rows"]
    shares = [name.removesuffix("_low") for name in rows[0] if name.endswith("_low")]
    sizes = ["variance", "cosine", "ssim", "l2"]
    print(f"{stored['task']}: {stored['metric']}, {stored['samples']} samples, epsilon {stored['epsilon']:g}, {stored['passes']} passes\n")
    _line(["variant", "steps", *shares, *sizes])
    _line(["---"] * (2 + len(shares) + len(sizes)))
    for row in rows:
        _line([row["attack"], str(row["steps"]), *(f"{row[name]:.3f}" if name in row else "" for name in [*shares, *sizes])])
    for path in sorted(out.parent.glob(f"{out.stem}.*test.json")):
        tested = json.loads(path.read_text())
        names = ", ".join(f"{name} {value:.3f}" for name, value in tested["variance"].items())
        print(f"\n{tested['chosen']} on {tested['samples']} other samples; variance between starts: {names}\n")
        _line(["against", "condition", tested["chosen"], "rival", "difference", "share of resamples in which it is not stronger"])
        _line(["---"] * 6)
        for t in tested["tests"]:
            difference = f"{t['difference']:+.3f} [{t['low']:+.3f}, {t['high']:+.3f}]"
            _line([t["rival"], t["condition"], f"{t['chosen']:.3f}", f"{t['other']:.3f}", difference, f"{t['share_not_stronger']:.3f}"])


def _line(cells: Sequence[str]) -> None:
    print("| " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=sorted(SPECS))
    parser.add_argument("--samples", type=int, default=32, help="images to choose on, and to test on")
    parser.add_argument("--passes", type=int, default=20)
    parser.add_argument("--epsilon", type=float)
    parser.add_argument("--second", type=Path, help="card (JSON) of a second victim")
    parser.add_argument("--swap", action="store_true", help="attack the second victim, and let the first judge transfer")
    parser.add_argument("--only", nargs="+", choices=sorted(VARIANTS))
    parser.add_argument("--test", choices=sorted(VARIANTS))
    parser.add_argument("--rivals", nargs="+", choices=sorted(VARIANTS), default=RIVALS, help="of --test")
    parser.add_argument("--show", action="store_true", help="print what is stored as Markdown")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder for the JSON; beside this script otherwise")
    arguments = parser.parse_args()
    arguments.epsilon = EPSILON[arguments.task] if arguments.epsilon is None else arguments.epsilon
    torch.set_num_threads(arguments.threads)
    out = (arguments.out or Path(__file__).parent) / f"attacks-{arguments.task}{'-swapped' if arguments.swap else ''}.json"
    if arguments.show:
        show(out)
        return
    try:
        writable_file(out)
        first, second = benches(arguments)
        if arguments.test:
            test(second, arguments, out)
        else:
            choose(first, arguments, out)
    except SpecError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
