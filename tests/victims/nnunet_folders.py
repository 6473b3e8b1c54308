"""Folders as nnU-Net leaves them after training, with random weights: for tests, and for scripts/check_nnunet.py."""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray

from medadv.victims.sources.registry import build_network

RESAMPLING = {
    "resampling_fn_data": "resample_data_or_seg_to_shape",
    "resampling_fn_seg": "resample_data_or_seg_to_shape",
    "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
    "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
    "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
    "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
}
LABELS: dict[str, Any] = {"background": 0, "organ": 1, "lesion": 2}
REGIONS: dict[str, Any] = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}
INTENSITIES = {
    "max": 900.0,
    "mean": 13.25,
    "median": 10.0,
    "min": -1000.0,
    "percentile_00_5": -731.5,
    "percentile_99_5": 402.25,
    "std": 217.125,
}

OF_PICTURES: dict[str, Any] = {
    "spacing": (1.0, 1.0),
    "reader": "NaturalImage2DIO",
    "ending": ".png",
    "channels": {"0": "R", "1": "G", "2": "B"},
    "schemes": ("RGBTo01Normalization",) * 3,
    "masked": (False,) * 3,
}
"""What a 2d training on colour pictures has otherwise than one on slices."""


@dataclass(frozen=True)
class Training:
    """What a folder was trained as.

    patch, spacing: axes as the network has them, 2 or 3 lengths; mm.  old: plans as before nnU-Net 2.4.  inherits: the configuration
    takes all but its patch from another one.  plans, dataset, checkpoint, kwargs: changes of what is written.
    """

    configuration: str = "3d_fullres"
    network: str = "PlainConvUNet"
    patch: Sequence[int] = (8, 16, 16)
    spacing: Sequence[float] = (2.5, 1.5, 1.0)
    transpose: Sequence[int] = (0, 1, 2)
    reader: str = "SimpleITKIO"
    schemes: Sequence[str] = ("CTNormalization",)
    masked: Sequence[bool] = (False,)
    labels: Mapping[str, Any] = field(default_factory=lambda: LABELS)
    order: Sequence[int] | None = None
    channels: Mapping[str, str] = field(default_factory=lambda: {"0": "CT"})
    ending: str = ".nii.gz"
    folds: Sequence[int | str] = (0,)
    mirror: Sequence[int] | None = (0, 1, 2)
    trainer: str = "nnUNetTrainer"
    old: bool = False
    inherits: bool = False
    plans: Mapping[str, Any] = field(default_factory=dict)
    dataset: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: Mapping[str, Any] = field(default_factory=dict)
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def heads(self) -> int:
        """Channels of the answer."""
        regions = any(isinstance(value, list) and len(value) > 1 for value in self.labels.values())
        return sum(name != "ignore" for name in self.labels) - regions

    @property
    def arch(self) -> dict[str, Any]:
        """Arguments of the network, as plans write them since nnU-Net 2.4."""
        axes, stages = len(self.patch), 3
        blocks = "n_conv_per_stage" if self.network == "PlainConvUNet" else "n_blocks_per_stage"
        flat = [1, *[3] * (axes - 1)]
        return {
            "n_stages": stages,
            "features_per_stage": [4, 8, 12],
            "conv_op": f"torch.nn.modules.conv.Conv{axes}d",
            "kernel_sizes": [flat, [3] * axes, [3] * axes],
            "strides": [[1] * axes, [1, *[2] * (axes - 1)], [2] * axes],
            blocks: [1, 2, 2],
            "n_conv_per_stage_decoder": [1] * (stages - 1),
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{axes}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
            **self.kwargs,
        }

    def written(self, folder: Path) -> Path:
        """The folder of one training, under `folder`: plans.json, dataset.json and each fold's checkpoints."""
        model = folder / f"{self.trainer}__nnUNetPlans__{self.configuration}"
        model.mkdir(parents=True)
        (model / "plans.json").write_text(json.dumps(self._plans()))
        (model / "dataset.json").write_text(json.dumps(self._dataset()))
        for fold in self.folds:
            place = model / f"fold_{fold}"
            place.mkdir()
            for kind in ("final", "best"):
                torch.save(self._checkpoint(f"{fold}-{kind}"), place / f"checkpoint_{kind}.pth")
        return model

    def _plans(self) -> dict[str, Any]:
        planned: dict[str, Any] = {
            "data_identifier": "nnUNetPlans_" + self.configuration,
            "preprocessor_name": "DefaultPreprocessor",
            "batch_size": 2,
            "patch_size": list(self.patch),
            "median_image_size_in_voxels": [float(length) for length in self.patch],
            "spacing": list(self.spacing),
            "normalization_schemes": list(self.schemes),
            "use_mask_for_norm": list(self.masked),
            **RESAMPLING,
            "batch_dice": True,
        }
        planned |= self._old() if self.old else {"architecture": self._architecture()}
        configurations = {self.configuration: planned}
        if self.inherits:
            base = {**planned, "patch_size": [64] * len(self.patch), "spacing": [9.0] * len(self.spacing)}
            own = {"inherits_from": "base", "patch_size": list(self.patch), "spacing": list(self.spacing)}
            configurations = {"base": base, self.configuration: own}
        backward = [list(self.transpose).index(axis) for axis in range(3)]
        return {
            "dataset_name": "Dataset901_Random",
            "plans_name": "nnUNetPlans",
            "original_median_spacing_after_transp": [2.5, 1.5, 1.0],
            "image_reader_writer": self.reader,
            "transpose_forward": list(self.transpose),
            "transpose_backward": backward,
            "configurations": configurations,
            "experiment_planner_used": "ExperimentPlanner",
            "label_manager": "LabelManager",
            "foreground_intensity_properties_per_channel": dict.fromkeys(self.channels, INTENSITIES),
            **self.plans,
        }

    def _architecture(self) -> dict[str, Any]:
        return {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{self.network}",
            "arch_kwargs": self.arch,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        }

    def _old(self) -> dict[str, Any]:
        arch = self.arch
        return {
            "UNet_class_name": self.network,
            "UNet_base_num_features": 4,
            "unet_max_num_features": 12,
            "num_pool_per_axis": [2] * len(self.patch),
            "conv_kernel_sizes": arch["kernel_sizes"],
            "pool_op_kernel_sizes": arch["strides"],
            "n_conv_per_stage_encoder": arch.get("n_conv_per_stage") or arch["n_blocks_per_stage"],
            "n_conv_per_stage_decoder": arch["n_conv_per_stage_decoder"],
        }

    def _dataset(self) -> dict[str, Any]:
        order = {} if self.order is None else {"regions_class_order": list(self.order)}
        described = {"channel_names": dict(self.channels), "labels": dict(self.labels), "numTraining": 2, "file_ending": self.ending}
        return {**described, **order, **self.dataset}

    def _checkpoint(self, seed: str) -> dict[str, Any]:
        """What nnU-Net's trainer saves: numbers of numpy, an optimiser and its arguments beside the weights."""
        with torch.random.fork_rng():
            torch.manual_seed(zlib.crc32(f"{self.configuration} {seed}".encode()))
            name = self.network
            network = build_network(f"nnunet:{name}", {"input_channels": len(self.channels), "num_classes": self.heads, **self.arch})
        return {
            "network_weights": network.state_dict(),
            "optimizer_state": {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.01, "params": [0]}]},
            "grad_scaler_state": None,
            "logging": {"mean_fg_dice": [np.float64(0.5), np.float32(0.25)], "dice_per_class_or_region": [[np.float64(0.5)]]},
            "_best_ema": np.float64(0.75),
            "current_epoch": np.int64(1000),
            "init_args": {"plans": self._plans(), "configuration": self.configuration, "fold": 0, "device": torch.device("cuda")},
            "trainer_name": self.trainer,
            "inference_allowed_mirroring_axes": None if self.mirror is None else tuple(self.mirror),
            **self.checkpoint,
        }


