#!/usr/bin/env python3
"""Which boxes does a spec's detector find where there is nothing: on a black image, a grey one, and noise of the whole range?

    scripts/bench/blank_images.py polyps.yaml

Where it finds some, no attack can make it answer that there is nothing, and the goals `vanish` and `fabricate` mean little at that
threshold.
"""

import argparse
import sys
from pathlib import Path

import torch

from medadv.common.errors import SpecError
from medadv.compare.compare import read_samples
from medadv.spec.reading import load_spec
from medadv.victims.loading import VictimRequest
from medadv_transforms.units import LATTICES


def main() -> None:
    """Ask, and print a line for each image."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", type=Path)
    arguments = parser.parse_args()
    try:
        spec = load_spec(arguments.spec)
        if spec.data.task != "detection":
            parser.error(f"{arguments.spec}: a spec of detection is asked, not of {spec.data.task}")
        samples, _ = read_samples(spec, arguments.spec.parent, 1)
        shape = samples[0].content.image.shape
        judge = VictimRequest(spec.victim, spec.data.task, arguments.spec.parent).load(torch.device("cpu"), shape).scored
    except SpecError as error:
        sys.exit(f"{parser.prog}: {error}")
    lattice = LATTICES[samples[0].content.unit]
    noise = torch.randint(lattice.low, lattice.high + 1, shape, generator=torch.Generator().manual_seed(0)).float()
    grey = torch.full(shape, float((lattice.low + lattice.high + 1) // 2))
    for name, image in {"black": torch.full(shape, float(lattice.low)), "grey": grey, "noise": noise}.items():
        (answer,) = judge.predict(image[None])
        scores = answer.answer.scores
        # Answers hold boxes of lower scores, too, since average precision ranks them all.
        found = int((scores >= spec.victim.score_threshold).sum())
        surest = f"the surest of {len(scores)} has {scores.max():.2f}" if len(scores) else "none at all"
        print(f"{name}: {found} boxes with {spec.victim.score_threshold:g} or more, {surest}")


if __name__ == "__main__":
    main()
