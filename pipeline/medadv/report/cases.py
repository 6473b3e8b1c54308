"""Which samples are shown, and what is shown of them."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from medadv.datasets.labels import Array, Boxes
from medadv.datasets.source import counted
from medadv.report import paint
from medadv.report.by_class import class_name
from medadv.report.columns import AttackColumns, Columns
from medadv.report.view import Planes, View, chosen_slice, load_view
from medadv.store.reader import adversarial_image, open_shard

WORST = 2
RANDOM = 2
LIFE_SIZE = 320
"""Side of the squares that are shown pixel by pixel: one that a telephone's screen holds."""


@dataclass(frozen=True)
class Picture:
    """One cell of a contact sheet: an image with its text alternative, or text and a bar alone."""

    title: str
    alt: str
    uri: str = ""
    share: float | None = None
    size: tuple[int, int] | None = None
    """Width and height, where a pixel of the image is to be one of the page."""


@dataclass(frozen=True)
class Slice:
    """One slice of a volume to page through.  chosen: the one that is shown first."""

    title: str
    pictures: list[Picture]
    chosen: bool

    @property
    def size(self) -> int:
        """Bytes of its pictures on the page."""
        return sum(len(picture.uri) for picture in self.pictures)


@dataclass(frozen=True)
class Case:
    """One row of a contact sheet."""

    kind: str
    sample: str
    facts: str
    pictures: list[Picture]
    command: str
    slices: list[Slice] = field(default_factory=list)


@dataclass(frozen=True)
class Look:
    """How samples are painted. window: HU shown as black and white, None for 8-bit images.  limit: of the signed map, stored units.
    threshold: score from which a detection is drawn."""

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
        chosen.setdefault(middle(attack), "median score drop")
    rest = [int(v) for v in np.sort(order) if int(v) not in chosen]
    for value in np.random.default_rng(seed).permutation(rest)[:RANDOM]:
        chosen[int(value)] = "drawn at random"
    return [(kind, number) for number, kind in chosen.items()]


