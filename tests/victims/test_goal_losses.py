"""Goals as losses: targets and direction by hand, nearness beside the stored rules, and attacks that really get there."""

from typing import Any

import numpy as np
import pytest
import torch
from tests.attacks.attack_cases import LEVEL8, classifier, images, labels, segmenter, settings
from torch import Tensor, nn
from torch.nn import functional

from medadv.attacks.engine import perturb
from medadv.datasets.labels import Boxes, Prediction
from medadv.spec.attack import AttackSettings
from medadv.spec.goal import ClassGoal, Goal
from medadv.victims.inputs.normalized import Normalized
from medadv.victims.sources.registry import fcos_resnet18_fpn_gn, retinanet_resnet18_fpn_gn
from medadv.victims.sources.retinanet import retinanet
from medadv.victims.tasks.classification import Classifier
from medadv.victims.tasks.detection import Detector
from medadv.victims.tasks.detection_monai import MonaiDetector
from medadv.victims.tasks.segmentation import IGNORE, Segmenter
from medadv_transforms.normalize import Normalize

CPU = torch.device("cpu")
TWO = ClassGoal(name="two", index=2)
GOALS: list[Goal] = ["vanish", "fabricate", TWO]


def aimed(goal: Goal, **changes: Any) -> AttackSettings:
    return settings("pgd", 6, goal=goal, **changes)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 2


TRUTH = np.array([[0, 1, 2, IGNORE], [1, 0, 0, 0]], np.uint8)
AIMS = {
    "vanish": [[0, 0, 0, IGNORE], [0, 0, 0, 0]],
    "fabricate": [[0, IGNORE, IGNORE, IGNORE], [IGNORE, 0, 0, 0]],
    "two": [[0, 2, 2, IGNORE], [2, 0, 0, 0]],
}


@pytest.mark.parametrize("goal", GOALS, ids=str)
def test_masks_are_driven_to_or_from_what_the_goal_says(goal: Goal) -> None:
    """By hand: the mean cross-entropy with the aim, its sign turned where the goal is an answer and not a flight."""
    outputs = drawn(1, 3, 2, 4)
    victim = Segmenter(nn.Identity(), "softmax", 3, 2)
    aim = torch.tensor([AIMS[goal if isinstance(goal, str) else "two"]])
    targets = victim.targets([TRUTH], CPU, goal)
    assert targets.tolist() == aim.tolist()
    assert targets.dtype == torch.uint8
    loss = functional.cross_entropy(outputs, aim, ignore_index=IGNORE)
    expected = loss if goal == "fabricate" else -loss
    assert victim.deviation(outputs, targets, aimed(goal)).item() == pytest.approx(expected.item(), rel=1e-12)
    assert victim.standing(outputs, targets, aimed(goal, loss="dice_ce"))[1].item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("goal", GOALS, ids=str)
def test_masks_of_several_are_driven_alike(goal: Goal) -> None:
    outputs = drawn(1, 2, 2, 4)
    victim = Segmenter(nn.Identity(), "sigmoid", 2, 2)
    index = torch.tensor(AIMS[goal if isinstance(goal, str) else "two"])
    aim = torch.stack([index == 1, index == 2]).double()
    known = (index != IGNORE).double().expand(2, -1, -1)
    targets = victim.targets([victim.as_label(TRUTH)], CPU, goal)
    assert torch.equal(targets[0], torch.where(known > 0, aim, IGNORE).to(torch.uint8))
    loss = (functional.binary_cross_entropy_with_logits(outputs[0], aim, reduction="none") * known).sum() / known.sum()
    expected = loss if goal == "fabricate" else -loss
    assert victim.deviation(outputs, targets, aimed(goal)).item() == pytest.approx(expected.item(), rel=1e-12)


