"""Chest CT drawn from nothing, in HU: body wall, skeleton, heart and vessels, lungs with lesions, upper abdomen, table."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from medadv.demo.canvas import Canvas, Field, Point
from medadv.demo.drawing import smooth_noise, stream

SHAPE = (128, 128, 12)
SPACING_MM = (2.9, 2.9, 10.0)
SUBSLICES = 3
"""Every slice is the mean of so many thinner ones: thick slices show parts of what they cut through."""

AIR, LUNG, FAT, WATER, MUSCLE = -1000.0, -850.0, -105.0, 8.0, 52.0
LIVER, BLOOD, SPONGIOSA, CORTEX = 108.0, 175.0, 190.0, 620.0
"""HU; the blood holds contrast medium, as in most chest CTs."""

LESIONS = 2
"""Begun in every slice that shows lung; they reach into the slices beside it."""
GROUND_GLASS = (-700.0, -530.0)
"""HU of lesions: between lung and vessels, so that a victim has to go by little."""
NOISE_HU = (18.0, 24.0)
"""Standard deviation of the scanner's noise, from the lightest to the heaviest patient."""


@dataclass(frozen=True)
class Chest:
    """One drawn patient.

    hu: (x, y, z) int16.  lesions: (x, y, z) uint8, 1 where at least half of a voxel is ground glass.
    spacing_mm, origin_mm (centre of the first voxel): in DICOM's patient coordinates, x to the left, y to the back, z to
    the head.
    """

    hu: NDArray[np.int16]
    lesions: NDArray[np.uint8]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]


@dataclass(frozen=True)
class Build:
    """Measures of a patient's trunk in mm; front and back are the y of the thoracic cavity's walls at the midline."""

    wide: float
    deep: float
    fat: float

    @property
    def front(self) -> float:
        return 4 - (self.deep - self.fat - 16)

    @property
    def back(self) -> float:
        return 4 + (self.deep - self.fat - 16)


def draw_chest(seed: int, patient: int) -> Chest:
    """The chest CT of one patient; the same arguments give the same voxels."""
    rng = stream(seed, "chest", patient)
    build = Build(wide=rng.uniform(146, 170), deep=rng.uniform(100, 118), fat=rng.uniform(7, 20))
    canvas = Canvas((*SHAPE[:2], SHAPE[2] * SUBSLICES), (*SPACING_MM[:2], SPACING_MM[2] / SUBSLICES))
    cavity = canvas.ellipse((0, 4), (build.wide - build.fat - 20, build.deep - build.fat - 16), 2.3)
    cavity = np.asarray(cavity + 0.30 * np.maximum(canvas.z - 15, 0), dtype=np.float32)  # narrows towards the neck

    _draw_wall(canvas, build, cavity)
    dome = _draw_abdomen(rng, canvas, cavity)
    lesions = _draw_lungs(rng, canvas, build, cavity, dome)
    _draw_mediastinum(rng, canvas, build)
    _draw_skeleton(rng, canvas, build, cavity)
    _draw_table(canvas, build)

    hu = _scan(rng, canvas.hu)
    inside = lesions.reshape(*SHAPE, SUBSLICES).mean(axis=-1) >= 0.5
    corner = [-mm * (n - 1) / 2 for n, mm in zip(SHAPE[:2], SPACING_MM[:2], strict=True)]
    origin = (round(corner[0], 3), round(corner[1], 3), round(float(rng.uniform(-260, -180)), 1))
    return Chest(hu, inside.astype(np.uint8), SPACING_MM, origin)


