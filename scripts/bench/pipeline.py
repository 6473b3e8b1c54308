"""A whole run against the bare loop that does only what cannot be left out: the attack and two fp32 scorings of the same samples.

    OMP_NUM_THREADS=1 python scripts/bench/pipeline.py [--pictures 384] [--size 96] [--rounds 5]
    python scripts/bench/pipeline.py --device cuda --network torchvision:resnet50 --size 224 --batch-size 256 --pictures 4096 --jpeg

Every round takes, one after the other, a run with one worker, the bare loop in this process, two bare loops at once (what the machine gives
two processes at best) and a run with two workers, one thread each; on a GPU, the first two alone. A run's
throughput counts from the beginning of its first shard to the commit of its last, from its own log: loading, writing, reading back,
verifying, receipts and Dask are in it, importing torch is not. The stages are timed in an extra pass in this process.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from small import draw, write_spec

from medadv.attacks.engine import perturb
from medadv.attacks.feasible import start_seed
from medadv.batches import loading as inputs
from medadv.batches.equipment import Equipment, equip
from medadv.corpus.folder import Workspace
from medadv.plan.frozen import generations
from medadv.plan.model import PlannedShard
from medadv.run import shard
from medadv.store import writer
from medadv_transforms.units import LATTICES

NETWORK = {"num_classes": 2}
BARE_SHARDS = 4
"""The bare loops take the first shards only: their speed is steady, and a loop over all says no more."""
ATTACKS = {"pgd-4": {"attack": "pgd", "epsilon": 4, "step": 1, "steps": 10}}
STAGES: dict[str, list[tuple[Any, str]]] = {
    "loading": [(inputs, "_load")],
    "attack": [(shard, "attack_samples")],
    "scoring": [(shard, "predict")],
    "write": [(writer.GridFile, "_append"), (shard, "write_content"), (shard, "commit")],
    "verify": [(shard, "read_content"), (shard, "hash_file"), (shard, "find_extents"), (shard, "_verify"), (shard, "_records")],
}


def equipment_of(corpus: Path) -> tuple[Equipment, list[PlannedShard]]:
    """What the corpus was made with."""
    plan = generations(Workspace(corpus).plans)[0]
    shards = list(plan.lines())
    return equip(corpus, 0, shards[0].shape, False), shards


def bare(corpus: Path, start: Callable[[], Any] = lambda: None) -> float:
    """Samples per second of attack and two scorings alone, on batches that lie in memory. start: called when all is ready."""
    equipment, shards = equipment_of(corpus)
    device = torch.device(equipment.recipe.device)
    ready = [
        (
            torch.from_numpy(np.stack([item.sample.image for item in b.loaded])).to(device, torch.float32),
            [item.planned.id for item in b.loaded],
            [item.label for item in b.loaded],
        )
        for planned in shards[:BARE_SHARDS]
        for b in inputs.batches(planned, equipment.reader, equipment.victim)
    ]
    (name, settings), *_ = equipment.recipe.attacks.items()
    start()
    began = time.monotonic()
    for images, ids, labels in ready:
        targets = equipment.victim.targets([label for label in labels if label is not None], device)
        seeds = [start_seed(0, sample, name) for sample in ids]
        delta = perturb(equipment.victim, images, targets, settings, lattice=LATTICES["level8"], seeds=seeds)
        equipment.victim.predict(images)
        equipment.victim.predict(images + delta)
    return sum(len(ids) for _, ids, _ in ready) / (time.monotonic() - began)


def _side(corpus: Path, barrier: Any, answers: Any) -> None:
    answers.put(bare(corpus, barrier.wait))


def side_by_side(corpus: Path) -> float:
    """Samples per second of two bare loops at once, each in a process of its own: what the machine gives two workers at best."""
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(2), context.Queue()
    loops = [context.Process(target=_side, args=(corpus, barrier, answers)) for _ in range(2)]
    for loop in loops:
        loop.start()
    speeds = [answers.get() for _ in loops]
    for loop in loops:
        loop.join()
    return sum(speeds)


def whole(spec: Path, corpus: Path, workers: int) -> float:
    """Samples per second of a run."""
    command = [sys.executable, "-m", "medadv", "run", str(spec), "--out", str(corpus), "--set", f"execution.workers={workers}"]
    subprocess.run(command, check=True, capture_output=True)
    events = [json.loads(line) for line in (corpus / ".medadv" / "logs" / "run.jsonl").read_text().splitlines()]
    done = [(datetime.fromisoformat(e["time"]).timestamp(), e["seconds"], e["samples"]) for e in events if e["event"] == "shard"]
    return sum(n for _, _, n in done) / (max(t for t, _, _ in done) - min(t - s for t, s, _ in done))


def stages(corpus: Path, other: Path) -> dict[str, float]:
    """Seconds of each stage when this process makes all shards of the plan into another folder; loading and writing overlap the attack."""
    equipment, shards = equipment_of(corpus)
    spent: dict[str, float] = defaultdict(float)
    originals: list[tuple[Any, str, Any]] = []
    for stage, places in STAGES.items():
        for owner, name in places:
            originals.append((owner, name, getattr(owner, name)))
            setattr(owner, name, timed(getattr(owner, name), stage, spent))
    try:
        workspace = Workspace(other)
        workspace.make()
        began = time.monotonic()
        for planned in shards:
            shard.make_shard(workspace, planned, equipment.recipe, equipment.reader, equipment.victim)
        spent["all"] = time.monotonic() - began
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)
    return spent


def timed(function: Callable[..., Any], stage: str, spent: dict[str, float]) -> Callable[..., Any]:
    """A function that adds its time to a stage."""

    def wrapper(*arguments: Any, **named: Any) -> Any:
        began = time.monotonic()
        try:
            return function(*arguments, **named)
        finally:
            spent[stage] += time.monotonic() - began

    return wrapper


def main() -> None:
    """Print medians, ratios and stages."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pictures", type=int, default=384)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--network", default="torchvision:resnet18")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--codec", default="gzip")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--jpeg", action="store_true", help="pictures as JPEG instead of PNG")
    arguments = parser.parse_args()
    found: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(folder / "data", arguments.pictures, arguments.size, suffix="jpg" if arguments.jpeg else "png")
        execution = {name: getattr(arguments, name) for name in ("device", "batch_size", "codec", "precision")}
        execution["shard_size"] = 4 * arguments.batch_size
        spec = write_spec(folder, arguments.size, arguments.network, NETWORK, ATTACKS, **execution)
        for number in range(arguments.rounds):
            one, two = (folder / f"corpus-{number}-{workers}" for workers in (1, 2))
            found["one worker"].append(whole(spec, one, 1))
            found["bare loop"].append(bare(one))
            if arguments.device == "cpu":
                found["two bare loops"].append(side_by_side(one))
                found["two workers"].append(whole(spec, two, 2))
            latest = {key: round(values[-1], 2) for key, values in found.items()}
            print(latest, f"load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
        middle = {key: statistics.median(values) for key, values in found.items()}
        ratios = [w / b for w, b in zip(found["one worker"], found["bare loop"], strict=True)]
        spent = stages(folder / "corpus-0-1", folder / "stages")
        for key, value in middle.items():
            print(f"{key}: {value:.2f} samples/s (median of {arguments.rounds})")
        print(f"run with one worker against the bare loop: {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
        if arguments.device == "cpu":
            pairs = [t / o for t, o in zip(found["two workers"], found["one worker"], strict=True)]
            print(f"two workers against one: {statistics.median(pairs):.2f} ({min(pairs):.2f} to {max(pairs):.2f})")
            sides = [s / b for s, b in zip(found["two bare loops"], found["bare loop"], strict=True)]
            print(f"two bare loops at once against one: {statistics.median(sides):.2f} ({min(sides):.2f} to {max(sides):.2f})")
        else:
            print(f"peak memory of the bare loop on the GPU: {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB")
        print("stages, seconds: " + ", ".join(f"{stage} {spent[stage]:.2f}" for stage in [*STAGES, "all"]))
        print(f"load average at the end {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores")


if __name__ == "__main__":
    main()
