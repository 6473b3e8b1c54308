"""Fundus photographs drawn from nothing: disc, macula, vessels, and the lesions of five grades of diabetic retinopathy."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medadv.demo.drawing import (
    Plane,
    Segment,
    Winding,
    as_levels,
    blob,
    draw_segments,
    grow,
    halve,
    plane,
    smooth_noise,
    smoothstep,
    stream,
)

JPEG_QUALITY = 92
REFERABLE_FROM = 2
"""The lowest grade (international scale, 0 to 4) that counts as referable."""

GRADES = (0, 2, 0, 3, 1, 2, 0, 4, 1, 3)
"""Grades of consecutive patients: half of them referable, whatever the number."""

# (microaneurysms, haemorrhages, clusters of exudates, cotton-wool spots), the least and the most of each.
LESIONS = {
    0: ((0, 0), (0, 0), (0, 0), (0, 0)),
    1: ((1, 3), (0, 0), (0, 0), (0, 0)),
    2: ((5, 9), (3, 6), (1, 2), (0, 1)),
    3: ((8, 16), (9, 16), (1, 3), (1, 3)),
    4: ((6, 12), (6, 12), (1, 3), (1, 2)),
}
FIELD = 0.94
"""Radius of the field of view, where the image spans [-1, 1]."""

Colour = tuple[float, float, float]
RED, DARK_RED = (0.55, 0.22, 0.30), (0.38, 0.12, 0.20)
YELLOW, WHITE = (1.0, 0.88, 0.42), (0.95, 0.90, 0.72)


def draw_fundus(seed: int, patient: int, eye: str, grade: int, size: int = 128) -> NDArray[np.uint8]:
    """One photograph, (y, x, 3), of a patient's "left" or "right" eye; the same arguments give the same pixels."""
    person, rng = stream(seed, "fundus", patient), stream(seed, "fundus", patient, eye)
    side = 2 * size
    x, y = plane(side)
    towards_disc = -1.0 if eye == "left" else 1.0
    disc = (towards_disc * rng.uniform(0.44, 0.58), rng.uniform(-0.08, 0.08))
    macula = (disc[0] - towards_disc * rng.uniform(0.55, 0.62), disc[1] + rng.uniform(0.02, 0.1))

    image = _background(person, rng, x, y, macula)
    for colour, coverage in _vessels(rng, side, disc, -towards_disc):
        _multiply(image, coverage, colour)
    _paint_disc(person, rng, image, x, y, disc)
    _paint_lesions(rng, image, x, y, grade, disc, macula)
    _paint_distractors(rng, image, x, y)
    return as_levels(rng, _through_camera(rng, image, x, y), grain=2.0)


