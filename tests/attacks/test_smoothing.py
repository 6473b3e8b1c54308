"""The Gaussian against scipy.ndimage."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from tests.attacks.attack_cases import images

from medadv.attacks.smoothing import axis_kernels, gaussian_weights, smooth


@pytest.mark.parametrize("shape", [(2, 1, 17, 12), (2, 3, 12, 17), (1, 1, 9, 11, 8), (2, 3, 8, 9, 10)])
@pytest.mark.parametrize(("sigma", "size"), [(1.0, 3), (0.6, 5), (2.0, 13)])
def test_equals_scipy_in_voxels(shape: tuple[int, ...], sigma: float, size: int) -> None:
    x = images(*shape)
    axes = len(shape) - 2
    found = smooth(x, axis_kernels(sigma, size, None, axes))
    # truncate counts sigmas; "mirror" is the reflection that does not repeat the edge voxel.
    expected = ndimage.gaussian_filter(x.numpy(), (0, 0, *[sigma] * axes), mode="mirror", truncate=(size // 2) / sigma)
    assert np.allclose(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("channels", [1, 3])
def test_equals_scipy_in_millimetres(channels: int) -> None:
    """Anisotropic voxels: the same width in mm is another number of voxels along each axis."""
    spacing, sigma = (0.7, 0.7, 2.5), 2.0
    x = images(1, channels, 20, 21, 9)
    kernels = axis_kernels(sigma, 13, spacing, 3)
    assert [kernel.numel() for kernel in kernels] == [13, 13, 5]
    expected = x.numpy()
    for axis, mm in enumerate(spacing):
        half = kernels[axis].numel() // 2
        expected = ndimage.gaussian_filter1d(expected, sigma / mm, axis=2 + axis, mode="mirror", radius=half)
    assert np.allclose(smooth(x, kernels), expected, rtol=0, atol=1e-10)


def test_isotropic_millimetres_are_voxels() -> None:
    for in_mm, in_voxels in zip(axis_kernels(3.0, 7, (1.5, 1.5, 1.5), 3), axis_kernels(2.0, 7, None, 3), strict=True):
        assert torch.equal(in_mm, in_voxels)


def test_kernel_is_centred_and_normalised() -> None:
    kernel = gaussian_weights(1.7, 9)
    assert torch.equal(kernel, kernel.flip(0))
    assert kernel.argmax() == 4
    assert abs(float(kernel.sum()) - 1) < 1e-15


def test_constants_stay_constant_and_channels_apart() -> None:
    x = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    x[:, 1] = 5
    assert torch.allclose(smooth(x, axis_kernels(1.0, 5, None, 2)), x, rtol=0, atol=1e-14)


def test_axis_of_one_voxel_is_left_alone() -> None:
    x = images(1, 1, 8, 8, 1)
    flat = smooth(x[..., 0], axis_kernels(1.0, 3, None, 2))
    assert torch.equal(smooth(x, axis_kernels(1.0, 3, None, 3))[..., 0], flat)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: smooth(images(1, 1, 3, 8), axis_kernels(1.0, 7, None, 2)), "does not fit an axis of 3"),
        (lambda: axis_kernels(1.0, 3, (1.0, 1.0), 3), "2 entries for 3 axes"),
    ],
)
def test_refusals(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        call()
