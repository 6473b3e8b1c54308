"""HD95 and surface Dice in mm where geometry tells them, with voxels that are longer one way than the other."""

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, distance_transform_edt

from medadv.datasets.labels import Array
from medadv.scoring.surfaces import surface_figures


def cube(*corner: int, size: int = 6, shape: tuple[int, ...] = (24, 24, 24)) -> Array:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(start, start + size) for start in corner)] = True
    return mask


def surface(mask: Array) -> Array:
    return mask ^ binary_erosion(mask)


def by_scipy(answer: Array, truth: Array, spacing: tuple[float, ...], tolerance: float) -> tuple[float, float]:
    """From distance maps of the surfaces."""
    distances = [distance_transform_edt(~surface(a), sampling=spacing)[surface(b)] for a, b in ((answer, truth), (truth, answer))]
    hd95 = max(np.percentile(each, 95) for each in distances)
    return hd95, float((np.concatenate(distances) <= tolerance).mean())


@pytest.mark.parametrize(("axis", "length"), [(0, 5.0), (1, 0.5), (2, 2.0)])
def test_a_plate_that_is_moved_is_so_many_mm_away(axis: int, length: float) -> None:
    """A plate of one voxel, moved by three along its normal: every point lies three spacings of that axis from the other."""
    spacing = (5.0, 0.5, 2.0)
    truth, answer = np.zeros((12, 12, 12), bool), np.zeros((12, 12, 12), bool)
    truth[(slice(None),) * axis + (3,)] = True
    answer[(slice(None),) * axis + (6,)] = True
    assert surface_figures(answer, truth, spacing, 3 * length)[1] == 1
    distance, dice = surface_figures(answer, truth, spacing, 3 * length - 0.01)
    assert distance == pytest.approx(3 * length)
    assert dice == 0


def test_concentric_spheres_lie_the_difference_of_their_radii_apart() -> None:
    grid = np.stack(np.mgrid[:60, :60, :30]).astype(float)
    radius = np.sqrt((((grid - np.array([30, 30, 15]).reshape(3, 1, 1, 1)) * np.array([1, 1, 2]).reshape(3, 1, 1, 1)) ** 2).sum(0))
    distance, dice = surface_figures(radius <= 24, radius <= 16, (1.0, 1.0, 2.0), 6.0)
    assert distance == pytest.approx(8, abs=1)
    assert dice == 0
    assert surface_figures(radius <= 24, radius <= 16, (1.0, 1.0, 2.0), 10.0)[1] == 1


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 0.7, 0.7)])
def test_moved_cubes_by_another_way(spacing: tuple[float, ...]) -> None:
    answer, truth = cube(4, 5, 6), cube(6, 6, 8, size=7)
    assert surface_figures(answer, truth, spacing, 2.0) == pytest.approx(by_scipy(answer, truth, spacing, 2.0), abs=1e-5)


def test_pictures_have_two_axes() -> None:
    answer, truth = cube(2, 3, shape=(16, 16)), cube(2, 5, shape=(16, 16))
    assert surface_figures(answer, truth, (1.0, 4.0), 1.0) == pytest.approx(by_scipy(answer, truth, (1.0, 4.0), 1.0), abs=1e-5)


def test_equal_masks_and_empty_ones() -> None:
    mask, nothing = cube(4, 4, 4), np.zeros((24, 24, 24), bool)
    assert surface_figures(mask, mask, (1.0, 1.0, 1.0), 0.0) == (0, 1)
    for answer, truth, dice in ((nothing, mask, 0.0), (mask, nothing, 0.0), (nothing, nothing, np.nan)):
        distance, found = surface_figures(answer, truth, (1.0, 1.0, 1.0), 2.0)
        assert np.isnan(distance)
        assert found == dice or (np.isnan(found) and np.isnan(dice))
