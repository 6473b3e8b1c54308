"""MONAI's RetinaNetDetector (2D and 3D) as a victim.

It differs from torchvision's detectors in three ways that this file hides: classes count from 0, boxes follow the tensor's own axis order,
and images are padded, not resized.
"""

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
from medadv.spec.attack import AttackSettings
from medadv.victims.tasks.detection import Dense, Detector


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
        """The network that the detector wraps."""
        return [self.network.network]

    def targets(self, labels: Sequence[Label], device: torch.device) -> list[dict[str, Tensor]]:
        """MONAI's list of {boxes, labels}, classes from 0."""
        return [{"boxes": t["boxes"], "labels": t["labels"] - 1} for t in super().targets(labels, device)]

    def forward(self, images: Tensor) -> Any:
        """Dense class scores and box deltas of every anchor."""
        network = self.network
        batch, _ = preprocess_images(self.module.normalize(images), network.spatial_dims, network.size_divisible)
        maps = network.network(batch)
        classes, deltas = maps[network.cls_key], maps[network.box_reg_key]
        each = network.num_anchors_per_loc
        return Dense(
            head={"cls_logits": by_anchor(classes, each), "bbox_regression": by_anchor(deltas, each)},
            anchors=[anchors_of(network.anchor_generator, batch, classes)] * len(batch),
            per_level=[m.shape[2:].numel() for m in classes],
            scale=(1.0,) * network.spatial_dims,
            stored=tuple(images.shape[2:]),
        )

    def deviation(self, outputs: Any, targets: Any, settings: AttackSettings) -> Tensor:
        """Sum of the detector's own training losses, image by image."""
        network, losses = self.network, []
        for index, target in enumerate(self.moved(target, outputs.stored) for target in targets):
            head = {
                network.cls_key: outputs.head["cls_logits"][index : index + 1],
                network.box_reg_key: outputs.head["bbox_regression"][index : index + 1],
            }
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
            answers = network(self.module.normalize(images))
        # The cached anchors are a trace too: they belong to these images' shape and device.
        network.anchors, network.previous_image_shape = None, None
        predictions = []
        for answer in answers:
            boxes = self.home(answer[network.target_box_key].cpu(), tuple(images.shape[2:]))
            classes = answer[network.target_label_key].cpu() + 1
            predictions.append(Prediction(Boxes.of(boxes, classes, answer[network.pred_score_key].cpu(), network.spatial_dims)))
        return predictions