def middle(attack: AttackColumns) -> int:
    """Number of the sample of median score drop."""
    order = np.argsort(-attack.drop, kind="stable")
    return int(order[len(order) // 2])


def show(columns: Columns, name: str, kind: str, number: int, look: Look, corpus: str) -> Case:
    """Read one sample and paint it."""
    attack, sample, view = columns.attacks[name], columns.ids[number], _view(columns, name, number)
    facts = [
        f"score {attack.score_clean[number]:.3f} clean, {attack.score_adversarial[number]:.3f} adversarial",
        "the attack succeeds" if attack.success[number] else "the attack does not succeed",
        f"L-infinity {attack.linf[number]:g}, L2 {attack.l2[number]:,.0f}",
        *([view.position] if view.position else []),
    ]
    command = f"medadv reproduce {shlex.quote(corpus)} --sample {shlex.quote(sample)}"
    scores = (float(attack.score_clean[number]), float(attack.score_adversarial[number]))
    return Case(kind, sample, "; ".join(facts), _pictures(columns.task, view, scores, look), command)


def paged(columns: Columns, name: str, number: int, look: Look, budget: int) -> list[Slice]:
    """Slices of a volume to page through, as many as fit into `budget` bytes; none of what has no slices."""
    path, index = columns.places[number]
    with open_shard(path) as file:
        if chosen_slice(file, index) is None:
            return []
        return _slices(Planes(file, index), name, columns.ids[number], columns.task, look, budget)


def opening(columns: Columns, names: Sequence[str], look: Look) -> tuple[str, list[Picture]]:
    """What the page opens with: of one sample, that of median score drop under the first attack, the clean image with its truth and
    answer, and the adversarial image of each attack with its own answer.  Returns the sample's id, too."""
    first = columns.attacks[names[0]]
    number = middle(first)
    pictures: list[Picture] = []
    for name in names:
        attack = columns.attacks[name]
        view = _view(columns, name, number)
        clean, adversarial, scale = _greys(view, look)
        scores = float(attack.score_clean[number]), float(attack.score_adversarial[number])
        if not pictures:
            if columns.task != "classification":
                pictures.append(_truth(columns.task, clean, view, scale))
            pictures.append(_opened(columns.task, "clean", clean, view, view.clean, scores[0], look, scale))
        pictures.append(_opened(columns.task, name, adversarial, view, view.adversarial, scores[1], look, scale))
    return columns.ids[number], pictures


def life_size(columns: Columns, name: str, look: Look) -> tuple[str, list[Picture]]:
    """Clean and adversarial image at one pixel a pixel, a square around the truth, of the sample of median score drop; and its id."""
    number = middle(columns.attacks[name])
    view = _view(columns, name, number)
    clean, adversarial, _ = _greys(view, look)
    point = _point(view.truth, clean.shape[:2])
    found = []
    for title, picture in (("clean", clean), ("adversarial", adversarial)):
        part = paint.cut(picture, point, LIFE_SIZE)
        width, height = part.shape[1], part.shape[0]
        words = f"{title} image, {width} by {height} pixels of it, unscaled"
        found.append(Picture(title, words, paint.png(part), size=(width, height)))
    return columns.ids[number], found


def _view(columns: Columns, name: str, number: int) -> View:
    path, index = columns.places[number]
    with open_shard(path) as file:
        return load_view(Planes(file, index), name, columns.ids[number], chosen_slice(file, index))


def _greys(view: View, look: Look) -> tuple[Array, Array, int]:
    """The clean and the adversarial picture, and the factor by which both are enlarged."""
    clean = paint.grey(view.image, look.window)
    adversarial = paint.grey(adversarial_image(view.image, view.perturbation), look.window)
    return clean, adversarial, paint.scale_for(clean.shape[:2])


def _point(truth: Any, shape: tuple[int, ...]) -> tuple[float, float]:
    """(row, column) in the midst of what is to be found, of the picture where nothing is."""
    if isinstance(truth, Boxes) and len(truth.boxes):
        x0, y0, x1, y1 = truth.boxes[0]
        return float(y0 + y1) / 2, float(x0 + x1) / 2
    if not isinstance(truth, Boxes) and (mask := np.asarray(truth)).ndim >= 2:
        rows, columns = np.nonzero(((mask != 0) & (mask != 255)).reshape(-1, *mask.shape[-2:]).any(0))
        if len(rows):
            return float(rows.mean()), float(columns.mean())
    return shape[0] / 2, shape[1] / 2


def _pictures(task: str, view: View, scores: tuple[float, float], look: Look) -> list[Picture]:
    clean, adversarial, scale = _greys(view, look)
    mean = " (mean over channels)" if len(view.perturbation) > 1 else ""
    low, high = int(view.perturbation.min()), int(view.perturbation.max())
    cells = [
        _truth(task, clean, view, scale),
        Picture(
            f"perturbation{mean}",
            f"signed perturbation, {low} to {high} in stored units, from {-look.limit:g} (blue) over 0 (white) to {look.limit:g} (brown)",
            paint.png(paint.enlarge(paint.signed(view.perturbation, look.limit), scale)),
        ),
        Picture("adversarial", "adversarial image, clean plus perturbation", paint.png(paint.enlarge(adversarial, scale))),
    ]
    before, after = ("prediction, clean", "prediction, adversarial")
    return [
        *cells,
        _answer(task, before, clean, view, view.clean, scores[0], look, scale),
        _answer(task, after, adversarial, view, view.adversarial, scores[1], look, scale),
    ]


def _truth(task: str, clean: Array, view: View, scale: int) -> Picture:
    """The clean picture with what is true of it."""
    if task == "classification":
        return Picture("clean", "clean image", paint.png(paint.enlarge(clean, scale)))
    if task == "segmentation":
        text = f"clean image with the true mask, {_area(view.truth)}"
        return Picture("clean, with the true mask", text, paint.png(paint.overlay(clean, view.truth, scale)))
    drawn = paint.draw_boxes(clean, scale, view.truth, paint.TRUTH)
    here = _here(view)
    return Picture(f"clean, with true boxes{here}", f"clean image with {len(view.truth.boxes)} true boxes{here}", paint.png(drawn))


def _slices(planes: Planes, name: str, sample: str, task: str, look: Look, budget: int) -> list[Slice]:
    """Slices of a volume, evenly spread and as many as fit: truth, answer to the clean and answer to the adversarial image."""
    depth = planes.file["image"].shape[-1]
    chosen = chosen_slice(planes.file, planes.index)
    assert chosen is not None
    first = _slice(planes, name, sample, task, look, chosen, depth, chosen=True)
    # The one that is shown first holds most of what is to be found, and so is larger than most.
    fitting = max(1, min(depth, budget // max(1, first.size)))
    numbers = {int(v) for v in np.linspace(0, depth - 1, fitting)} if fitting > 1 else set()
    if len(numbers) > 1:
        # Instead of its nearest neighbour, so that there is none too many.
        numbers.discard(min(numbers, key=lambda number: abs(number - chosen)))
    found = [first if at == chosen else _slice(planes, name, sample, task, look, at, depth) for at in sorted({*numbers, chosen})]
    while sum(each.size for each in found) > budget and len(found) > 1:
        found.remove(max((each for each in found if not each.chosen), key=lambda each: each.size))
    return found


def _slice(
    planes: Planes, name: str, sample: str, task: str, look: Look, at: int, depth: int, *, chosen: bool = False
) -> Slice:
    view = load_view(planes, name, sample, at)
    clean, adversarial, scale = _greys(view, look)
    cells = []
    shown = (("truth", clean, view.truth), ("clean", clean, view.clean), ("adversarial", adversarial, view.adversarial))
    for title, picture, answer in shown:
        drawn: Array | Image.Image = paint.enlarge(picture, scale)
        text = ""
        if task == "segmentation":
            drawn, text = paint.overlay(picture, answer, scale), _area(answer)
        elif isinstance(answer, Boxes):
            boxes = answer if answer.scores is None else _sure(answer, look)
            drawn = paint.draw_boxes(picture, scale, boxes, paint.TRUTH if answer.scores is None else paint.ANSWER)
            text = f"{len(boxes.boxes)} boxes"
        what = title if title == "truth" else f"answer to the {title} image"
        cells.append(Picture(what, f"slice {at + 1}, {what}{': ' if text else ''}{text}", paint.jpeg(drawn)))
    return Slice(f"slice {at + 1} of {depth}", cells, chosen)


def _here(view: View) -> str:
    return " on this slice" if view.at is not None else ""


def _sure(boxes: Boxes, look: Look) -> Boxes:
    assert boxes.scores is not None
    keep = boxes.scores >= look.threshold
    return Boxes(boxes.boxes[keep], boxes.classes[keep], boxes.scores[keep])


def _opened(task: str, title: str, picture: Any, view: View, answer: Any, score: float, look: Look, scale: int) -> Picture:
    """A picture of the opening: the image with the answer to it, in few words."""
    if task == "classification":
        said, right = _label(answer, look.names), _label(view.truth, look.names)
        text = f"{said}, {score:.0%} sure of the truth ({right})" if said != right else f"{said}, which is true; {score:.0%} sure of it"
        return Picture(f"{title}: {text}", f"{title} image; the answer: {text}", paint.png(paint.enlarge(picture, scale)))
    found = _answer(task, title, picture, view, answer, score, look, scale)
    boxes = "" if task == "segmentation" else f"{counted(len(_sure(answer, look).boxes), 'detection')}{_here(view)}; "
    words = f"{boxes}{'AP' if boxes else 'Dice'} {score:.3f}"
    return Picture(f"{title}, with the answer: {words}", f"{title} image with the answer to it, {words}", found.uri)


def _answer(task: str, title: str, picture: Any, view: View, answer: Any, score: float, look: Look, scale: int) -> Picture:
    truth = view.truth
    if task == "segmentation":
        text = f"mean Dice {score:.3f}"
        return Picture(f"{title}: {text}", f"{title}: mask of {_area(answer)}, {text}", paint.png(paint.overlay(picture, answer, scale)))
    if task == "detection":
        sure = _sure(answer, look)
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
