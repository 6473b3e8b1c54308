"""Margins and ratios of logits: by hand, and what victims do that have none; what a black box sees of boxes."""

from typing import Any

import numpy as np
import pytest
import torch
from tests.attacks.attack_cases import classifier, segmenter, settings
from torch import Tensor

from medadv.datasets.labels import Boxes, Prediction
from medadv.spec.attack import AttackSettings
from medadv.spec.goal import ClassGoal
from medadv.victims.inputs.normalized import Normalized
from medadv.victims.loading import detector_of
from medadv.victims.sources.registry import build_network
from medadv.victims.sources.retinanet import retinanet
from medadv.victims.tasks.box_scores import lost, standing_of
from medadv.victims.tasks.margins import Aimed, dlr, label_margin, margin, ranked_wrong, targeted_dlr, targeted_margin
from medadv.victims.tasks.segmentation import IGNORE
from medadv_transforms.normalize import Normalize, Window

LOGITS = torch.tensor([[5.0, 1.0, 3.0, 0.0], [1.0, 5.0, 3.0, -1.0]], dtype=torch.float64)
TRUTH = torch.tensor([0, 0])
AIM = Aimed(TRUTH, torch.tensor([1, 2]))


def made(loss: str, **changes: Any) -> AttackSettings:
    return settings("apgd", 4, loss=loss, **changes)


def test_by_hand() -> None:
    assert margin(LOGITS, TRUTH).tolist() == [-2, 4]
    assert targeted_margin(LOGITS, AIM).tolist() == [-4, 2]
    assert dlr(LOGITS, TRUTH).tolist() == pytest.approx([-2 / 4, 4 / 4])
    assert targeted_dlr(LOGITS, AIM).tolist() == pytest.approx([-4 / (5 - 0.5), 2 / (5 - 0)])
    assert label_margin(torch.tensor([[2.0, -1.0]]), torch.tensor([[1.0, 1.0]])).tolist() == [[-2, 1]]
    assert [ranked_wrong(LOGITS, TRUTH, rank).tolist() for rank in range(3)] == [[2, 1], [1, 2], [3, 3]]


@pytest.mark.parametrize("loss", ["dlr", "margin"])
@pytest.mark.parametrize("targeted", [False, True])
def test_gradients(loss: str, targeted: bool) -> None:
    targets = AIM if targeted else TRUTH
    assert torch.autograd.gradcheck(
        lambda x: classifier().deviation(x, targets, made(loss)), (LOGITS.clone().requires_grad_(),), eps=1e-6, atol=1e-7
    )


def test_no_scale_of_the_logits_changes_the_ratio() -> None:
    victim = classifier()
    torch.testing.assert_close(victim.deviation(1e4 * LOGITS, TRUTH, made("dlr")), victim.deviation(LOGITS, TRUTH, made("dlr")))


FEW = [(2, "softmax", TRUTH), (3, "softmax", Aimed(TRUTH, TRUTH + 1)), (4, "sigmoid", None)]


@pytest.mark.parametrize(("classes", "head", "targets"), FEW)
def test_where_there_is_no_ratio_the_margin_is_taken(classes: int, head: str, targets: Any) -> None:
    victim, logits = classifier(classes=classes, head=head), LOGITS[:, :classes]
    targets = torch.tensor([[1, 0, 0, 0], [0, 1, 1, 0]]) if targets is None else targets
    ratio, plain = (victim.deviation(logits, targets, made(loss)) for loss in ("dlr", "margin"))
    assert torch.equal(ratio, plain)
    if head == "sigmoid":
        # Of the first sample the third label is answered falsely by 3; of the second the first by 1.
        assert plain.tolist() == [3, 1]
        assert (victim.wrongness(logits, targets) > 0).all()


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_masks_have_the_mean_margin_of_their_voxels(head: str) -> None:
    victim, generator = segmenter(2, head=head), torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 5, 4, dtype=torch.float64, generator=generator)
    shape = (2, 5, 4) if head == "softmax" else (2, 3, 5, 4)
    truth = torch.randint(0, 3 if head == "softmax" else 2, shape, generator=generator).to(torch.uint8)
    truth[..., 0] = IGNORE
    expected = []
    for sample in range(2):
        values = []
        for place in np.ndindex(*shape[1:]):
            label = int(truth[(sample, *place)])
            if label == IGNORE:
                continue
            if head == "softmax":
                voxel = logits[(sample, slice(None), *place)].tolist()
                values.append(max(value for k, value in enumerate(voxel) if k != label) - voxel[label])
            else:
                values.append((1 - 2 * label) * float(logits[(sample, *place)]))
        expected.append(np.mean(values))
    assert victim.deviation(logits, truth, made("margin")).tolist() == pytest.approx(expected)
    with pytest.raises(ValueError, match="loss=dlr: masks have no ratio"):
        victim.deviation(logits, truth, made("dlr"))


def boxes(*rows: list[float], scores: list[float] | None = None, classes: list[int] | None = None) -> Boxes:
    return Boxes.of(list(rows), classes or [1] * len(rows), scores)


