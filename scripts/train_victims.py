#!/usr/bin/env python3
"""Train the victims for the three tasks from scratch, and say how good they are on images they have not seen.

    ./scripts/train_victims.py                      all three, from MEDADV_DATA/train or ../shared/data/train, to victims/
    ./scripts/train_victims.py --only polyps        one of fundus, ct, polyps
    ./scripts/train_victims.py --second             victims of another architecture and seed, to which examples are transferred

Each leaves NAME.safetensors, the weights of the bare network, and NAME.json, a card for it in the terms of a run spec.
"""

import argparse
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import save_file
from torch import nn

import victims_data
from medadv.common.errors import SpecError
from medadv.common.files import writable_folder
from medadv.common.machine import fast_products
from medadv.prepare.settings import resolve_device
from medadv.victims.sources.registry import build_network
from victims_data import HELD_OUT, TRAIN, Labelled
from victims_recipes import RECIPES, Recipe
from victims_tasks import JUDGES, LOSSES, device_of, normalisation, trainee, without_mean

CHECKOUT = Path(__file__).resolve().parent.parent
READERS = {"fundus": victims_data.fundus, "ct": victims_data.ct_slices, "polyps": victims_data.polyps}
WEIGHT_DECAY = 0.05
GRADIENT_NORM = 5.0
CONSOLE = Console(stderr=True)


def precision_of(recipe: Recipe, device: torch.device) -> str:
    """What a recipe is trained in on this machine."""
    return "bf16" if recipe.bears_bf16 and "bf16" in fast_products(device.type) else "fp32"


def fit(recipe: Recipe, network: nn.Module, data: Labelled, settings: dict[str, Any]) -> None:
    """AdamW on a one-cycle schedule; the last weights are kept, so nothing is chosen on held-out images."""
    device = device_of(network)
    steps = recipe.epochs * (len(data) // recipe.batch)
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.learning_rate, total_steps=steps, pct_start=0.2)
    draw = torch.Generator().manual_seed(recipe.seed)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    network.train()
    with Progress(*columns, console=CONSOLE) as progress:
        bar = progress.add_task(recipe.name, total=steps)
        for epoch in range(recipe.epochs):
            order = torch.randperm(len(data), generator=draw)
            mean = 0.0
            for step, start in enumerate(range(0, len(data) - recipe.batch + 1, recipe.batch)):
                with torch.autocast(device.type, torch.bfloat16, enabled=precision_of(recipe, device) == "bf16"):
                    loss = LOSSES[recipe.task](network, data, order[start : start + recipe.batch], settings, draw)
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_NORM)
                optimiser.step()
                if recipe.task == "classification":
                    without_mean(network)
                schedule.step()
                mean += (loss.item() - mean) / (step + 1)
                progress.update(bar, advance=1, description=f"{recipe.name}  epoch {epoch + 1}/{recipe.epochs}  loss {mean:.3f}")
            if not CONSOLE.is_terminal:
                CONSOLE.print(f"{recipe.name}: epoch {epoch + 1}/{recipe.epochs}, loss {mean:.3f}")


def train(recipe: Recipe, folder: Path, out: Path, device: torch.device) -> dict[str, Any]:
    """Train one victim, judge it, write its weights and its card; the card is returned."""
    started = time.monotonic()
    reader = READERS[recipe.subject]
    data, held_out = reader(folder, TRAIN, recipe.size), reader(folder, HELD_OUT, recipe.size)
    settings = normalisation(data.images)
    torch.manual_seed(recipe.seed)
    network = build_network(recipe.network, recipe.arguments).to(memory_format=torch.channels_last)
    fit(recipe, trainee(network, data).to(device), data, settings)
    network.eval()
    with torch.inference_mode():
        metric = JUDGES[recipe.task](network, data, held_out, settings)
    weights = out / f"{recipe.name}.safetensors"
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, weights)
    card = card_of(recipe, precision_of(recipe, device), settings, len(data), metric, hashlib.sha256(weights.read_bytes()).hexdigest())
    (out / f"{recipe.name}.json").write_text(json.dumps(card, indent=2) + "\n")
    further = "".join(f"; {name} {value:.3f}" for name, value in metric["further"].items())
    CONSOLE.print(
        f"{recipe.name}: {metric['name']} {metric['value']:.3f} on {len(held_out)} held-out images, "
        f"trivial baseline {metric['baseline']:.3f}{further}; {(time.monotonic() - started) / 60:.1f} min",
        soft_wrap=True,
    )
    return card


def card_of(
    recipe: Recipe, precision: str, settings: dict[str, Any], trained_on: int, metric: dict[str, Any], digest: str
) -> dict[str, Any]:
    """What someone needs to use the weights, in the run spec's own terms."""
    photograph = recipe.modality != "ct"
    return {
        "format": "medadv-victim",
        "name": recipe.name,
        "network": recipe.network,
        "arguments": recipe.arguments,
        "task": recipe.task,
        "head": "softmax" if recipe.task != "detection" else None,
        "classes": list(recipe.classes),
        "input": {
            "modality": recipe.modality,
            "unit": "level8" if photograph else "hu",
            "spatial_axes": "yx" if photograph else "xy",
            "size": [recipe.size, recipe.size],
            "fit": "pad" if photograph else None,
            "crop": recipe.modality == "fundus",
        },
        "normalize": settings,
        "data": recipe.data,
        "split": recipe.split,
        "trained_on": trained_on,
        "metric": {key: round(value, 4) if isinstance(value, float) else value for key, value in metric.items() if key != "further"},
        "further_metrics": {key: round(value, 4) for key, value in metric["further"].items()},
        "training": {
            "epochs": recipe.epochs,
            "batch": recipe.batch,
            "learning_rate": recipe.learning_rate,
            "precision": precision,
        },
        "seed": recipe.seed,
        "weights_sha256": digest,
        "created_by": f"scripts/train_victims.py --only {recipe.subject}{' --second' if recipe.second else ''}",
    }


def main() -> None:
    root = os.environ.get("MEDADV_DATA")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=(Path(root) if root else CHECKOUT.parent / "shared" / "data") / "train")
    parser.add_argument("--out", type=Path, default=CHECKOUT / "victims")
    parser.add_argument("--only", choices=sorted(READERS))
    parser.add_argument("--second", action="store_true", help="the second victim of each task instead of the first")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        parser.error(f"no folder {arguments.data}; give --data, or set MEDADV_DATA to the folder that holds train/")
    try:
        writable_folder(arguments.out)
        device = torch.device(resolve_device(arguments.device))
    except SpecError as error:
        parser.error(str(error))
    torch.set_num_threads(arguments.threads)
    for recipe in RECIPES:
        if recipe.second == arguments.second and arguments.only in (None, recipe.subject):
            train(recipe, arguments.data, arguments.out, device)


if __name__ == "__main__":
    main()
