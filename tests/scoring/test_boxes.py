"""Average precision and matching on boxes whose figures can be worked out by hand."""

import numpy as np
import pytest

from medadv.datasets.labels import Boxes
from medadv.scoring.boxes import AveragePrecision, confident, counts, false_confidence, found, image_score

A, B, C = (0, 0, 10, 10), (20, 20, 40, 40), (50, 0, 60, 30)


def truth(*boxes: tuple[int, ...], classes: list[int] | None = None) -> Boxes:
    return Boxes.of(boxes, classes or [1] * len(boxes))


def answer(*pairs: tuple[tuple[int, ...], float], classes: list[int] | None = None) -> Boxes:
    return Boxes.of([box for box, _ in pairs], classes or [1] * len(pairs), [score for _, score in pairs])


def ap(pairs: list[tuple[Boxes, Boxes]], classes: tuple[int, ...] = (1,)) -> dict[str, float]:
    counter = AveragePrecision(classes)
    for prediction, label in pairs:
        counter.add(prediction, label)
    return counter.result()


def test_false_confidence_is_what_average_precision_over_images_suffers_from() -> None:
    quiet, loud = answer((B, 0.1)), answer((B, 0.9), (C, 0.3))
    assert image_score(quiet, truth(A)) == image_score(loud, truth(A)) == 0
    assert (false_confidence(quiet, truth(A)), false_confidence(loud, truth(A))) == pytest.approx((0.1, 1.2))
    # Neither finds A; beside an image whose box is found with 0.5 the louder one costs more.
    right = (answer((A, 0.5)), truth(A))
    assert ap([right, (quiet, truth(A))])["ap50"] > ap([right, (loud, truth(A))])["ap50"]
    assert false_confidence(answer((A, 0.9), (A, 0.4)), truth(A)) == 0
    assert false_confidence(answer((A, 0.9), classes=[2]), truth(A)) == pytest.approx(0.9)


def test_perfect_answers_score_one() -> None:
    result = ap([(answer((A, 0.9)), truth(A)), (answer((B, 0.8), (C, 0.7)), truth(B, C))])
    assert result == {"ap50": pytest.approx(1), "ap": pytest.approx(1)}


def test_one_of_two_boxes_found_is_half() -> None:
    # COCO samples precision at 101 recalls: 51 of them (0 to 0.5) have precision 1.
    assert ap([(answer((A, 0.9)), truth(A, B))])["ap50"] == pytest.approx(51 / 101)


def test_a_surer_false_box_halves_the_precision() -> None:
    assert ap([(answer((B, 0.9), (A, 0.8)), truth(A))])["ap50"] == pytest.approx(0.5)
    assert ap([(answer((B, 0.7), (A, 0.8)), truth(A))])["ap50"] == pytest.approx(1.0)


def test_averaging_over_overlaps() -> None:
    # Overlap 8/10 = 0.8: found at the seven thresholds 0.5 to 0.8, missed at the three above.
    result = ap([(answer(((0, 0, 10, 8), 0.9)), truth(A))])
    assert result["ap50"] == pytest.approx(1)
    assert result["ap"] == pytest.approx(0.7)


def test_classes_are_averaged() -> None:
    label = truth(A, B, classes=[1, 2])
    assert ap([(answer((A, 0.9), classes=[1]), label)], (1, 2))["ap50"] == pytest.approx(0.5)
    assert ap([(answer((A, 0.9), (B, 0.9), classes=[2, 1]), label)], (1, 2))["ap50"] == 0
    # A class without truths does not count, an answer of an unknown class neither.
    assert ap([(answer((A, 0.9), (C, 0.9), classes=[1, 7]), truth(A))], (1, 3))["ap50"] == pytest.approx(1)


def test_nothing_at_all_is_zero() -> None:
    assert ap([]) == {"ap50": 0.0, "ap": 0.0}
    assert ap([(answer(), truth(A))]) == {"ap50": 0.0, "ap": 0.0}
    assert ap([(answer((A, 0.9)), truth())]) == {"ap50": 0.0, "ap": 0.0}


def test_constant_boxes_with_equal_scores_gain_nothing_from_the_order() -> None:
    """A detector that answers the same everywhere: right images first would look like perfect precision at the start."""
    generator = np.random.default_rng(0)
    # Right on 30 of 120 images; the truths differ a little, as images do.
    shifted = [tuple(np.add(B, offset)) for offset in generator.integers(100, 900, 90)]
    pairs = [(answer((A, 0.5)), truth((0, 0, 10, 9 + i / 100))) for i in range(30)] + [(answer((A, 0.5)), truth(box)) for box in shifted]
    values = [ap([pairs[i] for i in generator.permutation(len(pairs))])["ap50"] for _ in range(5)]
    assert len({round(value, 12) for value in [*values, ap(pairs)["ap50"], ap(pairs[::-1])["ap50"]]}) == 1
    # Precision a quarter up to recall a quarter is expected; all right ones first would give a quarter.
    assert values[0] < 0.15


def test_image_score() -> None:
    assert image_score(answer((A, 0.9)), truth(A)) == pytest.approx(1)
    assert image_score(answer(), truth(A)) == 0
    assert image_score(answer(), truth()) == 1
    assert image_score(answer((A, 0.3), (B, 0.6)), truth()) == pytest.approx(0.4)


def test_matching_needs_class_and_overlap() -> None:
    label = truth(A, B, classes=[1, 2])
    assert found(answer((A, 0.9), (B, 0.9), classes=[1, 1]), label).tolist() == [True, False]
    # Overlap exactly one half counts.
    assert found(answer(((0, 0, 10, 5), 0.9)), truth(A)).tolist() == [True]
    assert found(answer(((0, 0, 10, 4.99), 0.9)), truth(A)).tolist() == [False]  # type: ignore[arg-type]
    assert found(answer(), label).tolist() == [False, False]
    assert found(answer((A, 0.9)), truth()).tolist() == []


def test_counts_of_missed_and_invented() -> None:
    predictions = [answer((A, 0.9), (C, 0.9), (B, 0.2)), answer((C, 0.6))]
    assert counts(predictions, [truth(A, B), truth()], 0.5) == (0.5, 1.0)
    assert counts(predictions, [truth(A, B), truth()], 0.1) == (0.0, 1.0)


def test_threshold_is_inclusive() -> None:
    assert len(confident(answer((A, 0.5), (B, 0.49)), 0.5).boxes) == 1