def test_what_is_lost_of_boxes() -> None:
    one, other = [0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 40.0]
    truth = boxes(one, other)
    assert lost(boxes(one, other, scores=[0.75, 0.25]), truth) == 0.5
    # The surest of those that match; of another class or beside it none does.
    assert lost(boxes(one, one, other, scores=[0.5, 0.75, 0.25]), truth) == 0.5
    assert lost(boxes(one, other, scores=[0.5, 0.5], classes=[2, 1]), truth) == 0.75
    assert lost(boxes([0.0, 0.0, 10.0, 4.0], scores=[1.0]), truth) == 1
    assert lost(boxes(scores=[]), truth) == 1
    assert lost(boxes(one, other, scores=[0.75, 0.25]), boxes()) == 0.75
    assert lost(boxes(scores=[]), boxes()) == 0


@pytest.mark.parametrize("x_first", [False, True])
@pytest.mark.parametrize("kind", ["torchvision", "monai"])
def test_a_detector_is_seen_by_its_answers(kind: str, x_first: bool) -> None:
    """Its own boxes as the truth are lost by what they are unsure of; and the truth survives the way into the victim's form and back."""
    torch.manual_seed(0)
    if kind == "monai":
        network = retinanet(2, 1, 2, [[8.0, 12.0]], backbone="resnet10", conv1_t_stride=2).eval()
        network.set_box_selector_parameters(score_thresh=0.0)
        victim = detector_of(Normalized(Window(0, 255), network), 0.3, x_first=x_first)
    else:
        network = build_network("torchvision:fcos_resnet18_fpn_gn", {"num_classes": 2, "size": 64}).eval()
        network.score_thresh = 0.0
        victim = detector_of(Normalized(Normalize([0.5] * 3, [0.25] * 3), network), 0.3, x_first=x_first)
    batch = torch.randint(0, 256, (2, 1 if kind == "monai" else 3, 64, 48), generator=torch.Generator().manual_seed(1)).float()
    answers = [prediction.answer for prediction in victim.predict(batch)]
    assert all(isinstance(answer, Boxes) for answer in answers)
    sizes = [answer.boxes[:, 2:] - answer.boxes[:, :2] for answer in answers]
    keep = [(size > 1).all(1).nonzero()[0][:3] for size in sizes]
    truths = [Boxes(answer.boxes[rows], answer.classes[rows]) for answer, rows in zip(answers, keep, strict=True)]
    targets = victim.targets(truths, torch.device("cpu"))
    for target, truth in zip(targets, truths, strict=True):
        np.testing.assert_array_equal(victim.truth(target).boxes, truth.boxes)
        np.testing.assert_array_equal(victim.truth(target).classes, truth.classes)
    wrongness, score = victim.seen(batch, targets, settings("square", 4))
    assert len(truths[0].boxes) == 3
    expected = [lost(answer, truth) for answer, truth in zip(answers, truths, strict=True)]
    assert wrongness.tolist() == pytest.approx(expected)
    assert (wrongness < 1).all()
    assert not score.any()
    with pytest.raises(ValueError, match="loss=margin: a detector has its own"):
        victim.deviation(victim.forward(batch), targets, made("margin"))


def test_sums_of_volumes_go_slab_by_slab(monkeypatch: pytest.MonkeyPatch) -> None:
    victim, generator = segmenter(3), torch.Generator().manual_seed(0)
    logits = torch.randn(1, 3, 6, 5, 8, dtype=torch.float64, generator=generator)
    truth = torch.randint(0, 3, (1, 6, 5, 8), generator=generator)

    def value_and_slope() -> tuple[Tensor, Tensor]:
        x = logits.clone().requires_grad_()
        value = victim.deviation(x, truth, made("margin"))
        return value.detach(), torch.autograd.grad(value.sum(), x)[0]

    whole = value_and_slope()
    monkeypatch.setattr("medadv.victims.tasks.divergence.SLAB_VALUES", 64)
    torch.testing.assert_close(value_and_slope(), whole)


def test_boxes_seen_for_a_goal() -> None:
    """Towards boxes of another class, towards none, and towards more of them."""
    one, other = [0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 40.0]
    like = torch.zeros(1)
    answer = [Prediction(boxes(one, other, scores=[0.75, 0.25]))]
    wanted = boxes(one, other, classes=[1, 2])
    assert [float(each) for each in standing_of(answer, [wanted], ClassGoal(name=1, index=1), like)] == [0.375, 0]
    assert [float(each) for each in standing_of(answer, [boxes()], "vanish", like)] == [0.25, 0]
    assert [float(each) for each in standing_of([Prediction(boxes(scores=[]))], [boxes()], "vanish", like)] == [1, 0]
    assert [float(each) for each in standing_of(answer, [boxes()], "fabricate", like)] == [0, 1]


def test_a_goal_is_where_margins_lead_too() -> None:
    towards = made("margin", goal={"class": 2})
    assert classifier().deviation(LOGITS, torch.tensor([2, 2]), towards).tolist() == [-2, -2]
    with pytest.raises(ValueError, match="target_classes=2: the goal says where to"):
        made("ce", goal={"class": 2}, target_classes=2)