def _draw_wall(canvas: Canvas, build: Build, cavity: Field) -> None:
    trunk = canvas.ellipse((0, 0), (build.wide + 0.08 * canvas.z, np.full_like(canvas.z, build.deep)), 2.5)
    canvas.fill(trunk, 20.0).fill(trunk + 2.5, FAT)
    wall = canvas.ellipse((0, 3), (build.wide - build.fat - 3, build.deep - build.fat - 2), 2.3)
    canvas.fill(np.maximum(wall, -(wall + 16)), MUSCLE)
    for side in (-1, 1):
        canvas.fill(canvas.ellipse((side * 30, build.back + 4), (26, 17)), MUSCLE)  # erector of the spine
        pectoral = canvas.rod((side * 25, build.front - 9), (side * 95, build.front + 14), 7)
        canvas.fill(np.maximum(pectoral, 5 - canvas.z), MUSCLE)
    canvas.fill(cavity - 2, FAT + 30)


def _draw_abdomen(rng: np.random.Generator, canvas: Canvas, cavity: Field) -> Field:
    """Liver, spleen, and a stomach with a gas bubble; gives the signed height over the diaphragm, negative in the abdomen."""
    low, high = -72.0, rng.uniform(26, 44)
    right = low + high * (1 - ((canvas.x + 62) / 95) ** 2 - ((canvas.y - 5) / 90) ** 2)
    left = low - 8 + high * (1 - ((canvas.x - 68) / 80) ** 2 - ((canvas.y - 5) / 85) ** 2)
    dome = np.asarray(canvas.z - np.maximum(right, left), dtype=np.float32)
    below = np.maximum(cavity, dome)
    canvas.fill(below, FAT + 40)
    canvas.fill(np.maximum(below + 3, canvas.x - 22), LIVER)
    canvas.fill(np.maximum(below + 3, canvas.ellipse((92, 38), (34, 42))), LIVER + 12)
    stomach = np.maximum(below + 3, canvas.ellipse((62, -26), (40, 34)))
    canvas.fill(stomach, MUSCLE).fill(stomach + 4, WATER + 15)
    level = rng.uniform(-44, -24)  # gas floats to the front of a patient who lies on the back
    canvas.fill(np.maximum(stomach + 4, canvas.y - np.float32(level)), AIR)
    return dome


