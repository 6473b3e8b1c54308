#!/usr/bin/env python3
"""How much of an attack is left when its stored examples are mirrored, as augmentation would? Against the victim of the corpus.

    scripts/bench/mirrored.py CORPUS [--attack NAME]

One line for the images as they are stored and for each spatial axis that they are mirrored along: the metric of the clean images, and that
of the adversarial ones.
"""

import argparse
from pathlib import Path

import numpy as np

from medadv.batches.batch import on_device
from medadv.common.errors import MedadvError
from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import read_manifest
from medadv.datasets.mirrored import label_turned, turned
from medadv.evaluate.measure import read_shape
from medadv.evidence.published import load_published_victim
from medadv.scoring.metrics import corpus_metrics, headline
from medadv.store.reader import open_shard, read_answer
from medadv.training.networks import device_of


def main() -> None:
    """Ask the victim, and print the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--attack", help="the first, unless given")
    arguments = parser.parse_args()
    try:
        manifest = read_manifest(Workspace(arguments.corpus))
        shape = read_shape(arguments.corpus, manifest)
        judge = load_published_victim(manifest, Workspace(arguments.corpus), shape, (), False).scored
    except MedadvError as error:
        parser.error(str(error))
    attack = arguments.attack or next(iter(manifest.attacks))
    if attack not in manifest.attacks:
        parser.error(f"--attack {attack}: the corpus has {', '.join(manifest.attacks)}")
    spatial_axes = "xyz"[: len(shape) - 1] if manifest.x_first else "yx"
    device = device_of(judge.module)
    assert device is not None
    for axes in ((), *((axis,) for axis in range(len(shape) - 1))):
        rows: dict[str, list[tuple[object, object, float]]] = {"clean": [], attack: []}
        for entry in manifest.shards:
            receipt, _ = entry.receipt(arguments.corpus)
            assert receipt is not None
            with open_shard(arguments.corpus / entry.path) as file:
                for row in range(len(receipt.records)):
                    image, label = file["image"][row], judge.as_label(read_answer(file, "label", row))
                    truth = label_turned(label, axes, image.shape[1:], spatial_axes)
                    delta = file[f"attacks/{attack}/perturbation"][row]
                    for name, shown in (("clean", image), (attack, (image.astype(np.int32) + delta).astype(image.dtype))):
                        (answer,) = judge.predict(on_device(turned(shown, axes, image.ndim - 1)[None], device))
                        rows[name].append((truth, answer.answer, judge.score(answer, truth)))
        found = {name: corpus_metrics(judge.task, each) for name, each in rows.items()}  # type: ignore[arg-type]
        metric = headline(judge.task, found["clean"])
        how = "as stored" if not axes else f"mirrored along axis {axes[0]}"
        print(f"{how}: {metric} clean {found['clean'][metric]:.3f}, {attack} {found[attack][metric]:.3f}", flush=True)


if __name__ == "__main__":
    main()
