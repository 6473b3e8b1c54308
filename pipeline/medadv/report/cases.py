"""Which samples are shown, and what is shown of them."""

import shlex
from dataclasses import dataclass
from typing import Any

import numpy as np

from medadv.datasets.labels import Boxes
from medadv.report import paint
from medadv.report.columns import AttackColumns, Columns
from medadv.report.estimates import class_name
from medadv.report.view import View, load_view
from medadv.store.reader import adversarial_image, open_shard

WORST = 2
RANDOM = 2


@dataclass(frozen=True)
class Picture:
    """One cell of a contact sheet: an image with its text alternative, or text and a bar alone."""

    title: str
    alt: str
    uri: str = ""
    share: float | None = None


@dataclass(frozen=True)
class Case:
    """One row of a contact sheet."""

    kind: str
    sample: str
    facts: str
    pictures: list[Picture]
    command: str


@dataclass(frozen=True)
class Look:
    """How samples are painted. window: HU shown as black and white, None for 8-bit images.  limit: of the signed map, stored units."""

    window: tuple[float, float] | None
    limit: float
    threshold: float
    names: list[str] | None


def choose(attack: AttackColumns, seed: int) -> list[tuple[str, int]]:
    """(kind, sample number): the largest score drops, the median drop, and some drawn from the rest by the corpus's own seed."""
    order = np.argsort(-attack.drop, kind="stable")
    chosen: dict[int, str] = {}
    for place in range(min(WORST, len(order))):
        chosen[int(order[place])] = "worst: largest score drop" if place == 0 else "worst, next"
    if len(order):
        chosen.setdefault(int(order[len(order) // 2]), "median score drop")
    rest = [int(v) for v in np.sort(order) if int(v) not in chosen]
    for value in np.random.default_rng(seed).permutation(rest)[:RANDOM]:
        chosen[int(value)] = "drawn at random"
    return [(kind, number) for number, kind in chosen.items()]


def show(columns: Columns, name: str, kind: str, number: int, look: Look, corpus: str) -> Case:
    """Read one sample and paint it."""
    path, index = columns.places[number]
    attack, sample = columns.attacks[name], columns.ids[number]
    with open_shard(path) as file:
        view = load_view(file, index, name, sample)
    facts = [
        f"score {attack.score_clean[number]:.3f} clean, {attack.score_adversarial[number]:.3f} adversarial",
        "the attack succeeds" if attack.success[number] else "the attack does not succeed",
        f"L-infinity {attack.linf[number]:g}, L2 {attack.l2[number]:,.0f}",
        *([view.position] if view.position else []),
    ]
    command = f"medadv reproduce {shlex.quote(corpus)} --sample {shlex.quote(sample)}"
    scores = (float(attack.score_clean[number]), float(attack.score_adversarial[number]))
    return Case(kind, sample, "; ".join(facts), _pictures(columns.task, view, scores, look), command)


def _pictures(task: str, view: View, scores: tuple[float, float], look: Look) -> list[Picture]:
    clean = paint.grey(view.image, look.window)
    adversarial = paint.grey(adversarial_image(view.image, view.perturbation), look.window)
    scale = paint.scale_for(clean.shape[:2])
    mean = " (mean over channels)" if len(view.perturbation) > 1 else ""
    low, high = int(view.perturbation.min()), int(view.perturbation.max())
    cells = [
        Picture("clean", "clean image", paint.png(paint.enlarge(clean, scale))),
        Picture(
            f"perturbation{mean}",
            f"signed perturbation, {low} to {high} in stored units, from {-look.limit:g} (blue) over 0 (white) to {look.limit:g} (brown)",
            paint.png(paint.enlarge(paint.signed(view.perturbation, look.limit), scale)),
        ),
        Picture("adversarial", "adversarial image, clean plus perturbation", paint.png(paint.enlarge(adversarial, scale))),
    ]
    if task == "segmentation":
        truth = paint.overlay(clean, view.truth, scale)
        cells[0] = Picture("clean, with the true mask", f"clean image with the true mask, {_area(view.truth)}", paint.png(truth))
    if task == "detection":
        truth_drawn = paint.draw_boxes(clean, scale, view.truth, paint.TRUTH)
        held = f"clean image with {len(view.truth.boxes)} true boxes{_here(view)}"
        cells[0] = Picture(f"clean, with true boxes{_here(view)}", held, paint.png(truth_drawn))
    before, after = ("prediction, clean", "prediction, adversarial")
    return [
        *cells,
        _answer(task, before, clean, view, view.clean, scores[0], look, scale),
        _answer(task, after, adversarial, view, view.adversarial, scores[1], look, scale),
    ]


def _here(view: View) -> str:
    return " on this slice" if view.of_volume else ""


def _answer(task: str, title: str, picture: Any, view: View, answer: Any, score: float, look: Look, scale: int) -> Picture:
    truth = view.truth
    if task == "segmentation":
        text = f"mean Dice {score:.3f}"
        return Picture(f"{title}: {text}", f"{title}: mask of {_area(answer)}, {text}", paint.png(paint.overlay(picture, answer, scale)))
    if task == "detection":
        sure = Boxes(*(v[answer.scores >= look.threshold] for v in (answer.boxes, answer.classes, answer.scores)))
        drawn = paint.draw_boxes(picture, scale, truth, paint.TRUTH)
        drawn = paint.draw_boxes(picture, scale, sure, paint.ANSWER, drawn)
        shown = f"{len(sure.boxes)} detections of a score of {look.threshold:g} or more{_here(view)}"
        listed = ", ".join(f"{value:.2f}" for value in sorted(np.asarray(sure.scores), reverse=True)[:5])
        text = f"{shown}{f' ({listed})' if listed else ''}"
        return Picture(f"{title}: {text}", f"{title}: {text}, beside {len(truth.boxes)} true boxes; AP {score:.3f}", paint.png(drawn))
    said, right = _label(answer, look.names), _label(truth, look.names)
    text = f"{said}; truth: {right}; probability of the truth {score:.3f}"
    return Picture(title, text, share=score)


def _label(value: Any, names: list[str] | None) -> str:
    value = np.asarray(value)
    if value.ndim == 0:
        return class_name(int(value), names)
    return ", ".join(class_name(int(v), names) for v in np.flatnonzero(value)) or "none"


def _area(mask: Any) -> str:
    values = np.asarray(mask)
    count = int(((values != 0) & (values != 255)).sum())
    return f"{count:,} pixels"
