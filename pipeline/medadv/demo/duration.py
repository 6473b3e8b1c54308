"""How long will the demo take on this processor? A few phantoms and training steps are timed, and the rest follows from their number.

Nothing is known of a processor by its name: what is timed is what will be done. The time is that of the processor, which on an idle machine
is the time that passes.
"""

import dataclasses
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from medadv.demo.phantoms import COUNTS, WRITERS
from medadv.demo.specs import Part, samples, stacked, write_spec
from medadv.demo.training import train

STEPS = 3
"""Of training that are timed, less the first, which warms up."""
STEPS_PER_IMAGE = 15.0
"""What a corpus costs for each of its images, attacks, checks and looks together, in the time that one image takes in a training step."""
DRAWINGS_PER_CORPUS = 40.0
"""What a corpus costs besides (workers that start, files, its report), in the time of drawing one chest: both are Python's work.

Both by a demo on two idle cores with AVX2: corpora and reports of chests, eyes and frames in 26, 14 and 25 s, where a chest took 0.37 s and
a step of training 0.18, 0.12 and 0.47 s.
"""


@dataclasses.dataclass(frozen=True)
class Pace:
    """What was timed of one part, in seconds. drawing: of a patient or session.  step: of training."""

    drawing: float
    step: float
    images: int
    """Of a patient or session."""


def seconds_needed(missing: Sequence[Part], parts: Sequence[Part], cores: int) -> float:
    """Seconds on an idle machine that drawing and training of what is missing, and the corpora of all parts, will take."""
    paces = {part.name: pace(part) for part in parts}
    victims = [_victim(part, paces[part.name]) for part in missing]
    # Two processes: neither ends before the longest part, nor before half of the work.
    trained = sum(victims) if cores == 1 else max(*victims, sum(victims) / 2, 0)
    chest = paces["ct"].drawing
    return trained + sum(_corpus(part, paces[part.name], cores) + DRAWINGS_PER_CORPUS * chest for part in parts)


def pace(part: Part) -> Pace:
    """Draw one patient or session in a folder that is gone afterwards, and train on it for a few steps, with one thread."""
    threads, moments = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            started = time.process_time()
            WRITERS[part.name](Path(folder) / "phantoms" / part.name, seed=0, train=1, test=0, progress=None)
            drawing = time.process_time() - started
            images, labels = stacked(samples(write_spec(Path(folder), part), part.train))
        recipe, filled = dataclasses.replace(part.recipe, epochs=STEPS), np.resize(np.arange(len(labels)), part.recipe.batch)
        batch = [labels[index] for index in filled]
        train(recipe, images[filled], batch, (images[:1], labels[:1]), progress=lambda share, text: moments.append(time.process_time()))
    finally:
        torch.set_num_threads(threads)
    return Pace(drawing, (moments[-1] - moments[0]) / (STEPS - 1), len(labels))


def _victim(part: Part, pace: Pace) -> float:
    train, test = COUNTS[part.name]
    return (train + test) * pace.drawing + part.recipe.epochs * (train * pace.images // part.recipe.batch) * pace.step


def _corpus(part: Part, pace: Pace, cores: int) -> float:
    return STEPS_PER_IMAGE * COUNTS[part.name][1] * pace.images * pace.step / part.recipe.batch / cores
