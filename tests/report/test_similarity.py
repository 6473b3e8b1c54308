"""SSIM against scikit-image."""

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from medadv.report.similarity import ssim


@pytest.mark.parametrize(
    ("channels", "span", "size", "epsilon"), [(1, 255.0, 64, 8), (3, 255.0, 40, 4), (1, 4095.0, 96, 60)], ids=["grey", "colour", "HU"]
)
def test_it_is_scikit_images(channels: int, span: float, size: int, epsilon: int) -> None:
    """Gaussian windows and covariances over all pixels, as published."""
    generator = np.random.default_rng(0)
    first = generator.integers(0, 200, (channels, size, size)).astype(np.int16)
    second = (first + generator.integers(-epsilon, epsilon + 1, first.shape)).astype(np.int16)
    known = structural_similarity(
        first, second, channel_axis=0, data_range=span, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(first, second, span) == pytest.approx(known, abs=2e-5)
    assert ssim(first, first, span) == pytest.approx(1, abs=1e-6)


def test_small_images_have_smaller_windows() -> None:
    small = np.random.default_rng(0).integers(0, 255, (1, 8, 6)).astype(np.uint8)
    assert ssim(small, small, 255.0) == pytest.approx(1, abs=1e-6)
