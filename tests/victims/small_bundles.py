"""Bundles of a few layers in the forms that people publish: references, expressions, macros, setters, code of their own."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

Config = dict[str, Any]
CT = {"type": "image", "format": "hounsfield", "modality": "CT", "num_channels": 1}
RGB = {"type": "magnitude", "format": "RGB", "modality": "regular", "num_channels": 3}
LOADER = {"_target_": "CheckpointLoader", "load_path": "$@bundle_root + '/models/model.pt'", "load_dict": {"model": "@network"}}
DEVICE = "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')"
ARGMAX = [{"_target_": "Activationsd", "keys": "pred", "softmax": True}, {"_target_": "AsDiscreted", "keys": "pred", "argmax": True}]


def compose(*transforms: Config | str) -> Config:
    return {"_target_": "Compose", "transforms": list(transforms)}


def on_image(name: str, **arguments: Any) -> Config:
    return {"_target_": name, "keys": "@image_key", **arguments}


LOAD = [on_image("LoadImaged"), on_image("EnsureChannelFirstd"), on_image("Orientationd", axcodes="RAS")]
SPACING = on_image("Spacingd", pixdim=[1.5, 1.5, 2.0], mode="bilinear")
WINDOW = on_image("ScaleIntensityRanged", a_min=-57, a_max=164, b_min=0, b_max=1, clip=True)


def unet(dims: int, channels: int, classes: Any) -> Config:
    return {
        "_target_": "UNet",
        "spatial_dims": dims,
        "in_channels": channels,
        "out_channels": classes,
        "channels": [4, 8],
        "strides": [2],
        "num_res_units": 1,
        "norm": "batch",
    }


def common(**entries: Any) -> Config:
    """A configuration with what all of them have; entries win."""
    return {
        "imports": ["$import glob", "$import os"],
        "bundle_root": "/where/its/author/worked",
        "image_key": "image",
        "dataset_dir": "/workspace/data",
        "datalist": "$list(sorted(glob.glob(@dataset_dir + '/imagesTs/*.nii.gz')))",
        "device": DEVICE,
        "network": "$@network_def.to(@device)",
        "postprocessing": compose(*ARGMAX),
        "checkpointloader": LOADER,
        "evaluator": {"_target_": "SupervisedEvaluator", "network": "@network", "inferer": "@inferer", "val_handlers": "$lambda x: x"},
        **entries,
    }


def sliding(**arguments: Any) -> Config:
    return {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16], "sw_batch_size": 4, "overlap": 0.5, **arguments}


def spleen() -> Config:
    return common(network_def=unet(3, 1, 2), preprocessing=compose(*LOAD, SPACING, WINDOW, on_image("EnsureTyped")), inferer=sliding())


def whole_body() -> Config:
    inferer = sliding(overlap="@shown#overlap", mode="gaussian", padding_mode="replicate", device=DEVICE)
    values = (on_image("NormalizeIntensityd", nonzero=True), on_image("ScaleIntensityd", minv=-1.0, maxv=1.0))
    return common(
        shown={"highres": True, "overlap": 0.25},
        pixdim="$[1.5, 1.5, 1.5] if @shown#highres else [3.0, 3.0, 3.0]",
        modelname="$'model.pt' if @shown#highres else 'model_lowres.pt'",
        network_def={
            "_target_": "SegResNet",
            "spatial_dims": 3,
            "in_channels": 1,
            "out_channels": 3,
            "init_filters": 8,
            "blocks_down": [1, 1],
            "blocks_up": [1],
        },
        preprocessing=compose(*LOAD, on_image("Spacingd", pixdim="@pixdim", mode="bilinear"), *values),
        inferer=inferer,
        checkpointloader={**LOADER, "load_path": "$@bundle_root + '/models/' + @modelname"},
    )


def template() -> Config:
    """Enumerations as keys, a list that stands elsewhere, and no windows."""
    return common(
        image="$monai.utils.CommonKeys.IMAGE",
        num_classes=3,
        data_dicts="$[{@image:i} for i in @datalist]",
        network_def=unet(3, 1, "@num_classes"),
        transforms=[{"_target_": name, "keys": "@image"} for name in ("LoadImaged", "EnsureChannelFirstd", "ScaleIntensityd")],
        preprocessing={"_target_": "Compose", "transforms": "$@transforms"},
        inferer={"_target_": "SimpleInferer"},
        handlers=[{"_target_": "CheckpointLoader", "_disabled_": "$not os.path.exists(@path)", "load_path": "@path", "load_dict": {}}],
        path="$@bundle_root + '/models/model.pt'",
        checkpointloader=None,
    )


def cropped() -> Config:
    """Foreground alone, lengths by `len`, one argument a key in lists."""
    crop = {"_target_": "CropForegroundd", "keys": ["@image_key"], "source_key": "@image_key", "mode": ["minimum"]}
    pad = on_image("SpatialPadd", spatial_size="@spatial_size")
    return common(
        spatial_size=[16, 16, 16],
        network_def={**unet(3, 1, 4), "_target_": "monai.networks.nets.UNet", "spatial_dims": "$len(@spatial_size)"},
        preprocessing=compose(*LOAD, {**SPACING, "keys": ["@image_key"], "mode": ["bilinear"]}, WINDOW, crop, pad, on_image("EnsureTyped")),
        inferer=sliding(overlap=0.75),
    )


def cropped_early() -> Config:
    """What is above 0 HU and a margin, before values change; the orientation last."""
    crop = {"_target_": "CropForegroundd", "keys": "@image_key", "source_key": "@image_key", "allow_smaller": True, "margin": 2}
    before = [on_image("LoadImaged"), on_image("EnsureChannelFirstd"), on_image("Spacingd", pixdim=[1.5, 1.5, 1.5])]
    after = [on_image("CastToTyped", dtype="$torch.float32"), on_image("Orientationd", axcodes="RAS")]
    return common(network_def=unet(3, 1, 2), preprocessing=compose(*before, crop, WINDOW, *after), inferer=sliding(overlap=0.25))


def swin() -> Config:
    """An argument that MONAI takes no more."""
    network = {"_target_": "SwinUNETR", "img_size": [32] * 3, "in_channels": 1, "out_channels": 2, "feature_size": 12, "depths": [1] * 4}
    return common(network_def=network, preprocessing=compose(*LOAD, SPACING, WINDOW), inferer=sliding(roi_size=[64, 32, 32]))


def searched() -> Config:
    """DiNTS, whose topology comes from a checkpoint beside the weights."""
    space = {
        "_target_": "monai.networks.nets.TopologyInstance",
        "channel_mul": 0.25,
        "num_blocks": 3,
        "num_depths": 2,
        "use_downsample": True,
        "arch_code": ["$@arch_ckpt['arch_code_a']", "$@arch_ckpt['arch_code_c']"],
        "device": "$torch.device('cuda')",
    }
    network = {
        "_target_": "monai.networks.nets.DiNTS",
        "dints_space": "@dints_space",
        "in_channels": 1,
        "num_classes": 3,
        "use_downsample": True,
        "node_a": "$torch.from_numpy(@arch_ckpt['node_a'])",
    }
    return common(
        arch_ckpt_path="$@bundle_root + '/models/search_code.pt'",
        arch_ckpt="$torch.load(@arch_ckpt_path, map_location=torch.device('cuda'))",
        dints_space=space,
        network_def=network,
        preprocessing=compose(*LOAD, SPACING, WINDOW),
        inferer=sliding(),
    )


def write_search_code(file: Path) -> None:
    """As a search saves it: numpy's arrays, and numbers beside them."""
    open_paths = np.array([[1, 0, 1, 0], [1, 1, 1, 1], [1, 1, 0, 1]], float)
    code = {"arch_code_a": open_paths, "arch_code_c": np.arange(12).reshape(3, 4) % 5, "node_a": np.ones((4, 2)), "best": np.float64(0.5)}
    torch.save(code, file)


