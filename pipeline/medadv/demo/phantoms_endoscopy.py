"""Colonoscopy frames drawn from nothing: lumen and folds, mucosa with its vessels and highlights, polyps with exact boxes."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medadv.common.record import Json
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
FRAMES_PER_SESSION = 4
VISIBLE = 0.8
"""A polyp of which less than this part lies inside the picture is drawn elsewhere instead."""

Box = tuple[int, int, int, int]
"""x, y, width, height in whole pixels: the pixels of the polyp and no others."""


def draw_endoscopy(seed: int, session: int, frame: int, size: int = 128) -> tuple[NDArray[np.uint8], list[Box]]:
    """One frame, (y, x, 3), with the boxes of its polyps; frames of one session share the bowel, the lamp and the border."""
    bowel, rng = stream(seed, "endoscopy", session), stream(seed, "endoscopy", session, frame)
    side = 2 * size
    x, y = plane(side)
    border = _border(bowel, x, y)
    redness = bowel.uniform(0, 1)
    mucosa = np.array([0.90, 0.60 - 0.17 * redness, 0.49 - 0.15 * redness + bowel.normal(0, 0.02)], dtype=np.float32)
    light = _lumen_and_folds(rng, x, y)
    image = _mucosa(rng, mucosa, light, x)
    _paint_residue(rng, image, x, y)

    outlines: list[Plane] = []
    for _ in range(2 if rng.random() < 0.3 else 1):
        outline = _paint_polyp(rng, image, mucosa, x, y, border, outlines)
        if outline is not None:
            outlines.append(outline)
    _paint_highlights(rng, image, light, outlines)
    frame_levels = as_levels(rng, halve(np.asarray(np.clip(image, 0, 1) * border[..., None], dtype=np.float32)), grain=2.0)
    boxes = [box for box in (tight_box(halve(outline * border) >= 0.5) for outline in outlines) if box]
    return frame_levels, boxes


def tight_box(mask: NDArray[np.bool_]) -> Box | None:
    """The smallest box around the true pixels of a mask (y, x); None when there are none."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)


def write_endoscopy(root: Path, *, seed: int, train: int, test: int, progress: Callable[[float, str], None] | None) -> Path:
    """Write the frames of `train` + `test` sessions as JPEGs, and `annotations_coco.json`, whose path is returned."""
    (root / "images").mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Json]] = []
    annotations: list[dict[str, Json]] = []
    for session in range(train + test):
        for frame in range(FRAMES_PER_SESSION):
            levels, boxes = draw_endoscopy(seed, session, frame)
            name = f"images/session{session:03d}_frame{frame}.jpg"
            Image.fromarray(levels).save(root / name, quality=JPEG_QUALITY)
            height, width = levels.shape[:2]
            record = {"id": len(images) + 1, "file_name": name, "width": width, "height": height, "group": session}
            images.append({**record, "split": "train" if session < train else "test"})
            for box in boxes:
                record = {"id": len(annotations) + 1, "image_id": len(images), "category_id": 1, "bbox": list(box)}
                annotations.append({**record, "area": box[2] * box[3], "iscrowd": 0})
        if progress:
            progress((session + 1) / (train + test), "drawing endoscopy frames")
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "polyp"}]}
    (root / "annotations_coco.json").write_text(json.dumps(content) + "\n", encoding="utf-8")
    return root / "annotations_coco.json"


def _border(bowel: np.random.Generator, x: Plane, y: Plane) -> Plane:
    """1 inside the octagonal picture, 0 on the black around it and on the inset that some processors show."""
    corner = bowel.uniform(1.42, 1.62)
    inside = smoothstep(corner + 0.01, corner - 0.01, np.abs(x) + np.abs(y)) * (np.abs(x) < 0.97) * (np.abs(y) < 0.985)
    if bowel.random() < 0.3:
        inside = inside * ~((x < -0.55) & (y > 0.62))
    return np.asarray(inside, dtype=np.float32)


