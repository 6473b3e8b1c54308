"""Detectors behind steps that move voxels: what they say of a stored image is what they say of the moved one, brought back."""

from typing import Any

import numpy as np
import pytest
import torch
from tests.victims.test_detection import BUILDERS, SIZE, SMIA, victim_of
from torch import Tensor

from medadv.attacks.engine import perturb
from medadv.common.errors import SpecError
from medadv.datasets.labels import Boxes
from medadv.spec.victim import VictimSettings
from medadv.victims.inputs.normalized import Normalized
from medadv.victims.inputs.pipeline import normalization
from medadv.victims.loading import detector_of
from medadv.victims.tasks.detection import Detector
from medadv_transforms.units import LATTICES

STORED = (48, 32)
"""Rows and columns of the stored pictures; the network sees columns first, 64 by 64, upside down."""
STEPS: list[dict[str, Any]] = [{"scale": [0, 255, -2, 2]}, {"resize": [SIZE, SIZE]}, {"transpose": [1, 0]}, {"flip": [1]}]
TRUTH = Boxes.of([[4, 6, 20, 30]], [1])


def behind(kind: str, *steps: dict[str, Any]) -> Detector:
    """Random weights, which answer nothing unless every score counts."""
    torch.manual_seed(0)
    settings = VictimSettings.model_validate({"network": kind, "normalize": list(steps)})
    network = BUILDERS[kind]()
    if kind == "monai":
        network.set_box_selector_parameters(score_thresh=0.0)
    elif kind != "faster_rcnn":
        network.score_thresh = 0.0
    return detector_of(Normalized(normalization(settings), network).eval(), 0.3, x_first=False)


def moved(boxes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Stored x, y to the network's own picture (rows are stored columns, columns are stored rows from below), x first again."""
    x0, y0, x1, y1 = boxes.T
    fx, fy = SIZE / STORED[1], SIZE / STORED[0]
    return np.stack([SIZE - y1 * fy, x0 * fx, SIZE - y0 * fy, x1 * fx], 1)


def pictures() -> Tensor:
    return torch.randint(0, 256, (1, 3, *STORED), generator=torch.Generator().manual_seed(0)).float()


@pytest.mark.parametrize("kind", BUILDERS)
def test_losses_and_boxes_are_those_of_the_moved_image(kind: str) -> None:
    victim, plain = behind(kind, *STEPS), behind(kind, {"identity": True})
    image = pictures()
    inputs = victim.module.normalize(image)
    targets = victim.targets([TRUTH], torch.device("cpu"))
    loss = victim.deviation(victim.forward(image), targets, SMIA)
    there = plain.targets([Boxes.of(moved(TRUTH.boxes), [1])], torch.device("cpu"))
    torch.testing.assert_close(loss, plain.deviation(plain.forward(inputs), there, SMIA))
    answer, expected = victim.predict(image)[0].answer, plain.predict(inputs)[0].answer
    assert isinstance(answer, Boxes)
    assert isinstance(expected, Boxes)
    assert len(answer.boxes)
    np.testing.assert_allclose(moved(answer.boxes), expected.boxes, atol=1e-3)


@pytest.mark.parametrize("kind", ["retinanet", "faster_rcnn", "monai"])
def test_an_attack_goes_through_the_steps(kind: str) -> None:
    victim = behind(kind, *STEPS)
    targets = victim.targets([TRUTH], torch.device("cpu"))
    found = perturb(victim, pictures(), targets, SMIA, lattice=LATTICES["level8"], seeds=[1])
    assert 0 < found.abs().max() <= 8


def test_without_steps_targets_are_as_before() -> None:
    victim = victim_of("fcos")
    assert victim.steps is None
    (target,) = victim.targets([TRUTH], torch.device("cpu"))
    assert victim.moved(target, STORED) is target


def test_a_crop_that_differs_from_image_to_image_is_refused() -> None:
    """Boxes could not follow it; it ended in a traceback."""
    with pytest.raises(SpecError, match="boxes cannot follow it"):
        behind("fcos", {"scale": [0, 255, -2, 2]}, {"crop": "nonzero"})