def in_body() -> Config:
    """A classifier of pictures, which MONAI reads x first."""
    network = {"_target_": "DenseNet", "spatial_dims": 2, "in_channels": 3, "out_channels": 2, "init_features": 8, "block_config": [1, 1]}
    transforms = (
        on_image("LoadImaged", image_only=False),
        on_image("EnsureChannelFirstd", channel_dim=-1),
        on_image("Resized", spatial_size=[40, 24], mode="bilinear"),
        on_image("CastToTyped", dtype="$torch.float32"),
        on_image("NormalizeIntensityd", nonzero=True, channel_wise=True),
    )
    discrete = {"_target_": "AsDiscreted", "argmax": True, "to_onehot": 2, "keys": ["pred"]}
    return common(
        network_def=network, preprocessing=compose(*transforms), inferer={"_target_": "SimpleInferer"}, postprocessing=compose(discrete)
    )


def tool() -> Config:
    """A segmenter of pictures."""
    transforms = (
        on_image("LoadImaged"),
        on_image("EnsureChannelFirstd", channel_dim=-1),
        {"_target_": "Resized", "keys": ["@image_key"], "spatial_size": [48, 32], "mode": ["bilinear"]},
        on_image("ScaleIntensityd"),
    )
    after = [
        {"_target_": "AsDiscreted", "argmax": True, "keys": "pred"},
        {"_target_": "Lambdad", "keys": "pred", "func": "$lambda x : x[1:]"},
    ]
    return common(
        network_def=unet(2, 3, 2), preprocessing=compose(*transforms), inferer={"_target_": "SimpleInferer"}, postprocessing=compose(*after)
    )