def _draw_lungs(rng: np.random.Generator, canvas: Canvas, build: Build, cavity: Field, dome: Field) -> Field:
    """Both lungs with fissures, vessels and lesions; gives how much of each voxel is lesion, in [0, 1]."""
    middle = np.minimum(canvas.ellipse((0, -6), (33, build.deep - 26)), canvas.ellipse((0, build.back - 22), (30, 34)))
    heart = canvas.ellipsoid((20, build.front + 46, -30), (66, 50, 52))
    lung = np.asarray(np.maximum(np.maximum(cavity, 4 - dome), 3 - np.minimum(middle, heart)), dtype=np.float32)
    if rng.random() < 0.3:  # fluid collects at the back
        side, level = rng.choice((-1.0, 1.0)), build.back - rng.uniform(16, 34)
        fluid = np.maximum(np.maximum(lung, level - canvas.y + 0.10 * np.abs(canvas.x)), -side * canvas.x)
        canvas.fill(fluid, WATER + 6)
        lung = np.asarray(np.maximum(lung, -fluid), dtype=np.float32)

    mottle = np.stack([smooth_noise(rng, SHAPE[:2], 14) for _ in range(SHAPE[2])], axis=-1).repeat(SUBSLICES, axis=-1)
    # The lower parts of the lungs, towards the back, hold more blood.
    canvas.fill(lung, LUNG + rng.uniform(-30, 30) + 0.35 * (canvas.y + 20) + 14 * mottle)
    within = canvas.cover(lung)
    fissure = np.abs(0.75 * canvas.y + 0.65 * canvas.z - rng.uniform(-5, 10)) - 0.6
    canvas.fill(np.maximum(fissure, lung), -560)
    for side in (-1.0, 1.0):
        _draw_branches(rng, canvas, np.array([side * 30.0, 6.0, 4.0]), np.array([side, 0.0, 0.0]), 6.0, within)
    lesions = np.zeros(canvas.shape, dtype=np.float32)
    for start in range(0, canvas.shape[2], SUBSLICES):
        for _ in range(LESIONS):
            lesions = np.maximum(lesions, _draw_lesion(rng, canvas, lung, start + SUBSLICES // 2))
    return lesions


def _draw_branches(
    rng: np.random.Generator, canvas: Canvas, start: Point, heading: Point, radius: float, within: Field
) -> None:
    """A pulmonary vessel and all that spring from it."""
    if radius < 0.8:
        return
    end = start + heading * rng.uniform(3.0, 5.0) * (radius + 1.8)
    canvas.fill_tube(start, end, radius, BLOOD - 30, within)
    for _ in range(3 if radius > 2.5 else 2):
        turned = heading + rng.normal(0, 0.55, 3)
        _draw_branches(rng, canvas, end, turned / np.linalg.norm(turned), radius * rng.uniform(0.62, 0.86), within)


def _draw_lesion(rng: np.random.Generator, canvas: Canvas, lung: Field, index: int) -> Field:
    """A spot of ground glass about a point of one thin slice, away from the lung's surface; gives what it covers, in [0, 1]."""
    depths = lung[:, :, index]
    radii, value = rng.uniform(7.0, 16.0) * rng.uniform(0.8, 1.2, 3), rng.uniform(*GROUND_GLASS)
    inner = np.argwhere((depths < max(-8.0, 0.5 * float(depths.min()))) & (depths < 0))
    if not len(inner):
        return np.zeros(canvas.shape, dtype=np.float32)
    row, column = inner[rng.integers(len(inner))]
    centre = (float(canvas.x[row, 0, 0]), float(canvas.y[0, column, 0]), float(canvas.z[0, 0, index]))
    spot = np.maximum(canvas.ellipsoid(centre, (float(radii[0]), float(radii[1]), float(radii[2]))), lung + 1)
    canvas.fill(spot, value)
    return canvas.cover(spot)


def _draw_mediastinum(rng: np.random.Generator, canvas: Canvas, build: Build) -> None:
    """Heart and great vessels full of contrast medium, airways, oesophagus."""
    z, everywhere = canvas.z, np.ones(canvas.shape, dtype=np.float32)
    front, spine = build.front, build.back - 22
    blood, muscle = BLOOD + rng.normal(0, 18), 95.0

    def tube(start: tuple[float, float, float], end: tuple[float, float, float], radius: float, value: float) -> None:
        canvas.fill_tube(np.array(start), np.array(end), radius, value, everywhere)

    heart = canvas.ellipsoid((20, front + 46, -30), (60, 44, 46))
    canvas.fill(heart, muscle)
    canvas.fill(np.maximum(heart + 9, canvas.ellipsoid((42, front + 52, -36), (30, 24, 30))), blood)  # left ventricle
    canvas.fill(np.maximum(heart + 4, canvas.ellipsoid((4, front + 26, -36), (34, 18, 28))), blood - 12)  # right ventricle
    canvas.fill(np.maximum(heart + 3, canvas.ellipsoid((-22, front + 50, -26), (19, 24, 28))), blood - 18)  # right atrium
    canvas.fill(np.maximum(heart + 2, canvas.ellipsoid((10, front + 78, -14), (32, 15, 18))), blood)  # left atrium
    tube((24, spine - 12, -80), (24, spine - 12, 40), 12, blood)  # descending aorta
    tube((-8, front + 42, -12), (-12, front + 38, 36), 15, blood)  # ascending aorta
    tube((-12, front + 38, 42), (22, spine - 14, 42), 13, blood)  # arch
    tube((-30, front + 46, -6), (-28, front + 44, 80), 8.5, blood + 60)  # superior vena cava
    tube((12, front + 26, -12), (18, front + 44, 14), 13, blood + 15)  # pulmonary trunk
    tube((16, front + 48, 12), (-38, front + 66, 8), 9, blood + 15)
    tube((18, front + 48, 14), (42, front + 72, 14), 9, blood + 15)
    canvas.fill(np.maximum(canvas.ellipse((6, spine - 26), (6, 5)), -z - 80), MUSCLE - 10)  # oesophagus
    windpipe = (-1.0, spine - 42, 20.0)
    for value, wall in ((MUSCLE, 2.0), (AIR, 0.0)):
        tube((0, spine - 40, 80), windpipe, 8 + wall, value)
        tube(windpipe, (-36, spine - 36, -2), 5.5 + wall, value)
        tube(windpipe, (40, spine - 34, -6), 5 + wall, value)


def _draw_skeleton(rng: np.random.Generator, canvas: Canvas, build: Build, cavity: Field) -> None:
    vertebra = build.back - 24
    disc = np.abs((canvas.z + rng.uniform(0, 26)) % 26 - 13) - 9.5  # bodies 19 mm high, with discs between them
    body = canvas.ellipse((0, vertebra), (18, 15), 2.4)
    canvas.fill(body, 85.0)
    bone = np.maximum(body, disc)
    canvas.fill(bone, CORTEX).fill(bone + 3.2, SPONGIOSA)
    for side in (-1, 1):
        canvas.fill(canvas.rod((side * 13, vertebra + 14), (side * 34, vertebra + 24), 4), CORTEX - 180)  # transverse process
        canvas.fill(canvas.rod((side * 13, vertebra + 15), (0, vertebra + 34), 3.2), CORTEX - 80)  # lamina
        blade = canvas.rod((side * (build.wide - 70), build.back - 8), (side * (build.wide - 34), 22), 4)
        blade = np.maximum(blade, -4 - canvas.z)
        canvas.fill(blade - 8, MUSCLE).fill(blade, CORTEX - 60).fill(blade + 2.6, SPONGIOSA)
    canvas.fill(canvas.rod((0, vertebra + 34), (0, vertebra + 46), 3), CORTEX - 150)  # spinous process
    canvas.fill(canvas.ellipse((0, vertebra + 22), (9, 8)), 22.0)  # spinal canal
    sternum = canvas.ellipse((0, build.front - 6), (19, 6), 2.5)
    canvas.fill(sternum, CORTEX - 150).fill(sternum + 2.8, SPONGIOSA - 60)

    # Ribs slope down towards the front, so that a slice cuts each of them in a short oblique arc.
    forwards = np.abs(np.arctan2(canvas.x, canvas.y - 4)) / np.float32(np.pi)
    height = np.abs((canvas.z + 150 * forwards + rng.uniform(0, 27)) % 27 - 13.5) - 4.5
    rib = np.maximum(np.maximum(np.abs(cavity - 6.5) - 4.5, height), (forwards - 0.86) * 100)
    canvas.fill(rib, CORTEX).fill(rib + 2.4, SPONGIOSA + 40)


def _draw_table(canvas: Canvas, build: Build) -> None:
    curve = canvas.y - (build.deep + 12) + 0.0011 * canvas.x**2
    top = np.maximum(np.abs(curve) - 3, np.abs(canvas.x) - 165)
    canvas.fill(np.broadcast_to(top, canvas.shape), -640.0)
    canvas.fill(np.broadcast_to(np.maximum(np.abs(np.abs(curve) - 3) - 0.8, np.abs(canvas.x) - 165), canvas.shape), 90.0)


def _scan(rng: np.random.Generator, fine: Field) -> NDArray[np.int16]:
    """Thick slices with the scanner's blur and noise, as whole HU."""
    slices = fine.reshape(*SHAPE, SUBSLICES).mean(axis=-1)
    blurred = gaussian_filter(slices, (0.5, 0.5, 0))
    noise = gaussian_filter(rng.standard_normal(SHAPE).astype(np.float32), (0.7, 0.7, 0))
    # Heavier patients let fewer photons through.
    noise *= np.float32(rng.uniform(*NOISE_HU)) / noise.std()
    return np.clip(np.rint(blurred + noise), -1024, 3071).astype(np.int16)