def _lumen_and_folds(rng: np.random.Generator, x: Plane, y: Plane) -> Plane:
    """How much of the lamp's light comes back from the wall of a folded tube, seen along it; about 0 to 1.2."""
    away = rng.uniform(0.0, 0.55) if rng.random() < 0.65 else rng.uniform(0.8, 1.2)
    towards = rng.uniform(0, 2 * np.pi)
    u, v = x - np.float32(away * np.cos(towards)), y - np.float32(away * np.sin(towards))
    around = np.arctan2(v, u)
    # The colon's three muscle bands pull its lumen into a rounded triangle.
    turns = rng.uniform(0, 2 * np.pi, 2).astype(np.float32)
    triangle = 1 + 0.13 * np.cos(3 * around + turns[0]) + 0.06 * np.cos(2 * around + turns[1])
    radius = np.hypot(u, v) * triangle * (1 + 0.07 * smooth_noise(rng, x.shape, 4)) + 0.02
    depth = -np.log(radius) * rng.uniform(2.2, 3.2) + rng.uniform(0, 1) + 0.13 * smooth_noise(rng, x.shape, 3)
    within = depth - np.floor(depth)
    # Each segment brightens towards the crest of the next fold; behind the crest lies its shadow.
    fold = smoothstep(0.0, 0.85, within) * smoothstep(1.0, 0.90, within)
    crest = np.exp(-(((within - 0.86) / 0.07) ** 2))
    presence = smoothstep(-0.6, 0.8, smooth_noise(rng, x.shape, 3) + 0.5)
    relief = 1 - presence * (0.5 * (1 - fold) - 0.10 * crest)
    falloff = smoothstep(0.02, 0.75, radius) * (1.1 - 0.22 * smoothstep(0.9, 2.0, radius))
    return np.asarray(falloff * relief * rng.uniform(0.85, 1.1) + 0.03, dtype=np.float32)


def _mucosa(rng: np.random.Generator, mucosa: NDArray[np.float32], light: Plane, x: Plane) -> NDArray[np.float32]:
    """Colour of the wall: redder where it is dark, with a network of fine vessels."""
    vessels: list[Segment] = []
    for _ in range(int(rng.integers(3, 9))):
        start = (float(rng.uniform(-1, 1)), float(rng.uniform(-1, 1)))
        fine = Winding(0.9, 0.016, wander=0.2, branches=0.2, depth=2, step=0.04)
        vessels += grow(rng, start, rng.uniform(0, 2 * np.pi), fine)
    network = draw_segments(vessels, x.shape[0], fineness=1)
    patches = 0.06 * smooth_noise(rng, x.shape, 5) + 0.025 * smooth_noise(rng, x.shape, 40)
    lit = np.clip(light * (1 + patches), 0.01, 1.5)
    exponents = np.array([0.75, 1.1, 1.15], dtype=np.float32)
    image = mucosa * lit[..., None] ** exponents
    return np.asarray(image * (1 - 0.32 * network[..., None] * np.array([0.5, 1, 1], dtype=np.float32)), dtype=np.float32)


