"""The lattice, and where a photograph's pixels, boxes and masks go."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medadv_transforms import LATTICES, REASONS, InputError, Placement, to_lattice
from medadv_transforms.errors import REASONS_AND_ADVICE


def test_rounding_is_half_to_even_and_clipping_is_counted() -> None:
    values, clipped = to_lattice(np.array([-1024.5, -1025.0, 0.5, 1.5, -0.5, 3071.4, 3071.6, 9999.0]), "hu")
    assert values.tolist() == [-1024, -1024, 0, 2, 0, 3071, 3071, 3071]
    assert values.dtype == np.int16
    assert clipped == 3


def test_levels() -> None:
    values, clipped = to_lattice(np.array([-1, 0, 255, 256]), "level8")
    assert (values.tolist(), values.dtype, clipped) == ([0, 0, 255, 255], np.uint8, 2)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(bad: float) -> None:
    with pytest.raises(InputError, match="not-finite"):
        to_lattice(np.array([0.0, bad]), "hu")


@given(arrays(np.float64, 20, elements=st.floats(-1e6, 1e6)), st.sampled_from(sorted(LATTICES)))
def test_the_lattice_is_a_fixed_point(values: np.ndarray, unit: str) -> None:
    once, _ = to_lattice(values, unit)
    twice, clipped = to_lattice(once, unit)
    assert np.array_equal(once, twice)
    assert clipped == 0
    assert once.min() >= LATTICES[unit].low
    assert once.max() <= LATTICES[unit].high


def test_every_reason_is_explained_and_answered() -> None:
    assert list(REASONS) == list(REASONS_AND_ADVICE)
    for code, reason in REASONS_AND_ADVICE.items():
        assert code == code.lower()
        assert " " not in code
        assert reason.meaning.endswith(".")
        assert reason.advice.endswith(".")


def test_importing_the_package_is_cheap() -> None:
    script = "import sys, medadv_transforms; print([m for m in ('torch', 'monai', 'pydicom', 'PIL', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_every_public_name_exists() -> None:
    import medadv_transforms

    assert set(medadv_transforms._HOMES) == set(medadv_transforms.__all__)
    for name in medadv_transforms.__all__:
        assert getattr(medadv_transforms, name).__name__ if callable(getattr(medadv_transforms, name)) else True


sizes = st.tuples(st.integers(4, 60), st.integers(4, 60))


@st.composite
def placements(draw: st.DrawFn) -> Placement:
    height, width = draw(sizes)
    top, left = draw(st.integers(0, height - 2)), draw(st.integers(0, width - 2))
    crop = (top, left, draw(st.integers(1, height - top)), draw(st.integers(1, width - left)))
    return Placement.fitted((height, width), crop, draw(st.none() | sizes), draw(st.sampled_from(["stretch", "pad"])))


@given(placements())
def test_boxes_come_back(placement: Placement) -> None:
    top, left, height, width = placement.crop
    boxes = np.array([[left, top, left + width, top + height], [left, top, left + width / 2, top + height / 3]])
    stored, kept = placement.boxes(boxes)
    assert kept.tolist() == [0, 1]
    content = np.argwhere(placement.content())
    assert stored[0].tolist() == [*content.min(0)[::-1], *(content.max(0) + 1)[::-1]]
    np.testing.assert_allclose(placement.to_source_boxes(stored), boxes, atol=1e-3)


@given(placements())
def test_a_record_can_be_read_back(placement: Placement) -> None:
    assert Placement.from_dict(placement.as_dict()) == placement


def test_stretched_boxes_are_monais() -> None:
    from monai.apps.detection.transforms.box_ops import resize_boxes

    boxes = np.array([[3.0, 5, 40, 30], [0, 0, 77, 51], [10.5, 20.25, 11, 22]], np.float32)
    stored, _ = Placement.fitted((51, 77), (0, 0, 51, 77), (128, 96), "stretch").boxes(boxes)
    np.testing.assert_allclose(stored, resize_boxes(boxes, src_spatial_size=(77, 51), dst_spatial_size=(96, 128)), atol=1e-4)


def test_boxes_are_clipped_and_dropped() -> None:
    placement = Placement.fitted((100, 100), (20, 10, 50, 50), (100, 200), "pad")
    assert placement.pad == (0, 50)
    boxes, kept = placement.boxes(np.array([[0, 0, 30, 40], [70, 20, 90, 40], [60, 20, 90, 40], [20, 30, 30, 40]]))
    # The second lies right of the crop, the third touches its edge from outside.
    assert kept.tolist() == [0, 3]
    assert boxes.tolist() == [[50, 0, 90, 40], [70, 20, 90, 40]]


def test_a_mask_follows_the_boxes_exactly() -> None:
    """A rectangle scaled by a whole number is the rectangle that its box says."""
    mask = np.zeros((20, 30), np.uint8)
    mask[5:11, 8:20] = 3
    placement = Placement.fitted((20, 30), (2, 4, 16, 24), (48, 100), "pad")
    stored = placement.mask(mask)
    ((x0, y0, x1, y1),) = placement.boxes(np.array([[8, 5, 20, 11]]))[0].astype(int)
    expected = np.zeros((48, 100), np.uint8)
    expected[y0:y1, x0:x1] = 3
    np.testing.assert_array_equal(stored, expected)
    with pytest.raises(InputError, match="size-differs"):
        placement.mask(mask.T)


@pytest.mark.parametrize("size", [(7, 9), (31, 20), (10, 15), (80, 61)])
def test_nearest_is_torchs_exact_nearest(size: tuple[int, int]) -> None:
    import torch

    mask = np.arange(20 * 30, dtype=np.float32).reshape(20, 30)
    expected = torch.nn.functional.interpolate(torch.from_numpy(mask)[None, None], size, mode="nearest-exact")[0, 0]
    np.testing.assert_array_equal(Placement.fitted((20, 30), (0, 0, 20, 30), size, "stretch").mask(mask), expected)


def test_identity() -> None:
    placement = Placement.fitted((5, 7), (0, 0, 5, 7), None, "pad")
    mask = np.arange(35).reshape(5, 7)
    np.testing.assert_array_equal(placement.mask(mask), mask)
    assert not placement.padded
    assert placement.content().all()