def write_volume(
    path: Path, shape: tuple[int, int, int], spacing: tuple[float, float, float], codes: str, seed: int, border: int = 0
) -> Path:
    """A volume of smooth random HU, stored along `codes` (such as LPS).

    shape: lengths along the stored axes.  spacing: mm of these axes.  border: voxels of 0 around it, to be cropped.
    """
    values = smooth(shape, seed)
    if border:
        inner = (slice(border, -border),) * 3
        values = np.pad(values[inner], border)
    axes = nib.orientations.axcodes2ornt(codes)
    affine = np.zeros((4, 4))
    for axis, (target, sign) in enumerate(axes):
        affine[int(target), axis] = sign * spacing[axis]
    affine[:, 3] = [-12.5, 30.0, 7.25, 1.0]
    image = nib.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def smooth(shape: Sequence[int], seed: int) -> NDArray[np.int16]:
    """Whole HU between -900 and 900, a mixture of slow waves and noise."""
    draw = np.random.default_rng(seed)
    grid = np.meshgrid(*(np.linspace(0, 3, length) for length in shape), indexing="ij")
    waves = sum(np.sin((axis + 1.3) * each + draw.uniform(0, 6)) for axis, each in enumerate(grid))
    return np.clip(250 * waves + draw.normal(0, 60, shape), -900, 900).round().astype(np.int16)
