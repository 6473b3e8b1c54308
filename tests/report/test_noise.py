"""The scanner's noise, of phantoms whose noise is known."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, uniform_filter

from medadv.report.noise import MOST_AT_BOUND, WINDOW, commonest, sample_noise

SIDE = 256
BOUND = -1024


def phantom(sigma: float, *, air: float = -1000.0, seed: int = 0, smooth: float = 0.0, organs: bool = True) -> np.ndarray:
    """A body of soft tissue in air, with fat, lungs, bone, vessels and organs, and Gaussian noise of `sigma` HU on all of it."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2

    def ellipse(cx: float, cy: float, a: float, b: float) -> np.ndarray:
        return ((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 < 1

    image = np.full((SIDE, SIDE), air)
    image[ellipse(0, 0, 112, 92)] = -100
    image[ellipse(0, 0, 102, 82)] = 45
    if organs:
        image[ellipse(-45, -8, 30, 42)] = -860
        image[ellipse(45, -8, 30, 42)] = -860
        image[ellipse(0, 60, 14, 14)] = 350
        image[ellipse(0, 20, 18, 18)] = 110
        for _ in range(60):
            cx, cy = generator.uniform(-80, 80, 2)
            image[ellipse(cx, cy, 2, 2)] = generator.choice([20, 90, 180, -60])
        # Fat between the fibres of the muscle, of which little is flat: most windows whose mean is that of soft tissue cross some.
        fibres = ((x + y).astype(int) % 12 < 4) & ~ellipse(0, 45, 46, 18)
        image[fibres & (image == 45)] = -100
    noise = generator.normal(0, 1, image.shape)
    noise = gaussian_filter(noise, smooth) if smooth else noise
    return np.clip(np.rint(image + sigma * noise / noise.std()), BOUND, 3071).astype(np.int16)


@pytest.mark.parametrize("sigma", [5.0, 12.0, 25.0, 40.0])
def test_noise_of_soft_tissue_is_what_was_put_in(sigma: float) -> None:
    """Between vessels, organs, bone and fat; whole numbers add a twelfth to the variance."""
    assert sample_noise([phantom(sigma)]).tissue == pytest.approx(np.sqrt(sigma**2 + 1 / 12), rel=0.06)


def test_structures_do_not_matter() -> None:
    """With and without them it is the same, although most windows of soft tissue cross some."""
    full, plain = phantom(12.0), phantom(12.0, organs=False)
    first, second = (sample_noise([plane]).tissue for plane in (full, plain))
    assert first == pytest.approx(second, rel=0.05)
    mean, square = (uniform_filter(v, WINDOW) for v in (full.astype(float), full.astype(float) ** 2))
    crossed = np.sqrt(square - mean**2)[(mean > -30) & (mean < 130)]
    assert np.median(crossed) > 2 * 12


def test_slices_of_a_volume_are_taken_together() -> None:
    alone = sample_noise([phantom(15.0)]).tissue
    assert sample_noise([phantom(15.0, seed=seed) for seed in range(3)]).tissue == pytest.approx(alone, rel=0.03)


def test_noise_that_is_smooth_is_seen_as_far_as_it_varies_within_a_window() -> None:
    found = sample_noise([phantom(20.0, smooth=1.0)]).tissue
    assert 0.6 * 20 < found < 1.02 * 20


def test_air_is_told_only_where_nothing_was_cut_off() -> None:
    """At -1000 with 20 HU an eighth of the air lies below the bound of -1024: its deviation is too small, and not told."""
    cut = sample_noise([phantom(20.0)])
    assert cut.air is None
    assert cut.at_bound == pytest.approx(0.12, abs=0.02)
    assert cut.tissue == pytest.approx(20, rel=0.06)
    free = sample_noise([phantom(6.0, air=-990.0)])
    assert free.at_bound < MOST_AT_BOUND
    assert free.air == pytest.approx(6, rel=0.06)


def test_a_bound_other_than_the_lattices_is_one_too() -> None:
    """Some tools cut at -1000; then half of the air lies there."""
    found = sample_noise([np.maximum(phantom(10.0), -1000)])
    assert found.air is None
    assert found.at_bound == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("plane", [np.full((64, 64), 40, np.int16), np.full((64, 64), -700, np.int16), np.zeros((4, 4), np.int16)])
def test_what_no_scanner_made_has_no_noise(plane: np.ndarray) -> None:
    found = sample_noise([plane])
    assert (found.tissue, found.air) == (None, None)


def test_the_commonest_value_is_not_the_mean() -> None:
    values = np.concatenate([np.random.default_rng(0).normal(10, 0.5, 3000), np.linspace(10, 90, 3000)])
    assert commonest([values]) == pytest.approx(10, rel=0.05)
    assert commonest([values[:20]]) is None