def test_a_class_is_driven_to_the_one_named() -> None:
    outputs = drawn(4, 3)
    victim = Classifier(nn.Identity(), "softmax", 3)
    targets = victim.targets([np.asarray(0)] * 4, CPU, TWO)
    assert targets.tolist() == [2] * 4
    assert torch.allclose(victim.deviation(outputs, targets, aimed(TWO)), outputs.log_softmax(1)[:, 2])
    near, loss = victim.standing(outputs, targets, aimed(TWO))
    assert near.tolist() == [float(row.argmax() == 2) for row in outputs]
    assert torch.allclose(loss, outputs.log_softmax(1)[:, 2])


@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("goal", GOALS, ids=str)
def test_nearness_is_highest_where_the_stored_rule_is_met(goal: Goal, planes: bool) -> None:
    """Of many answers, all that are at the goal are nearer than all that are not; hand-made ones are counted."""
    victim = Segmenter(nn.Identity(), "sigmoid" if planes else "softmax", 2 if planes else 3, 2)
    truth = victim.as_label(np.repeat(np.repeat(TRUTH, 5, 0), 5, 1))
    rng = np.random.default_rng(0)
    shares = rng.choice([0.0, 0.02, 0.3, 1.0], size=(60, 2))
    answers = []
    for some, second in shares:
        index = (rng.random((10, 20)) < some) * (1 + (rng.random((10, 20)) < second))
        answers.append(np.stack([index == 1, index == 2]) if planes else index)
    codes = torch.from_numpy(np.stack(answers)).long()
    outputs = codes * 2.0 - 1 if planes else functional.one_hot(codes, 3).movedim(-1, 1).double()
    targets = victim.targets([truth] * len(answers), CPU, goal)
    near = victim.nearness(outputs, targets, goal)
    assert ((near >= 0) & (near <= 1)).all()
    clean = Prediction(np.where(np.asarray(truth) == IGNORE, 0, truth))
    reached = np.array([victim.succeeded(clean, answer, truth, goal) for answer in (Prediction(a.astype(np.uint8)) for a in answers)])
    assert 0 < reached.sum() < len(reached)
    if goal != "vanish":
        assert near[torch.from_numpy(reached)].min() > near[torch.from_numpy(~reached)].max()
    else:
        # As the rule counts, but of the image and not of the clean answer.
        foreground = [int(victim.masks.foreground(answer, truth).sum()) for answer in answers]
        assert torch.allclose(near, torch.tensor([1 - count / 200 for count in foreground]))


def test_shares_of_a_hand_made_answer() -> None:
    victim = Segmenter(nn.Identity(), "softmax", 3, 2)
    answer = functional.one_hot(torch.tensor([[[0, 2, 1, 1], [0, 2, 0, 0]]]), 3).movedim(-1, 1).double()
    near = {str(goal): float(victim.nearness(answer, victim.targets([TRUTH], CPU, goal), goal)[0]) for goal in GOALS}
    # Known foreground: two, one and two; of it one voxel is beside the truth, and one of three true ones is two.
    assert near == pytest.approx({"vanish": 1 - 3 / 8, "fabricate": 1 / 8, str(TWO): (1 / 3) / 2})


class Levels(nn.Module):
    """Logits by the first channel's brightness alone: background below 100, class 1 to 150, class 2 above."""

    def forward(self, x: Tensor) -> Tensor:
        level = x[:, :1]
        return torch.cat([torch.zeros_like(level), level - 100, 2 * level - 250], 1) / 10


