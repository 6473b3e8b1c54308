"""MONAI's DiNTS in the topology that a search ended with, by plain arguments."""

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import torch
from monai.networks.nets import DiNTS, TopologyInstance


def dints(
    in_channels: int,
    num_classes: int,
    arch_code: Sequence[Sequence[Any]],
    node_a: Sequence[Sequence[float]] | None = None,
    channel_mul: float = 1.0,
    num_blocks: int = 6,
    num_depths: int = 3,
    spatial_dims: int = 3,
    use_downsample: bool = True,
) -> DiNTS:
    """DiNTS (He et al., CVPR 2021), a searched segmentation network.

    arch_code: which paths are open, (num_blocks, 3 * num_depths - 2) of 0 and 1, and the number of the operation on each, of the same
    shape.  node_a: which nodes are active, (num_blocks + 1, num_depths).  The rest as MONAI has it.
    """
    paths, operations = (np.asarray(each) for each in arch_code)
    if paths.shape != (num_blocks, 3 * num_depths - 2) or operations.shape != paths.shape:
        raise ValueError(
            f"arch_code has shapes {list(paths.shape)} and {list(operations.shape)}, not twice {[num_blocks, 3 * num_depths - 2]}"
        )
    # MONAI prints which lengths of the input it likes.
    with redirect_stdout(io.StringIO()):
        space = TopologyInstance(
            arch_code=[paths, operations],
            channel_mul=channel_mul,
            num_blocks=num_blocks,
            num_depths=num_depths,
            spatial_dims=spatial_dims,
            use_downsample=use_downsample,
        )
    return DiNTS(
        dints_space=space,
        in_channels=in_channels,
        num_classes=num_classes,
        spatial_dims=spatial_dims,
        use_downsample=use_downsample,
        node_a=None if node_a is None else torch.tensor(node_a),
    )
