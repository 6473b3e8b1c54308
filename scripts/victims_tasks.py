"""How each task is augmented, trained and judged.

A batch is floating point in stored units until `normalise` makes it the network's input, as in the victim that is attacked later. It is
drawn and augmented on the processor, so that the draws are the same wherever the network computes.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.losses import DiceCELoss
from torch import Generator, Tensor, nn
from torch.nn import functional

from medadv_transforms import Normalize, Window
from victims_data import Labelled
from victims_metrics import ap50, auc, constant_box, dice

CT_WINDOW_HU = (-1000.0, 400.0)
MAX_NOISE_LEVELS = 8.0
"""Standard deviation of the noise that photographs are trained with, at most, in grey levels."""
EVALUATION_BATCH = 16


def normalisation(images: Tensor) -> dict[str, list[float]]:
    """The settings a run spec gives as `victim.normalize`: a CT window, or mean and deviation of the levels divided by 255."""
    if images.dtype == torch.int16:
        return {"window": list(CT_WINDOW_HU)}
    levels = images.double() / 255
    mean, deviation = levels.mean((0, 2, 3)), levels.std((0, 2, 3))
    return {"mean": [round(float(m), 3) for m in mean], "std": [round(float(d), 3) for d in deviation]}


def normalise(images: Tensor, settings: Mapping[str, Sequence[float]]) -> Tensor:
    """Stored units to the network's input, by the modules that stand in the attacked victim."""
    return (Window(*settings["window"]) if "window" in settings else Normalize(**settings))(images)


class Graded(nn.Module):
    """A classifier that also answers the severity while it is trained, from the features of its last layer.

    One bit per photograph is little to learn small lesions from; the grades say more about the same photographs.
    forward: inputs to (logits of the classes, logits of the severity).
    """

    def __init__(self, network: nn.Module, answers: int) -> None:
        super().__init__()
        self.network = network
        last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
        self.severity = nn.Linear(last.in_features, answers)
        self.features = torch.empty(0)
        last.register_forward_pre_hook(self._keep)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.network(inputs)
        return logits, self.severity(self.features)

    def _keep(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.features = inputs[0]


def without_mean(network: nn.Module) -> None:
    """Take the mean over space out of the first convolution's filters, so that they see local contrast and no overall brightness.

    The light and the colour of fundus photographs differ more from session to session than lesions differ from their surroundings;
    from a few hundred of them a network would learn the sessions.
    """
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    with torch.no_grad():
        first.weight.sub_(first.weight.mean((2, 3), keepdim=True))


def trainee(network: nn.Module, data: Labelled) -> nn.Module:
    """What is trained: the network, with a head for the severity where that is known."""
    return network if data.severity is None else Graded(network, data.severity.shape[1])


def classification_loss(network: nn.Module, data: Labelled, rows: Tensor, settings: Mapping[str, Any], draw: Generator) -> Tensor:
    """Cross-entropy on photographs flipped, turned by any angle, changed in brightness and colour, and made noisy.

    Without noise the answers to a few hundred photographs hang on single grey levels: noise of 4 levels changes half of them, and what an
    attack then finds says nothing about attacks.
    """
    images = turn(data.images[rows].float(), draw, degrees=180.0, zoom=0.15)
    images = (images * uniform((len(rows), 1, 1, 1), 0.6, 1.5, draw) * uniform((len(rows), 3, 1, 1), 0.8, 1.2, draw)).clamp(max=255)
    images = images + torch.randn(images.shape, generator=draw) * uniform((len(rows), 1, 1, 1), 0.0, MAX_NOISE_LEVELS, draw)
    device = device_of(network)
    logits, severity = network(normalise(images, settings).to(device, memory_format=torch.channels_last))
    loss = functional.cross_entropy(logits.float(), data.labels[rows].to(device), label_smoothing=0.1)
    return loss + functional.binary_cross_entropy_with_logits(severity.float(), data.severity[rows].to(device))


def segmentation_loss(network: nn.Module, data: Labelled, rows: Tensor, settings: Mapping[str, Any], draw: Generator) -> Tensor:
    """Dice and cross-entropy on slices flipped, transposed, turned a little and shifted by some HU."""
    low = settings["window"][0]
    # Air instead of 0 HU comes in from outside when a slice is turned.
    both = torch.cat([data.images[rows].float() - low, data.labels[rows][:, None].float()], 1)
    both = turn(flip_square(both, draw), draw, degrees=15.0, zoom=0.15)
    images = both[:, :1] * uniform((len(rows), 1, 1, 1), 0.95, 1.05, draw) + low + uniform((len(rows), 1, 1, 1), -40.0, 40.0, draw)
    device = device_of(network)
    logits = network(normalise(images, settings).to(device, memory_format=torch.channels_last))
    return DiceCELoss(softmax=True, to_onehot_y=True)(logits.float(), (both[:, 1:] > 0.5).long().to(device))


def detection_loss(network: nn.Module, data: Labelled, rows: Tensor, settings: Mapping[str, Any], draw: Generator) -> Tensor:
    """The detector's own losses on frames mirrored left to right and upside down, brightness changed."""
    images = (data.images[rows].float() * uniform((len(rows), 1, 1, 1), 0.8, 1.25, draw)).clamp(max=255)
    (height, width), device = images.shape[2:], device_of(network)
    inputs, targets = [], []
    for image, row in zip(normalise(images, settings), rows.tolist(), strict=True):
        boxes = data.labels[row].clone()
        across, down = (torch.rand(2, generator=draw) < 0.5).tolist()
        if across:
            image, boxes = image.flip(2), torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)
        if down:
            image, boxes = image.flip(1), torch.stack([boxes[:, 0], height - boxes[:, 3], boxes[:, 2], height - boxes[:, 1]], 1)
        inputs.append(image.to(device))
        targets.append({"boxes": boxes.to(device), "labels": torch.ones(len(boxes), dtype=torch.int64, device=device)})
    return sum(network(inputs, targets).values())