def write_fundus(root: Path, *, seed: int, train: int, test: int, progress: Callable[[float, str], None] | None) -> Path:
    """Write both eyes of `train` + `test` patients as JPEGs, and `labels.csv`, whose path is returned."""
    images = root / "images"
    images.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[str, int, int, str, str]] = []
    for patient in range(train + test):
        for eye in ("left", "right"):
            grade = GRADES[patient % len(GRADES)]
            name = f"images/patient{patient:03d}_{eye}.jpg"
            Image.fromarray(draw_fundus(seed, patient, eye, grade)).save(root / name, quality=JPEG_QUALITY)
            split = "train" if patient < train else "test"
            rows.append((name, grade, int(grade >= REFERABLE_FROM), split, f"patient{patient:03d}"))
        if progress:
            progress((patient + 1) / (train + test), "drawing fundus photographs")
    with (root / "labels.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(("file", "grade", "referable", "split", "patient"))
        writer.writerows(rows)
    return root / "labels.csv"


def _background(
    person: np.random.Generator, rng: np.random.Generator, x: Plane, y: Plane, macula: tuple[float, float]
) -> NDArray[np.float32]:
    """Retina and choroid, with the macula's pigment; (y, x, 3)."""
    pigment = person.uniform(0, 1)  # pale to dark fundus
    colour = np.array([0.86 - 0.16 * pigment, 0.47 - 0.16 * pigment, 0.22 - 0.12 * pigment], dtype=np.float32)
    colour *= np.float32(1) + person.normal(0, 0.04, 3).astype(np.float32)
    mottle = 0.05 * smooth_noise(rng, x.shape, 6) + 0.025 * smooth_noise(rng, x.shape, 24)
    choroid = 0.03 * (1 - pigment) * smooth_noise(rng, x.shape, (12, 30))
    around = np.hypot(x - macula[0], y - macula[1])
    fovea = 0.34 * np.exp(-((around / 0.16) ** 2)) + 0.12 * np.exp(-((around / 0.34) ** 2))
    image = colour * (1 + (mottle + choroid)[..., None])
    return np.asarray(image * (1 - fovea[..., None] * np.array([0.6, 1.0, 1.0], dtype=np.float32)), dtype=np.float32)


def _vessels(rng: np.random.Generator, side: int, disc: tuple[float, float], temporal: float) -> list[tuple[Colour, Plane]]:
    """Arcades of veins and arteries; temporal: +1 where the macula lies to the right of the disc."""
    painted: list[tuple[Colour, Plane]] = []
    for colour, width, lead in (((0.66, 0.46, 0.50), 0.040, 0.0), ((0.82, 0.62, 0.58), 0.030, 0.16)):
        segments: list[Segment] = []
        for up in (-1.0, 1.0):
            start = (disc[0] + rng.normal(0, 0.015), disc[1] + up * 0.03)
            # The temporal arcade leaves the disc almost vertically and bends around the macula; the nasal one runs straight.
            heading = up * (np.pi / 2 + temporal * (0.22 + lead))
            arcade = Winding(1.75, width * rng.uniform(0.9, 1.1), turn=-up * temporal * rng.uniform(1.1, 1.35), branches=0.11)
            segments += grow(rng, start, heading, arcade)
            nasal = Winding(0.8, width * rng.uniform(0.6, 0.8), turn=up * temporal * 0.5, branches=0.09)
            segments += grow(rng, start, up * (np.pi / 2 + temporal * rng.uniform(0.5, 0.9)), nasal)
            small = Winding(0.5, width * 0.4, turn=-up * temporal * 0.8, branches=0.06, depth=1)
            segments += grow(rng, start, up * (np.pi / 2 - temporal * rng.uniform(0.9, 1.3)), small)
        painted.append((colour, draw_segments(segments, side)))
    return painted


def _paint_disc(
    person: np.random.Generator,
    rng: np.random.Generator,
    image: NDArray[np.float32],
    x: Plane,
    y: Plane,
    disc: tuple[float, float],
) -> None:
    cup = person.uniform(0.3, 0.6)
    radius = blob(rng, x - disc[0], y - disc[1], (0.125, 0.145), 0.0, 0.02)
    luminance = image.mean(axis=2, keepdims=True)
    under = luminance / np.float32(luminance.mean())  # keeps the vessels visible as they cross
    for colour, edge, opacity in (((0.98, 0.70, 0.33), 1.0, 0.85), ((1.0, 0.88, 0.56), cup, 0.8)):
        cover = np.float32(opacity) * smoothstep(edge + 0.1, edge - 0.1, radius)[..., None]
        image += cover * (np.array(colour, dtype=np.float32) * np.clip(under, 0.6, 1.05) - image)


def _paint_lesions(
    rng: np.random.Generator,
    image: NDArray[np.float32],
    x: Plane,
    y: Plane,
    grade: int,
    disc: tuple[float, float],
    macula: tuple[float, float],
) -> None:
    aneurysms, haemorrhages, clusters, spots = (int(rng.integers(low, high + 1)) for low, high in LESIONS[grade])
    for px, py in _places(rng, spots, disc):
        _spot(rng, image, x, y, (px, py), rng.uniform(0.05, 0.08), WHITE, 0.7, edge=0.5)
    for _ in range(clusters):
        centre = np.array(macula) + rng.normal(0, 0.22, 2)
        for _ in range(int(rng.integers(7, 18))):
            px, py = centre + rng.normal(0, 0.085, 2)
            _spot(rng, image, x, y, (px, py), rng.uniform(0.009, 0.026), YELLOW, rng.uniform(0.5, 0.9), edge=0.35)
    for px, py in _places(rng, haemorrhages, disc):
        _spot(rng, image, x, y, (px, py), rng.uniform(0.02, 0.055), DARK_RED, rng.uniform(0.5, 0.85), edge=0.4)
    for px, py in _places(rng, aneurysms, disc):
        _spot(rng, image, x, y, (px, py), rng.uniform(0.012, 0.019), DARK_RED, 0.8, edge=0.3)
    if grade == 4:
        _paint_proliferation(rng, image, x, y, disc)


def _paint_proliferation(
    rng: np.random.Generator, image: NDArray[np.float32], x: Plane, y: Plane, disc: tuple[float, float]
) -> None:
    """New vessels on the disc, and a boat-shaped bleeding before the retina with its level on top."""
    tangle: list[Segment] = []
    for _ in range(7):
        start = (disc[0] + rng.normal(0, 0.05), disc[1] + rng.normal(0, 0.05))
        heading = rng.uniform(0, 2 * np.pi)
        tangle += grow(rng, start, heading, Winding(0.35, 0.012, turn=rng.uniform(-6, 6), wander=0.4, branches=0.3, depth=2))
    _multiply(image, draw_segments(tangle, x.shape[0]), RED)
    px, py = _places(rng, 1, disc)[0]
    radius = blob(rng, x - px, y - py, (rng.uniform(0.16, 0.26), rng.uniform(0.12, 0.18)), 0.0, 0.03)
    boat = smoothstep(1.06, 0.94, radius) * smoothstep(-0.02, 0.02, y - np.float32(py))
    _multiply(image, 0.9 * boat, DARK_RED)


def _paint_distractors(rng: np.random.Generator, image: NDArray[np.float32], x: Plane, y: Plane) -> None:
    """Drusen and dust, which any eye may have: pale or dark dots alone do not make an eye referable."""
    if rng.random() < 0.35:
        for px, py in rng.normal(0, 0.25, (int(rng.integers(3, 9)), 2)):
            _spot(rng, image, x, y, (px, py), rng.uniform(0.014, 0.024), (0.95, 0.74, 0.40), 0.45, edge=0.6)
    for px, py in rng.uniform(-0.7, 0.7, (int(rng.integers(0, 3)), 2)):
        _spot(rng, image, x, y, (px, py), rng.uniform(0.02, 0.05), (0.5, 0.4, 0.35), 0.3, edge=0.9)


def _through_camera(rng: np.random.Generator, image: NDArray[np.float32], x: Plane, y: Plane) -> NDArray[np.float32]:
    """Uneven illumination, exposure, the aperture's edge; at half the size."""
    light = 1.08 - rng.uniform(0.15, 0.45) * (x**2 + y**2)
    towards = rng.uniform(0, 2 * np.pi)
    light += rng.uniform(0, 0.22) * (np.cos(towards) * x + np.sin(towards) * y)
    light += 0.25 * rng.uniform(0, 1) ** 3 * smoothstep(0.8, FIELD, np.hypot(x, y)) * (np.cos(towards) * x > 0)
    photograph = image * (light * rng.uniform(0.78, 1.1))[..., None]
    photograph += np.float32(rng.uniform(0, 0.04)) * np.array([0.6, 0.8, 1.0], dtype=np.float32)  # haze of the ocular media
    aperture = smoothstep(FIELD + 0.008, FIELD - 0.008, np.hypot(x, y))
    return halve(np.asarray(np.clip(photograph, 0, 1) * aperture[..., None] + 0.012, dtype=np.float32))


def _places(rng: np.random.Generator, count: int, disc: tuple[float, float]) -> list[tuple[float, float]]:
    """Points inside the field of view and off the disc."""
    places: list[tuple[float, float]] = []
    while len(places) < count:
        px, py = rng.uniform(-0.8, 0.8, 2)
        if np.hypot(px, py) < 0.8 and np.hypot(px - disc[0], py - disc[1]) > 0.24:
            places.append((float(px), float(py)))
    return places


def _spot(
    rng: np.random.Generator,
    image: NDArray[np.float32],
    x: Plane,
    y: Plane,
    centre: tuple[float, float],
    radius: float,
    colour: Colour,
    opacity: float,
    edge: float,
) -> None:
    """Paint one small irregular spot; dark colours multiply like pigment, light ones cover."""
    side = x.shape[0]
    reach = int(radius * side) + 2
    column, row = (int((c + 1) * side / 2) for c in centre)
    window = (slice(max(row - reach, 0), row + reach), slice(max(column - reach, 0), column + reach))
    shape = (radius * rng.uniform(0.8, 1.6), radius)
    distance = blob(rng, x[window] - centre[0], y[window] - centre[1], shape, rng.uniform(0, np.pi), 0.2)
    cover = np.float32(opacity) * smoothstep(1 + edge, 1 - edge, distance)
    if max(colour) < 0.6:
        _multiply(image[window], cover, colour)
    else:
        image[window] += cover[..., None] * (np.array(colour, dtype=np.float32) - image[window])


def _multiply(image: NDArray[np.float32], cover: Plane, colour: Colour) -> None:
    image *= 1 - cover[..., None] * (1 - np.array(colour, dtype=np.float32))
