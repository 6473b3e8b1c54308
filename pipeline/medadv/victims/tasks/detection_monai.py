"""MONAI's RetinaNetDetector (2D and 3D) as a victim.

It differs from torchvision's detectors in three ways that this file hides: classes count from 0, boxes follow the tensor's own axis order,
and images are padded, not resized.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.apps.detection.utils.anchor_utils import AnchorGenerator
from monai.apps.detection.utils.detector_utils import preprocess_images
from torch import Tensor, nn

from medadv.attacks.untouched import untouched
from medadv.common.hashing import seed_of
from medadv.datasets.labels import Boxes, Label, Prediction
from medadv.spec.attack import OF_MASKS, AttackSettings
from medadv.spec.goal import Goal
from medadv.victims.inputs.around import networks
from medadv.victims.inputs.sliding_maps import SlidingMaps
from medadv.victims.tasks.aims import directed
from medadv.victims.tasks.detection import Dense, Detector
from medadv.victims.tasks.margins import refuse_losses


def by_anchor(maps: Sequence[Tensor], each: int) -> Tensor:
    """Maps (n, each * values, *spatial) of all levels to (n, anchors, values), with `each` anchors in a place."""
    # The detector's own way waits for the device, level by level, to hear whether all of it is finite.
    return torch.cat([level.unflatten(1, (each, -1)).movedim((1, 2), (-2, -1)).flatten(1, -2) for level in maps], 1)


def anchors_of(generator: AnchorGenerator, batch: Tensor, maps: Sequence[Tensor]) -> Tensor:
    """Anchors of every level, (anchors, 2 * spatial_dims), for a padded batch and the maps that the network answers it with."""
    grids = [list(level.shape[2:]) for level in maps]
    # Called as a whole the generator copies each stride to the device, and the detector's `generate_anchors` leaves the anchors behind.
    strides = [[length // cells for length, cells in zip(batch.shape[2:], grid, strict=True)] for grid in grids]
    generator.set_cell_anchors(maps[0].dtype, maps[0].device)
    return torch.cat(generator.grid_anchors(grids, strides))


@dataclass(frozen=True)
class MonaiDetector(Detector):
    """A RetinaNetDetector under attack. Shapes, units and success rule as for `Detector`; boxes have 2 * spatial_dims coordinates."""

    @property
    def one_stage(self) -> bool:
        """Always."""
        return True

    @property
    def tensor_axes(self) -> bool:
        """Always."""
        return True

    def heavy_parts(self) -> list[nn.Module]:
        """The network that the detector wraps, without windows around it."""
        return networks(self.network.network)

    def targets(self, labels: Sequence[Label], device: torch.device, goal: Goal = "untruth") -> list[dict[str, Tensor]]:
        """A list of {boxes, labels}, classes from 0."""
        # Of no boxes nobody could tell how many axes they have.
        axes = 2 * self.network.spatial_dims
        return [{"boxes": t["boxes"].reshape(-1, axes), "labels": t["labels"] - 1} for t in super().targets(labels, device, goal)]

    def truth(self, target: dict[str, Tensor]) -> Boxes:
        """What `targets` was made of, classes from 1."""
        boxes = super().truth(target)
        return Boxes(boxes.boxes, boxes.classes + 1)

    def as_label(self, raw: Any) -> Label:
        """Boxes with the detector's axes, and of classes that it knows."""
        label = super().as_label(raw)
        assert isinstance(label, Boxes)
        if len(label.boxes) and label.boxes.shape[1] != 2 * self.network.spatial_dims:
            raise ValueError(f"boxes have {label.boxes.shape[1]} coordinates, and the detector has {self.network.spatial_dims} axes")
        return label

    def forward(self, images: Tensor) -> Any:
        """Dense class scores and box deltas of every anchor."""
        return self._dense(images)[0]

    def _dense(self, images: Tensor) -> tuple[Dense, list[int]]:
        """What `forward` returns, and the lengths of what the detector was given."""
        network, normalized = self.network, self.module.normalize(images)
        batch, _ = preprocess_images(normalized, network.spatial_dims, network.size_divisible)
        maps = self._maps(batch, normalized.shape[2:].numel())
        classes, deltas = maps[network.cls_key], maps[network.box_reg_key]
        each = network.num_anchors_per_loc
        dense = Dense(
            head={"cls_logits": by_anchor(classes, each), "bbox_regression": by_anchor(deltas, each)},
            anchors=[anchors_of(network.anchor_generator, batch, classes)] * len(batch),
            per_level=[m.shape[2:].numel() for m in classes],
            scale=(1.0,) * network.spatial_dims,
            stored=tuple(images.shape[2:]),
        )
        return dense, list(normalized.shape[2:])

    def _maps(self, batch: Tensor, voxels: int) -> Any:
        """The maps of a padded batch, of images that had so many voxels: through windows where these are no more than an image."""
        inner = self.network.network
        if isinstance(inner, SlidingMaps) and voxels < math.prod(inner.window):
            return inner.whole(batch)
        return inner(batch)

    @directed
    def deviation(self, outputs: Any, targets: Any, settings: AttackSettings, progress: float = 0.0) -> Tensor:
        """Sum of the detector's own training losses, image by image."""
        refuse_losses(settings, ("dlr", "margin", *OF_MASKS), "a detector has its own: leave loss out")
        network, losses = self.network, []
        for index, target in enumerate(self.moved(target, outputs.stored) for target in targets):
            head = self._named(outputs, slice(index, index + 1))
            target = {network.target_box_key: target["boxes"].to(outputs.anchors[index]), network.target_label_key: target["labels"]}
            # A balanced sampler, where the detector has one, draws from the global generator.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed_of("anchors") % (1 << 63))
                parts = network.compute_loss(head, [target], [outputs.anchors[index]], outputs.per_level)
            losses.append(sum(part.to(head[network.cls_key]) for part in parts.values()))
        return torch.stack(losses)

    def predict(self, images: Tensor) -> list[Prediction]:
        """Boxes in stored pixels, all that the detector's own score threshold and suppression leave."""
        network = self.network
        with untouched(self.module), torch.no_grad():
            outputs, given = self._dense(images)
            head = self._named(outputs, slice(None))
            answers = network.postprocess_detections(head, outputs.anchors, [given] * len(images), outputs.per_level)
        predictions = []
        for answer in answers:
            boxes = self.home(answer[network.target_box_key].cpu(), tuple(images.shape[2:]))
            classes = answer[network.target_label_key].cpu() + 1
            predictions.append(Prediction(Boxes.of(boxes, classes, answer[network.pred_score_key].cpu(), network.spatial_dims)))
        return predictions

    def _named(self, outputs: Dense, chosen: slice) -> dict[str, Tensor]:
        """The dense head of some of the images, under the detector's own names."""
        names = {self.network.cls_key: "cls_logits", self.network.box_reg_key: "bbox_regression"}
        return {name: outputs.head[ours][chosen] for name, ours in names.items()}