def _paint_polyp(
    rng: np.random.Generator,
    image: NDArray[np.float32],
    mucosa: NDArray[np.float32],
    x: Plane,
    y: Plane,
    border: Plane,
    others: list[Plane],
) -> Plane | None:
    """A dome on the wall, with its shadow; gives the pixels it covers, or None where no free place was found."""
    for _ in range(30):
        px, py = rng.uniform(-0.72, 0.72, 2)
        large = 0.13 + 0.30 * rng.random() ** 1.5
        radii, angle = (large, large * rng.uniform(0.7, 1.0)), rng.uniform(0, np.pi)
        radius = blob(rng, x - np.float32(px), y - np.float32(py), radii, angle, 0.13)
        body = smoothstep(1.03, 0.97, radius)
        free = all(float((body * smoothstep(0, 1, other)).sum()) == 0 for other in others)
        if free and float((body * border).sum()) >= VISIBLE * float(body.sum()):
            break
    else:
        return None
    towards_lamp = np.arctan2(-py, -px)
    off_lamp = np.float32(min(1.0, np.hypot(px, py)))
    away = np.cos(np.arctan2(y - np.float32(py), x - np.float32(px)) - np.float32(towards_lamp))
    shadow = np.exp(-np.maximum(radius - 1, 0) / 0.16) * (0.30 - 0.30 * off_lamp * away)
    image *= 1 - np.clip(shadow, 0, 0.6)[..., None]

    height = np.sqrt(np.clip(1 - radius**2, 0, 1))
    bumps = smooth_noise(rng, x.shape, int(rng.integers(14, 30)))
    facing = height * (1 - 0.35 * off_lamp) + 0.5 * off_lamp * radius * away
    lit = np.clip(0.34 + 0.72 * facing, 0.12, 1.15) * (1 + rng.uniform(0.03, 0.09) * bumps)
    paleness = rng.uniform(0.72, 1.12)
    tint = np.array([rng.uniform(0.94, 1.1), paleness, paleness * rng.uniform(0.92, 1.1)], dtype=np.float32)
    surface = mucosa * tint * np.clip(lit, 0.02, 1.4)[..., None] ** np.array([0.8, 1.1, 1.1], dtype=np.float32)
    image += body[..., None] * (surface - image)

    # The lamp sits at the lens, so the wet dome shines near its top, drawn out a little towards the lamp.
    drawn_out = 0.3 * radii[1] * off_lamp
    shine_x, shine_y = px + drawn_out * np.cos(towards_lamp), py + drawn_out * np.sin(towards_lamp)
    for _ in range(int(rng.integers(1, 5))):
        gx, gy = shine_x + rng.normal(0, 0.25 * radii[1]), shine_y + rng.normal(0, 0.25 * radii[1])
        spot = (radii[1] * rng.uniform(0.06, 0.2), radii[1] * rng.uniform(0.05, 0.12))
        gloss = blob(rng, x - np.float32(gx), y - np.float32(gy), spot, rng.uniform(0, np.pi), 0.2)
        image += (0.9 * smoothstep(1.3, 0.7, gloss) * body)[..., None] * (1 - image)
    return body


def _paint_residue(rng: np.random.Generator, image: NDArray[np.float32], x: Plane, y: Plane) -> None:
    """Yellowish fluid and bubbles: round things and coloured patches that are no polyps."""
    if rng.random() < 0.4:
        px, py = rng.uniform(-0.8, 0.8, 2)
        radii, angle = (rng.uniform(0.15, 0.4), rng.uniform(0.08, 0.2)), rng.uniform(0, np.pi)
        radius = blob(rng, x - np.float32(px), y - np.float32(py), radii, angle, 0.3)
        cover = 0.55 * smoothstep(1.15, 0.7, radius + 0.15 * smooth_noise(rng, x.shape, 12))
        image *= 1 - cover[..., None] * (1 - np.array([0.85, 0.80, 0.42], dtype=np.float32))
    for _ in range(int(rng.integers(0, 8)) if rng.random() < 0.5 else 0):
        px, py = rng.uniform(-0.8, 0.8, 2)
        radius = np.hypot(x - np.float32(px), y - np.float32(py)) / np.float32(rng.uniform(0.025, 0.06))
        rim = 0.12 * np.exp(-(((radius - 1) / 0.25) ** 2))
        glint = 0.25 * smoothstep(0.35, 0.1, np.abs(radius - 0.5)) * (x < px)
        image += (rim + glint)[..., None]


def _paint_highlights(rng: np.random.Generator, image: NDArray[np.float32], light: Plane, polyps: list[Plane]) -> None:
    """Mirror images of the lamp on wet mucosa, where the wall faces it."""
    ripples = smooth_noise(rng, light.shape, (34, 22)) + 0.6 * smooth_noise(rng, light.shape, 64)
    wet = 1.1 * smooth_noise(rng, light.shape, 5) + 1.6 * np.clip(light - 0.75, -1, 0.4)
    glossy = smoothstep(3.9, 4.5, ripples + wet)
    for body in polyps:
        glossy = glossy * (1 - body)
    image += (0.9 * glossy)[..., None] * (1 - image)