class Labels(nn.Module):
    """Logits of a label each: it is on where its own channel is brighter than 100."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - 100) / 10


def levels(head: str = "softmax") -> Segmenter:
    network, classes = (Levels(), 3) if head == "softmax" else (Labels(), 2)
    return Segmenter(Normalized(Normalize([0.0] * 2, [1 / 255] * 2), network).double().eval(), head, classes, 2)


def phantom() -> tuple[Tensor, np.ndarray]:
    """A lesion of level 125 in one of two channels, tissue of level 80 or a little less."""
    image = images(1, 2, 24, 24, low=75, high=80)
    truth = np.zeros((24, 24), np.uint8)
    truth[8:16, 6:18] = 1
    image[0, 0, 8:16, 6:18] = 125
    return image, truth


@pytest.mark.parametrize("attack", ["pgd", "smia"])
@pytest.mark.parametrize("goal", GOALS, ids=str)
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_a_phantoms_lesion_vanishes_or_turns_and_tissue_becomes_one(head: str, goal: Goal, attack: str) -> None:
    """Within 30 levels all of it, within 15 none: a lesion is 25 levels from being none or the other, and tissue 20 from being one."""
    victim, (image, truth) = levels(head), phantom()
    label = victim.as_label(truth)
    clean = victim.predict(image)[0]
    assert victim.vulnerable(clean, label, goal)
    for epsilon, reached in ((30, True), (15, False)):
        made = settings(attack, epsilon, step=6, steps=12, goal=goal)
        delta = perturb(victim, image, victim.targets([label], CPU, goal), made, lattice=LEVEL8, seeds=[1])
        after = victim.predict(image + delta)[0]
        assert victim.succeeded(clean, after, label, goal) == reached
        foreground = victim.masks.foreground(after.answer, label)
        if reached and goal == "vanish":
            assert not foreground.any()
        if reached and goal == TWO:
            assert (victim.masks.only(2, after.answer, label) == (truth == 1)).all()
        if reached and goal == "fabricate":
            assert foreground[truth == 0].all()


@pytest.mark.parametrize("goal", GOALS, ids=str)
def test_the_best_iterate_is_at_least_as_near_as_the_last(goal: Goal) -> None:
    victim, batch = segmenter(2), images(6, 1, 12, 12)
    truth = [np.asarray(each, np.uint8) for each in labels(6, 3, 12, 12).numpy()]
    targets = victim.targets(truth, CPU, goal)
    ends = {}
    for keep in ("last", "best"):
        made = aimed(goal, steps=6, keep=keep)
        delta = perturb(victim, batch, targets, made, lattice=LEVEL8, seeds=range(6))
        with torch.no_grad():
            ends[keep] = victim.standing(victim.forward(batch + delta), targets, made)
    (last, last_loss), (best, best_loss) = ends["last"], ends["best"]
    assert ((best > last) | ((best == last) & (best_loss >= last_loss - 1e-12))).all()


def test_what_was_once_the_class_stays_it_where_the_best_is_kept() -> None:
    """Steps of 40 levels overshoot: the last iterate has left the class that an earlier one was."""
    victim, batch = classifier(), images(8, 3, 16, 16)
    goal = ClassGoal(name=1, index=1)
    targets = victim.targets([np.asarray(0)] * 8, CPU, goal)
    seen: list[Tensor] = []
    made = settings("pgd", 40, step=40, steps=5, goal=goal)
    last = perturb(victim, batch, targets, made, lattice=LEVEL8, seeds=range(8), watch=lambda _, delta, *__: seen.append(delta))
    best = perturb(victim, batch, targets, settings("pgd", 40, step=40, steps=5, goal=goal, keep="best"), lattice=LEVEL8, seeds=range(8))

    def there(delta: Tensor) -> Tensor:
        return victim.module(batch + delta).argmax(1) == 1

    with torch.no_grad():
        ever = torch.stack([there(delta) for delta in (*seen, last)]).any(0)
        assert torch.equal(there(best), ever)


def detector(kind: str) -> Detector:
    torch.manual_seed(0)
    normalize = Normalize([0.5] * 3, [0.25] * 3)
    if kind == "monai":
        network = retinanet(2, 3, 2, [[16, 16], [32, 24]], backbone="resnet10", conv1_t_stride=2)
        return MonaiDetector(Normalized(normalize, network).eval(), 3, 0.3, reverse=True)
    if kind == "two stages":
        from tests.victims.test_detection import faster_rcnn

        network = faster_rcnn()
        network.roi_heads.box_predictor.cls_score = nn.Linear(network.roi_heads.box_predictor.cls_score.in_features, 3)
        network.roi_heads.box_predictor.bbox_pred = nn.Linear(network.roi_heads.box_predictor.bbox_pred.in_features, 12)
        return Detector(Normalized(normalize, network).eval(), 3, 0.05)
    build = {"fcos": fcos_resnet18_fpn_gn, "retinanet": retinanet_resnet18_fpn_gn}[kind]
    return Detector(Normalized(normalize, build(num_classes=3, size=64)).eval(), 3, 0.3)


DETECTORS = ["fcos", "retinanet", "two stages", "monai"]
TRUTHS = [Boxes.of([[8, 10, 40, 30], [20, 30, 60, 62]], [1, 2]), Boxes.of([], [])]


@pytest.mark.parametrize("goal", GOALS, ids=str)
@pytest.mark.parametrize("kind", DETECTORS)
def test_boxes_are_driven_to_or_from_what_the_goal_says(kind: str, goal: Goal) -> None:
    """The detector's own losses with relabelled or without any boxes, turned where the goal is an answer; an attack raises it."""
    victim, batch = detector(kind), images(2, 3, 64, 64, dtype=torch.float32)
    aims = [Boxes.of(truth.boxes, [2] * len(truth.boxes)) if goal == TWO else Boxes.of([], []) for truth in TRUTHS]
    targets, made = victim.targets(TRUTHS, CPU, goal), settings("pgd", 4, step=1, steps=3, goal=goal)
    outputs = victim.forward(batch)
    loss = victim.deviation(outputs, victim.targets(aims, CPU), settings("pgd"))
    found = victim.deviation(outputs, targets, made)
    assert torch.equal(found, loss if goal == "fabricate" else -loss)
    delta = perturb(victim, batch, targets, made, lattice=LEVEL8, seeds=[1, 2])
    with torch.no_grad():
        assert (victim.deviation(victim.forward(batch + delta), targets, made) > found).all()