def judge_classification(network: nn.Module, train: Labelled, held_out: Labelled, settings: Mapping[str, Any]) -> dict[str, Any]:
    """AUC beside 0.5, accuracy beside that of the commoner class."""
    scores = torch.cat([network(part).softmax(1)[:, 1].cpu() for part in parts(network, held_out, settings)])
    labels = held_out.labels
    majority = int(train.labels.double().mean() >= 0.5)
    further = {
        "accuracy": float(((scores >= 0.5) == labels).double().mean()),
        "accuracy of the commoner class": float((labels == majority).double().mean()),
    }
    return {"name": "auc", "value": auc(scores, labels), "baseline": 0.5, "images": len(held_out), "further": further}


def judge_segmentation(network: nn.Module, train: Labelled, held_out: Labelled, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Mean Dice beside that of the mean training mask, cut where it fits the training masks best."""
    predicted = torch.cat([network(part).argmax(1).cpu() for part in parts(network, held_out, settings)])
    scores = dice(predicted, held_out.labels)
    share = train.labels.double().mean(0)
    cuts = [(share >= cut / 20).long() for cut in range(1, 11)]
    mean_mask = max(cuts, key=lambda mask: float(dice(mask.expand_as(train.labels), train.labels).mean())).expand_as(held_out.labels)
    further = {"median": float(scores.median()), "lowest": float(scores.min())}
    baseline = float(dice(mean_mask, held_out.labels).mean())
    return {"name": "dice", "value": float(scores.mean()), "baseline": baseline, "images": len(held_out), "further": further}


def judge_detection(network: nn.Module, train: Labelled, held_out: Labelled, settings: Mapping[str, Any]) -> dict[str, Any]:
    """AP at IoU 0.5 beside one box for every image, and beside the detector's answers to other images."""
    found = [answer for part in parts(network, held_out, settings) for answer in network(list(part))]
    answers = [{key: value.cpu() for key, value in answer.items()} for answer in found]
    box = constant_box(train.labels)
    constant = {"boxes": box, "labels": torch.ones(1, dtype=torch.int64), "scores": torch.ones(1)}
    shifted = answers[len(answers) // 2 :] + answers[: len(answers) // 2]
    further = {
        "ap50 on shuffled images": ap50(shifted, held_out.labels),
        "ap50 of all boxes at one score": ap50([{**a, "scores": torch.ones_like(a["scores"])} for a in answers], held_out.labels),
        "boxes per image": sum(len(answer["boxes"]) for answer in answers) / len(answers),
    }
    baseline = ap50([constant] * len(answers), held_out.labels)
    return {"name": "ap50", "value": ap50(answers, held_out.labels), "baseline": baseline, "images": len(held_out), "further": further}


LOSSES = {"classification": classification_loss, "segmentation": segmentation_loss, "detection": detection_loss}
JUDGES = {"classification": judge_classification, "segmentation": judge_segmentation, "detection": judge_detection}


def parts(network: nn.Module, data: Labelled, settings: Mapping[str, Any]) -> list[Tensor]:
    """Normalised inputs of a network, a few images at a time."""
    device = device_of(network)
    return [normalise(images.float(), settings).to(device) for images in data.images.split(EVALUATION_BATCH)]


def device_of(network: nn.Module) -> torch.device:
    """Where a network computes."""
    return next(network.parameters()).device


def uniform(shape: Sequence[int], low: float, high: float, draw: Generator) -> Tensor:
    return torch.rand(shape, generator=draw) * (high - low) + low


def flip_square(images: Tensor, draw: Generator) -> Tensor:
    """Each image mirrored along either axis and transposed at random: readers of one slice disagree about its orientation."""
    turned = []
    for image, (first, last, transpose) in zip(images, (torch.rand((len(images), 3), generator=draw) < 0.5).tolist(), strict=True):
        image = image.flip(1) if first else image
        image = image.flip(2) if last else image
        turned.append(image.transpose(1, 2) if transpose else image)
    return torch.stack(turned)


def turn(images: Tensor, draw: Generator, degrees: float, zoom: float) -> Tensor:
    """Each image mirrored at random, turned by up to `degrees` and scaled by up to `zoom`; zeros come in from outside."""
    count = len(images)
    angle = uniform((count,), -degrees, degrees, draw) * math.pi / 180
    scale = uniform((count,), 1 - zoom, 1 + zoom, draw)
    mirror = torch.where(torch.rand(count, generator=draw) < 0.5, -1.0, 1.0)
    zero = torch.zeros(count)
    rows = [torch.stack([mirror * angle.cos(), -angle.sin(), zero], 1), torch.stack([mirror * angle.sin(), angle.cos(), zero], 1)]
    grid = functional.affine_grid(torch.stack(rows, 1) * scale[:, None, None], list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)