def slices() -> Config:
    """A 2D network on volumes, slice by slice along z, for overlapping regions."""
    inferer = {"_target_": "SliceInferer", "roi_size": [16, 16], "spatial_dim": 2, "sw_batch_size": 3, "overlap": 0.25}
    after = [{"_target_": "Activationsd", "keys": "pred", "sigmoid": True}, {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5}]
    return common(network_def=unet(2, 1, 3), preprocessing=compose(*LOAD, WINDOW), inferer=inferer, postprocessing=compose(*after))


def trained() -> Config:
    """A training configuration: macros and relative references lead to what it validates with."""
    return common(
        network_def=unet(3, 1, 2),
        train={"deterministic_transforms": [*LOAD, SPACING, WINDOW], "inferer": {"_target_": "SimpleInferer"}},
        roi="%sizes.yaml#roi",
        validate={
            "overlap": 0.5,
            "preprocessing": {"_target_": "Compose", "transforms": "%train#deterministic_transforms"},
            "inferer": {"_target_": "SlidingWindowInferer", "roi_size": "@roi", "overlap": "@##overlap"},
            "postprocessing": compose(*ARGMAX),
        },
    )


def nodules() -> Config:
    """A detector, set up by calls of functions and of its own methods."""
    return common(
        spatial_dims=3,
        num_classes=2,
        size_divisible=[16, 16, 8],
        anchor_generator={
            "_target_": "monai.apps.detection.utils.anchor_utils.AnchorGeneratorWithAnchorShape",
            "feature_map_scales": [1, 2, 4],
            "base_anchor_shapes": [[6, 8, 4], [10, 10, 6]],
        },
        backbone="$monai.networks.nets.resnet.resnet10(spatial_dims=3,n_input_channels=1,conv1_t_stride=[2,2,1],conv1_t_size=[7,7,7])",
        feature_extractor="$monai.apps.detection.networks.retinanet_network.resnet_fpn_feature_extractor(@backbone,3,False,[1,2],None)",
        network_def={
            "_target_": "RetinaNet",
            "spatial_dims": "@spatial_dims",
            "num_classes": "@num_classes",
            "num_anchors": 2,
            "feature_extractor": "@feature_extractor",
            "size_divisible": "@size_divisible",
            "use_list_output": False,
        },
        detector={"_target_": "RetinaNetDetector", "network": "@network", "anchor_generator": "@anchor_generator", "debug": False},
        detector_ops=[
            "$@detector.set_target_keys(box_key='box', label_key='label')",
            "$@detector.set_box_selector_parameters(score_thresh=0.02,topk_candidates_per_level=50,nms_thresh=0.22,detections_per_img=30)",
            "$@detector.set_sliding_window_inferer(roi_size=[16,16,8],overlap=0.25,sw_batch_size=1,mode='constant',device='cpu')",
        ],
        preprocessing=compose(*LOAD, WINDOW),
        inferer={"_target_": "scripts.inferer.DetectionInferer", "detector": "@detector"},
        evaluator={"_target_": "scripts.evaluator.DetectionEvaluator", "_requires_": "@detector_ops"},
    )


