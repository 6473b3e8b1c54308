"""FROC counted by hand, and against MONAI's."""

import numpy as np
import pytest
from monai.metrics.froc import compute_froc_curve_data, compute_froc_score

from medadv.datasets.labels import Array, Boxes
from medadv.scoring.froc import RATES, Alarms, Curve, alarms


def square(x: float, y: float = 0, size: float = 10) -> list[float]:
    return [x, y, x + size, y + size]


def test_what_is_met_is_found_by_the_surest_and_twice_is_not_false() -> None:
    truth = Boxes.of([square(0), square(100)], [1, 1])
    answer = Boxes.of([square(1), square(2), square(300), square(0)], [1, 1, 1, 2], [0.6, 0.9, 0.4, 0.99])
    found = alarms(answer, truth, 1)
    np.testing.assert_allclose(found.found, [0.9, -np.inf], rtol=1e-6)
    np.testing.assert_allclose(found.false, [0.4], rtol=1e-6)
    # Moved by 2 of 10, they share 80 of 120: past IoU 0.7 the surest no longer meets it.
    strict = alarms(answer, truth, 1, iou=0.7)
    np.testing.assert_allclose(strict.found, [0.6, -np.inf], rtol=1e-6)
    np.testing.assert_allclose(strict.false, [0.9, 0.4], rtol=1e-6)


def test_boxes_in_space() -> None:
    truth = Boxes.of([[0, 0, 0, 10, 10, 10]], [1], dims=3)
    answer = Boxes.of([[0, 0, 2, 10, 10, 12], [0, 0, 5, 10, 10, 15]], [1, 1], [0.5, 0.8], dims=3)
    found = alarms(answer, truth, 1)
    assert (found.found.tolist(), found.false.tolist()) == ([0.5], [pytest.approx(0.8)])


def test_images_without_boxes_or_answers() -> None:
    box, none = Boxes.of([square(0)], [1], [0.5]), Boxes.of([], [], [])
    assert alarms(none, Boxes.of([square(0)], [1]), 1).found.tolist() == [-np.inf]
    assert alarms(box, Boxes.of([], []), 1).false.tolist() == [0.5]
    assert np.isnan(Curve.of([alarms(box, Boxes.of([], []), 1)]).sensitivities()).all()


def test_a_curve_by_hand() -> None:
    """Four images, four true boxes. By falling score: hit, false, hit, false, false, hit; one box is never met."""
    each = [
        Alarms(np.array([0.9]), np.array([0.8])),
        Alarms(np.array([0.7, -np.inf]), np.array([0.6, 0.5])),
        Alarms(np.array([0.4]), np.zeros(0)),
        Alarms(np.zeros(0), np.zeros(0)),
    ]
    curve = Curve.of(each)
    # (false per image, sensitivity): (0, 1/4) (1/4, 1/4) (1/4, 2/4) (2/4, 2/4) (3/4, 2/4) (3/4, 3/4)
    assert curve.sensitivities().tolist() == [0.25, 0.5, 0.5, 0.75, 0.75, 0.75, 0.75]
    assert curve.at(0.7) == (0.5, 0.25)
    assert curve.at(0.65) == (0.5, 0.25)
    assert curve.at(0.0) == (0.75, 0.75)
    # An image drawn twice counts twice.
    assert Curve.of([each[0], each[0], each[2], each[3]]).at(0.85) == (pytest.approx(2 / 3), 0)


def test_between_two_points_the_curve_is_straight() -> None:
    """Found at no false alarm, then the next at two per image: at one per image the line is still level, for it rises at two only."""
    curve = Curve.of([Alarms(np.array([0.9, 0.1]), np.array([0.5, 0.4]))])
    assert curve.sensitivities().tolist() == [0.5, 0.5, 0.5, 0.5, 1.0, 1.0, 1.0]
    # One answer says both: a box found and a false alarm at one score; half way there is half of the rise.
    tied = Curve.of([Alarms(np.array([0.5]), np.array([0.5]))])
    assert tied.sensitivities().tolist() == [0.125, 0.25, 0.5, 1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("seed", range(5))
def test_against_monai(seed: int) -> None:
    generator = np.random.default_rng(seed)

    def drawn(count: int) -> Array:
        return generator.integers(1, 60, count) / 64

    each = [Alarms(np.where(generator.random(3) < 0.3, -np.inf, drawn(3)), drawn(6)) for _ in range(10)]
    curve = Curve.of(each)
    # MONAI leaves the lowest score out of its thresholds: it is given one more that nothing else has.
    hits = curve.found[np.isfinite(curve.found)]
    reference = compute_froc_curve_data(np.append(curve.false, 0.0), hits, len(curve.found), 10)
    assert curve.sensitivities().mean() == pytest.approx(compute_froc_score(*reference, eval_thresholds=RATES))
