"""Divergences and losses of classifiers and segmenters against torch.distributions, MONAI and hand-made cases."""

import numpy as np
import pytest
import torch
from monai.losses.dice import DiceCELoss
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, kl_divergence

from medadv.datasets.labels import Prediction
from medadv.spec.attack import AttackSettings
from medadv.victims.tasks import divergence
from medadv.victims.tasks.classification import Classifier
from medadv.victims.tasks.divergence import bernoulli_kl, hard_cross_entropy, prediction_divergence, softmax_kl
from medadv.victims.tasks.segmentation import IGNORE, Segmenter

CE = AttackSettings(attack="pgd", epsilon=1, step=1)
DICE_CE = AttackSettings(attack="pgd", epsilon=1, step=1, loss="dice_ce")


def logits(*shape: int, seed: int = 0, scale: float = 2.0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * scale


@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 6, 7), (2, 3, 4, 5, 6)])
def test_softmax_divergence_is_the_categorical_one(shape: tuple[int, ...]) -> None:
    p, q = logits(*shape), logits(*shape, seed=1)
    expected = kl_divergence(Categorical(logits=p.movedim(1, -1)), Categorical(logits=q.movedim(1, -1)))
    assert torch.allclose(softmax_kl(p, q), expected, rtol=1e-12, atol=1e-14)
    mean = expected.flatten(1).mean(1) if expected.ndim > 1 else expected
    assert torch.allclose(prediction_divergence(p, q, "softmax", "soft"), mean, rtol=1e-12)


def test_bernoulli_divergence_is_the_distributions() -> None:
    p, q = logits(4, 3, 5), logits(4, 3, 5, seed=1)
    expected = kl_divergence(Bernoulli(logits=p), Bernoulli(logits=q))
    assert torch.allclose(bernoulli_kl(p, q), expected, rtol=1e-10, atol=1e-14)
    assert torch.allclose(prediction_divergence(p, q, "sigmoid", "soft"), expected.flatten(1).mean(1), rtol=1e-10)


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_divergence_is_zero_only_where_both_agree(head: str) -> None:
    p = logits(3, 4, 5)
    assert prediction_divergence(p, p, head, "soft").abs().max() < 1e-15
    assert prediction_divergence(p, logits(3, 4, 5, seed=9), head, "soft").min() > 0


@pytest.mark.parametrize("kl", [softmax_kl, bernoulli_kl])
def test_divergence_stays_finite_for_sure_predictions(kl) -> None:  # type: ignore[no-untyped-def]
    p = torch.tensor([[200.0, -200.0]], dtype=torch.float32).requires_grad_()
    q = torch.tensor([[-200.0, 200.0]], dtype=torch.float32).requires_grad_()
    value = kl(p, q).sum()
    value.backward()
    assert all(torch.isfinite(t).all() for t in (value, p.grad, q.grad))


def test_hard_targets_are_the_smoothed_decision() -> None:
    p, q = logits(4, 5), logits(4, 5, seed=1)
    expected = -q.log_softmax(1)[range(4), p.argmax(1)]
    assert torch.allclose(hard_cross_entropy(p, q, "softmax"), expected)
    decided = torch.where(p > 0, q.sigmoid(), 1 - q.sigmoid())
    assert torch.allclose(hard_cross_entropy(p, q, "sigmoid"), -decided.log())


def segmenter(head: str, classes: int = 3) -> Segmenter:
    return Segmenter(nn.Identity(), head, classes, 2)


def test_dice_ce_is_monais() -> None:
    outputs = logits(2, 3, 8, 9)
    truth = torch.randint(0, 3, (2, 8, 9), generator=torch.Generator().manual_seed(2)).to(torch.uint8)
    monais = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True)
    # MONAI's averages over the batch: one image at a time gives each sample's own.
    expected = torch.stack([monais(outputs[i : i + 1], truth[i : i + 1, None].long()) for i in range(2)])
    assert torch.allclose(segmenter("softmax").deviation(outputs, truth, DICE_CE), expected, rtol=1e-7)


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("chosen", [CE, DICE_CE])
def test_ignored_voxels_have_no_say(head: str, chosen: AttackSettings) -> None:
    outputs = logits(2, 3, 8, 9).requires_grad_()
    shape = (2, 8, 9) if head == "softmax" else (2, 3, 8, 9)
    truth = torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(2)).to(torch.uint8)
    truth[..., :3] = IGNORE
    victim = segmenter(head)
    value = victim.deviation(outputs, truth, chosen)
    (gradient,) = torch.autograd.grad(value.sum(), outputs)
    assert not gradient[..., :3].any()
    assert gradient[..., 3:].any()
    # Cutting the ignored columns away says the same.
    assert torch.allclose(value, victim.deviation(outputs[..., 3:], truth[..., 3:], chosen), rtol=1e-12)


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("fill", [0, IGNORE])
@pytest.mark.parametrize("chosen", [CE, DICE_CE])
def test_empty_and_wholly_ignored_masks_give_finite_gradients(head: str, fill: int, chosen: AttackSettings) -> None:
    outputs = logits(1, 3, 6, 6).requires_grad_()
    truth = torch.full((1, 6, 6) if head == "softmax" else (1, 3, 6, 6), fill, dtype=torch.uint8)
    value = segmenter(head).deviation(outputs, truth, chosen).sum()
    (gradient,) = torch.autograd.grad(value, outputs)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()
    assert bool(gradient.any()) == (fill == 0)


