"""How far apart are two surfaces? The 95th percentile of the Hausdorff distance, and surface Dice, as MONAI computes them."""

import warnings

import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.surface_dice import compute_surface_dice

from medadv.datasets.labels import Array

PERCENTILE = 95.0


def surface_figures(answer: Array, truth: Array, spacing: tuple[float, ...], tolerance: float) -> tuple[float, float]:
    """HD95 and surface Dice of one mask.

    HD95: the larger of both directions' 95th percentile of the distances from one surface to the other, in the unit of the spacing.
    Surface Dice (Nikolov et al., arXiv 1809.04430): share of the voxels of both surfaces that lie within the tolerance of the other one.

    Args:
        answer, truth: (*spatial) bool, 2D or 3D.
        spacing: of the voxels along each axis.
        tolerance: in the spacing's unit.

    Returns:
        (HD95, surface Dice). Where one mask is empty there is no distance, and no voxel is near: (NaN, 0); where both are: (NaN, NaN).
    """
    if not answer.any() or not truth.any():
        return float("nan"), float("nan") if answer.any() == truth.any() else 0.0
    masks = [torch.from_numpy(mask)[None, None] for mask in (answer, truth)]
    with warnings.catch_warnings():
        # A backend that is missing is no news of the masks.
        warnings.simplefilter("ignore")
        distance = compute_hausdorff_distance(*masks, include_background=True, percentile=PERCENTILE, spacing=spacing)
        dice = compute_surface_dice(*masks, [tolerance], include_background=True, spacing=spacing)
    return float(distance), float(dice)
