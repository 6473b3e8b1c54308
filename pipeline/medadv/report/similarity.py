"""How alike do two images look? Structural similarity, by MONAI's own metric."""

import numpy as np
import torch
from monai.metrics.regression import SSIMMetric

from medadv.datasets.labels import Array

WINDOW = 11
"""Side of the Gaussian window, of a standard deviation of 1.5 pixels, as published; images that are smaller have a smaller one."""


def ssim(first: Array, second: Array, span: float) -> float:
    """SSIM (Wang et al. 2004), the mean over all whole windows and channels.  first, second: (C, h, w).  span: of all possible values."""
    pair = [torch.from_numpy(values.astype(np.float32))[None] for values in (first, second)]
    shortest = min(first.shape[1:])
    metric = SSIMMetric(2, data_range=float(span), win_size=min(WINDOW, shortest - (shortest + 1) % 2))
    return float(metric(*pair).mean())