def mask(*rows: str) -> np.ndarray:
    return np.array([[IGNORE if c == "x" else int(c) for c in row] for row in rows], np.uint8)


@pytest.mark.parametrize(
    ("answer", "truth", "expected"),
    [
        (mask("0110", "0000"), mask("0110", "0000"), 1.0),
        (mask("0100", "0000"), mask("0110", "0000"), 2 / 3),
        (mask("0000", "0000"), mask("0110", "0000"), 0.0),
        (mask("0000", "0000"), mask("0000", "0000"), 1.0),
        (mask("0001", "0000"), mask("0000", "0000"), 0.0),
        (mask("0111", "0000"), mask("011x", "0000"), 1.0),
        (mask("0001", "0000"), mask("000x", "0000"), 1.0),
        (mask("0110", "2200"), mask("0110", "2000"), (1 + 2 / 3) / 2),
        (mask("0110", "2200"), mask("0110", "0000"), 1.0),
        (mask("0110", "2200"), mask("xxxx", "xxxx"), 1.0),
    ],
)
def test_dice_of_hand_made_masks(answer: np.ndarray, truth: np.ndarray, expected: float) -> None:
    assert segmenter("softmax").score(Prediction(answer), truth) == pytest.approx(expected)
    sigmoid = segmenter("sigmoid", classes=2)
    masks = np.stack([answer == 1, answer == 2]).astype(np.uint8)
    assert sigmoid.score(Prediction(masks), sigmoid.as_label(truth)) == pytest.approx(expected)


def test_success_of_segmentation_is_a_drop_in_dice() -> None:
    truth = mask("1111111111")
    whole, most, half = (Prediction(mask("1" * n + "0" * (10 - n))) for n in (10, 9, 8))
    victim = segmenter("softmax", classes=2)
    assert not victim.succeeded(whole, most, truth)  # Dice 18/19
    assert victim.succeeded(whole, half, truth)  # Dice 16/18


def test_classifier_scores_and_success() -> None:
    softmax, sigmoid = Classifier(nn.Identity(), "softmax", 3), Classifier(nn.Identity(), "sigmoid", 3)
    values = torch.tensor([[2.0, 0.0, -1.0], [0.0, 3.0, 0.0]])
    first, second = softmax.predict(values)
    assert (int(first.answer), int(second.answer)) == (0, 1)
    assert softmax.score(first, np.asarray(1)) == pytest.approx(float(values[0].softmax(0)[1]))
    assert softmax.succeeded(first, second, np.asarray(0))
    one, two = sigmoid.predict(values)
    assert one.answer.tolist() == [1, 1, 0]  # a probability of exactly one half counts as on
    truth = sigmoid.as_label([1, 0, 1])
    p = values[0].double().sigmoid()
    assert sigmoid.score(one, truth) == pytest.approx(float((p[0] + 1 - p[1] + p[2]) / 3))
    assert sigmoid.succeeded(one, two, truth)
    targets = sigmoid.targets([truth, truth], torch.device("cpu"))
    expected = nn.functional.binary_cross_entropy(values.double().sigmoid(), targets.double(), reduction="none").mean(1)
    assert torch.allclose(sigmoid.deviation(values.double(), targets, CE), expected)


@pytest.mark.parametrize(
    ("victim", "raw", "message"),
    [
        (Classifier(nn.Identity(), "softmax", 3), 3, "not one of the network's 3 classes"),
        (Classifier(nn.Identity(), "softmax", 3), -1, "not one of the network's 3 classes"),
        (Classifier(nn.Identity(), "sigmoid", 3), [1, 0], "needs 3 values"),
        (Classifier(nn.Identity(), "sigmoid", 2), [1, 2], "0 or 1"),
        (segmenter("softmax", 2), mask("012"), "use label_map"),
        (segmenter("sigmoid", 2), mask("013"), "use label_map"),
        (segmenter("sigmoid", 2), np.zeros((3, 4, 4), np.uint8), "3 masks for the network's 2"),
    ],
)
def test_labels_that_do_not_fit_are_refused(victim, raw, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        victim.as_label(raw)


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("chosen", [CE, DICE_CE])
def test_large_volumes_go_in_slabs_and_give_the_same(head: str, chosen: AttackSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs, other = logits(2, 3, 5, 6, 7).requires_grad_(), logits(2, 3, 5, 6, 7, seed=1).requires_grad_()
    truth = torch.randint(0, 3, (2, 5, 6, 7), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    truth = truth if head == "softmax" else torch.stack([truth == 0, truth == 1, truth == 2], 1).to(torch.uint8)
    truth[..., 0, 0] = IGNORE
    victim = Segmenter(nn.Identity(), head, 3, 3)

    def gradients() -> tuple[Tensor, ...]:
        value = victim.deviation(outputs, truth, chosen) - victim.divergence(other, outputs, chosen)
        return value, *torch.autograd.grad(value.sum(), (outputs, other))

    whole = gradients()
    monkeypatch.setattr(divergence, "SLAB_VALUES", 300)
    assert all(torch.allclose(a, b, rtol=1e-12, atol=1e-15) for a, b in zip(whole, gradients(), strict=True))
