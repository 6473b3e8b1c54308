"""What is read of masks: by hand for squares and slabs, and what happens where something is empty."""

import json

import numpy as np
import pytest
import torch
from monai.metrics.meandice import compute_dice
from tests.evaluate.cases import mask_case

from medadv.common.record import plain
from medadv.datasets.labels import Array, Prediction
from medadv.evaluate.masks import TOLERANCE_MM, mask_readings
from medadv.evaluate.readings import Case, ClassReadings


def block(rows: slice, columns: slice, value: int = 1, size: int = 20) -> Array:
    mask = np.zeros((size, size), np.uint8)
    mask[rows, columns] = value
    return mask


def of_one_class(*cases: Case, in_mm: bool = True, tolerance: float | None = None) -> ClassReadings:
    (found,) = mask_readings(cases, head="softmax", classes=2, in_mm=in_mm, tolerance=tolerance).classes
    return found


FULL, NOTHING = block(slice(4, 14), slice(4, 14)), block(slice(0), slice(0))
DOWN = block(slice(6, 16), slice(4, 14))
"""Two rows lower: 80 of 100 pixels are shared."""


def test_a_square_that_slides_two_rows() -> None:
    found = of_one_class(mask_case(FULL, FULL, DOWN, spacing=(3.0, 1.0)))
    values = {each.name: (each.clean.value, each.attacked.value, each.difference.value) for each in found.readings}
    assert values["dice"] == pytest.approx((1, 0.8, -0.2))
    assert values["sensitivity"] == pytest.approx((1, 0.8, -0.2))
    assert values["precision"] == pytest.approx((1, 0.8, -0.2))
    assert values["hd95"] == pytest.approx((0, 6, 6))
    assert found.reading("hd95").unit == "mm"
    # Of 36 edge pixels a side, within 2 mm along the row alone: the left and right columns where both have them (8 rows each), and of the
    # rows at the other's inner height the two pixels nearest to a column at either end, which are counted once.
    assert values["surface_dice"][1] == pytest.approx((16 + 4) / 36)
    assert of_one_class(mask_case(FULL, FULL, DOWN, spacing=(3.0, 1.0)), tolerance=6.0).reading("surface_dice").attacked.value == 1


def test_an_answer_twice_as_large() -> None:
    """All of the truth, and as much again beside it: nothing is missed, half of what is said is wrong."""
    found = of_one_class(mask_case(block(slice(0, 5), slice(0, 20)), FULL, block(slice(0, 10), slice(0, 20))))
    assert found.reading("sensitivity").attacked.value == 1
    assert found.reading("precision").attacked.value == 0.5
    assert found.reading("dice").attacked.value == pytest.approx(2 / 3)


def test_a_tolerance_in_mm_or_a_pixel() -> None:
    near = block(slice(5, 15), slice(4, 14))
    in_mm = mask_readings([mask_case(FULL, FULL, near, spacing=(4.0, 4.0))], head="softmax", classes=2, in_mm=True)
    in_pixels = mask_readings([mask_case(FULL, FULL, near, spacing=None)], head="softmax", classes=2, in_mm=False)
    assert (in_mm.tolerance, in_pixels.tolerance) == (TOLERANCE_MM, 1)
    assert in_pixels.classes[0].reading("surface_dice").attacked.value == 1
    assert in_mm.classes[0].reading("surface_dice").attacked.value < 1
    assert (in_pixels.classes[0].reading("hd95").attacked.value, in_pixels.classes[0].reading("hd95").unit) == (1, "px")
    with pytest.raises(ValueError, match="spacing"):
        mask_readings([mask_case(FULL, FULL, near, spacing=None)], head="softmax", classes=2, in_mm=True)


def test_a_lesion_that_vanishes_improves_no_distance_unseen() -> None:
    found = of_one_class(mask_case(FULL, DOWN, DOWN, "a"), mask_case(FULL, DOWN, NOTHING, "b"), mask_case(NOTHING, FULL, NOTHING, "c"))
    distance = found.reading("hd95")
    assert (distance.clean.value, distance.attacked.value, distance.difference.value) == (2, 2, 0)
    assert (distance.over, distance.undefined_clean, distance.undefined_attacked) == (2, 0, 1)
    assert found.reading("dice").attacked.value == pytest.approx(0.4)
    assert found.reading("sensitivity").attacked.value == pytest.approx(0.4)
    assert found.reading("surface_dice").undefined_attacked == 0
    assert found.reading("precision").undefined_attacked == 1


def test_where_the_truth_is_empty_only_inventions_count() -> None:
    found = of_one_class(
        mask_case(NOTHING, NOTHING, FULL, "a"), mask_case(NOTHING, FULL, FULL, "b"), mask_case(NOTHING, NOTHING, NOTHING, "c")
    )
    assert found.held == 0
    assert all(found.reading(name).clean.value is None and found.reading(name).over == 0 for name in ("dice", "hd95", "precision"))
    invented = found.reading("invented")
    assert (invented.clean.value, invented.attacked.value, invented.over) == (pytest.approx(1 / 3), pytest.approx(2 / 3), 3)
    assert of_one_class(mask_case(FULL, FULL, DOWN)).reading("invented").clean.value is None


def test_ignored_voxels_belong_to_nobody() -> None:
    truth = FULL.copy()
    truth[:6] = 255
    found = of_one_class(mask_case(truth, FULL, DOWN))
    assert found.reading("dice").clean.value == 1
    assert found.reading("sensitivity").attacked.value == 1


def test_both_heads_and_volumes_say_the_same() -> None:
    generator = np.random.default_rng(0)
    truth, clean, attacked = (generator.integers(0, 3, (6, 8, 7)).astype(np.uint8) for _ in range(3))
    spacing = (2.5, 0.7, 0.7)
    softmax = mask_readings([mask_case(truth, clean, attacked, spacing=spacing)], head="softmax", classes=3, in_mm=True, names=["a", "b"])
    stacks = [np.stack([mask == 1, mask == 2]).astype(np.uint8) for mask in (truth, clean, attacked)]
    case = Case(stacks[0], Prediction(stacks[1]), Prediction(stacks[2]), "a", spacing)
    sigmoid = mask_readings([case], head="sigmoid", classes=2, in_mm=True, names=["a", "b"])
    assert sigmoid.classes == softmax.classes
    dice = compute_dice(*(torch.from_numpy(stack)[None] for stack in (stacks[2], stacks[0])), include_background=True)[0]
    assert [each.reading("dice").attacked.value for each in softmax.classes] == pytest.approx(dice.tolist())


def test_intervals_are_over_groups() -> None:
    """Four patients with five slices each, alike within a patient: as wide as of four slices."""
    masks = [block(slice(4, 14), slice(4, 14 - k)) for k in (0, 2, 5, 8)]
    alone = of_one_class(*(mask_case(FULL, mask, NOTHING, str(k)) for k, mask in enumerate(masks)))
    many = of_one_class(*(mask_case(FULL, mask, NOTHING, str(k)) for k, mask in enumerate(masks) for _ in range(5)))
    for one, other in zip(alone.readings, many.readings, strict=True):
        assert (one.clean.low, one.clean.high) == (pytest.approx(other.clean.low), pytest.approx(other.clean.high))


def test_a_report_is_json() -> None:
    report = mask_readings([mask_case(FULL, NOTHING, DOWN)], head="softmax", classes=2, in_mm=True, names=["lung"])
    assert json.loads(json.dumps(plain(report)))["classes"][0]["name"] == "lung"
    assert mask_readings([], head="softmax", classes=2, in_mm=False).samples == 0