@pytest.mark.parametrize("kind", ["fcos", "two stages"])
def test_boxes_that_vanish_are_answered_with_less_confidence(kind: str) -> None:
    victim, batch = detector(kind), images(1, 3, 64, 64, dtype=torch.float32)
    highest = []
    for goal in ("vanish", "fabricate"):
        made = settings("pgd", 8, step=2, steps=5, goal=goal)
        delta = perturb(victim, batch, victim.targets(TRUTHS[:1], CPU, goal), made, lattice=LEVEL8, seeds=[1])
        answer = victim.predict(batch + delta)[0].answer
        assert isinstance(answer, Boxes)
        assert answer.scores is not None
        highest.append(float(answer.scores.max(initial=0)))
    assert highest[0] < highest[1]


@pytest.mark.parametrize(
    ("victim", "truth", "goal", "message"),
    [
        (classifier(), np.asarray(0), "vanish", "vanish is for masks and boxes"),
        (classifier(head="sigmoid"), np.ones(4, np.uint8), TWO, "answered one by one"),
        (classifier(), np.asarray(0), ClassGoal(name="x", index=4), "class 4, and the network answers 0 to 3"),
        (classifier(), np.asarray(0), ClassGoal(name="x"), "goal.class='x' is a name"),
        (levels(), TRUTH, ClassGoal(name=0, index=0), "0 is the background"),
        (levels(), TRUTH, ClassGoal(name=3, index=3), "answers 1 to 2"),
        (levels("sigmoid"), TRUTH, ClassGoal(name=3, index=3), "answers 1 to 2"),
    ],
)
def test_goals_that_mean_nothing_to_a_victim(victim: Any, truth: np.ndarray, goal: Goal, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        victim.targets([truth], CPU, goal)