def clicked() -> Config:
    """An editor of masks, whose clicks become channels."""
    before = [on_image("LoadImaged"), on_image("EnsureChannelFirstd"), on_image("Orientationd", axcodes="RAS"), WINDOW]
    names = {"label_names": "@label_names", "ref_image": "@image_key"}
    clicks = [
        {"_target_": "scripts.transforms.TurnClicksd", **names},
        {"_target_": "AddGuidanceFromPointsDeepEditd", "guidance": "guidance", **names},
        on_image("Resized", spatial_size="@spatial_size", mode="area"),
        {"_target_": "ResizeGuidanceMultipleLabelDeepEditd", "guidance": "guidance", "ref_image": "@image_key"},
        on_image("AddGuidanceSignalDeepEditd", guidance="guidance", number_intensity_ch="@number"),
    ]
    return common(
        label_names={"spleen": 1, "background": 0},
        spatial_size=[16, 24, 16],
        number=1,
        network_def={**unet(3, 1, 2), "in_channels": "$len(@label_names) + @number"},
        before=before,
        clicks=clicks,
        preprocessing={"_target_": "Compose", "transforms": "$@before + @clicks"},
        inferer={"_target_": "SimpleInferer"},
    )


def own_network() -> Config:
    """A network of the bundle's own code."""
    network = {"_target_": "scripts.networks.small.Small", "in_channels": 1, "out_channels": "$1 + 1"}
    return common(network_def=network, preprocessing=compose(*LOAD, SPACING, WINDOW), inferer=sliding())


def phases() -> Config:
    """Three images of a patient as one input."""
    keys = ["artery", "vein", "late"]
    merge = {"_target_": "scripts.transforms.Merge", "keys_merge": keys, "keys_out": "image"}
    loading = [{"_target_": name, "keys": keys} for name in ("LoadImaged", "EnsureChannelFirstd")]
    return common(network_def=unet(3, 3, 2), preprocessing=compose(*loading, merge), inferer=sliding())


SCRIPTS = {
    "__init__.py": "",
    "networks/__init__.py": "",
    "networks/blocks.py": (
        "from torch import nn\n\n\ndef block(a, b):\n    return nn.Sequential(nn.Conv3d(a, b, 3, padding=1), nn.ReLU())\n"
    ),
    "networks/small.py": (
        "from torch import nn\n\nfrom scripts.networks.blocks import block\n\n\n"
        "class Small(nn.Module):\n    def __init__(self, in_channels, out_channels):\n        super().__init__()\n"
        "        self.net = nn.Sequential(block(in_channels, 4), nn.Conv3d(4, out_channels, 1))\n\n"
        "    def forward(self, x):\n        return self.net(x)\n"
    ),
    "transforms.py": (
        "class TurnClicksd:\n    def __init__(self, ref_image, label_names):\n        self.label_names = label_names\n\n"
        "    def __call__(self, data):\n        return {**data, **{name: [] for name in self.label_names if name not in data}}\n\n\n"
        "class Halved:\n    def __init__(self, keys):\n        self.key = keys\n\n"
        "    def __call__(self, data):\n        return {**data, self.key: data[self.key] / 2}\n"
    ),
    "inferer.py": (
        "import numpy as np\nfrom monai.inferers import Inferer\n\n\nclass DetectionInferer(Inferer):\n"
        "    def __init__(self, detector):\n        Inferer.__init__(self)\n        self.detector = detector\n\n"
        "    def __call__(self, inputs, network):\n        self.detector.network = network\n"
        "        large = max(image.numel() for image in inputs) >= np.prod(self.detector.inferer.roi_size)\n"
        "        return self.detector(inputs, use_inferer=bool(large))\n"
    ),
}


def metadata(image: Config, form: str, names: list[str]) -> Config:
    outputs = {"pred": {"type": "image", "format": form, "channel_def": {str(number): name for number, name in enumerate(names)}}}
    return {"task": "Endoscopy" if image is RGB else "CT", "network_data_format": {"inputs": {"image": image}, "outputs": outputs}}


def write_bundle(folder: Path, config: Config, told: Config | None = None, name: str = "inference.json") -> Path:
    """A bundle's folder; scripts are there whether it uses them or not."""
    for place in ("configs", "models"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    text = json.dumps(config) if name.endswith(".json") else yaml.safe_dump(config)
    (folder / "configs" / name).write_text(text)
    (folder / "configs" / "sizes.yaml").write_text("roi: [16, 16, 16]\n")
    (folder / "configs" / "metadata.json").write_text(json.dumps(told or metadata(CT, "segmentation", ["background", "organ"])))
    for place, code in SCRIPTS.items():
        file = folder / "scripts" / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(code)
    write_search_code(folder / "models" / "search_code.pt")
    return folder
