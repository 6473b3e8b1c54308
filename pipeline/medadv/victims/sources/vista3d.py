"""MONAI's VISTA3D, asked for fixed classes and no clicks."""

from collections.abc import Sequence

import torch
from monai.networks.nets import vista3d132
from torch import Tensor, nn


class PromptedVista(nn.Module):
    """VISTA3D (He et al., 2024) with a class prompt.

    forward: (n, 1, x, y, z) to one logit a prompt, (n, prompts, x, y, z).  Its weights are those of the network alone, by their own names.
    """

    def __init__(self, label_prompt: Sequence[int], in_channels: int = 1, encoder_embed_dim: int = 48) -> None:
        super().__init__()
        network = vista3d132(encoder_embed_dim=encoder_embed_dim, in_channels=in_channels)
        last = network.point_head.last_supported
        if not label_prompt or not all(0 < prompt <= last for prompt in label_prompt):
            raise ValueError(f"label_prompt={list(label_prompt)} takes classes from 1 to {last}")
        self.vista = network
        self.register_buffer("prompts", torch.tensor(label_prompt).unsqueeze(1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        # The network takes prompts for one image at a time.
        return torch.cat([self.vista(image, class_vector=self.prompts, transpose=True) for image in images.split(1)])
