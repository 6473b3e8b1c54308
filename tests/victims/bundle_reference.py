"""What MONAI itself answers for a bundle: its parser builds transforms, inferer and network, and an image comes from its file."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.bundle import ConfigParser
from PIL import Image
from torch import Tensor, nn

from medadv.spec.victim import VictimSettings
from medadv.victims.importers.bundle import import_bundle
from medadv.victims.importers.imported import Imported
from medadv.victims.loading import VictimRequest

CPU = torch.device("cpu")
REFUSED_NOW = ("img_size",)
"""Arguments of SwinUNETR that MONAI itself takes no more."""


@contextmanager
def own_code(bundle: Path) -> Iterator[None]:
    """The bundle's `scripts` can be imported, and no other's."""

    def forget() -> None:
        for name in [each for each in sys.modules if each.partition(".")[0] == "scripts"]:
            del sys.modules[name]

    forget()
    sys.path.insert(0, str(bundle))
    try:
        # Some networks print when they are built.
        with redirect_stdout(sys.stderr):
            yield
    finally:
        sys.path.remove(str(bundle))
        forget()


def parser_of(bundle: Path, configuration: str) -> ConfigParser:
    """MONAI's parser of a bundle as it stands here: on the CPU, without readers that are not installed."""
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / configuration))
    parser["bundle_root"] = str(bundle)
    definition = parser["network_def"]
    for name in REFUSED_NOW if isinstance(definition, dict) else ():
        definition.pop(name, None)
    if "arch_ckpt" in parser:
        # numpy's arrays are no weights, and MONAI's example loads them as pickles.
        parser["arch_ckpt"] = "$torch.load(@arch_ckpt_path, map_location='cpu', weights_only=False)"
        parser["dints_space"]["device"] = "cpu"
    for held in _mappings(parser.get()):
        if held.get("_target_") == "LoadImaged":
            held.pop("reader", None)
    return parser


def _mappings(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _mappings(each)


def load_path(parser: ConfigParser) -> Path:
    """Where the bundle loads its weights from."""
    found = [held["load_path"] for held in _mappings(parser.get()) if held.get("_target_") == "CheckpointLoader"]
    text = str(found[0])
    parser["medadv_load_path"] = text
    return Path(parser.get_parsed_content("medadv_load_path"))


def write_weights(bundle: Path, configuration: str, seed: int = 0) -> None:
    """Random weights and running statistics for the network that the bundle's configuration builds."""
    with own_code(bundle):
        parser = parser_of(bundle, configuration)
        torch.manual_seed(seed)
        network = parser.get_parsed_content("network_def")
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
        if "detector" in parser:
            # A detector begins with scores of a hundredth, of which a threshold leaves next to nothing.
            nn.init.zeros_(network.classification_head.cls_logits.bias)
        path = load_path(parser_of(bundle, configuration))
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), path)


@dataclass(frozen=True)
class Answer:
    """What a network sees of an image (1, C, *grid), and what it answers on that grid; of a detector its boxes, classes and scores."""

    inputs: Tensor
    logits: Tensor


def monai_answer(bundle: Path, configuration: str, file: Path, extra: dict[str, Any] | None = None) -> Answer:
    """By MONAI's transforms, inferer and network.  extra: entries of the sample beside the image."""
    with own_code(bundle), torch.no_grad():
        parser = parser_of(bundle, configuration)
        network = parser.get_parsed_content("network")
        network.load_state_dict(torch.load(load_path(parser_of(bundle, configuration)), map_location="cpu", weights_only=True))
        network.eval()
        if "detector_ops" in parser:
            parser.get_parsed_content("detector_ops")
        sample = parser.get_parsed_content("preprocessing")({"image": str(file), **(extra or {})})
        inputs = torch.as_tensor(sample["image"]).as_subclass(Tensor).float()[None]
        inferer = parser.get_parsed_content("inferer")
        if "label_prompt" in sample:
            prompts = torch.as_tensor(sample["label_prompt"]).unsqueeze(-1)
            return Answer(inputs, inferer(inputs, network, point_coords=None, point_labels=None, class_vector=prompts))
        if "detector" in parser:
            parser.get_parsed_content("detector").eval()
            (found,) = inferer(list(inputs), network)
            return Answer(inputs, _boxes(found["box"], found["label"], found["label_scores"]))
        return Answer(inputs, torch.as_tensor(inferer(inputs, network)).as_subclass(Tensor))


def medadv_answer(bundle: Path, configuration: str, image: Tensor, trust_code: bool = False) -> tuple[Answer, Imported, nn.Module]:
    """By the settings that the bundle becomes.  image: (C, *spatial) as it is stored, grey levels or HU."""
    imported = import_bundle(bundle, trust_code, configuration)
    task = str(imported.data["task"])
    settings = VictimSettings.model_validate(dict(imported.victim))
    victim = VictimRequest(settings, task, bundle, trust_code, image.ndim == 4).load(CPU, tuple(image.shape))
    module: Any = victim.scored.module
    with torch.no_grad():
        inputs = module.normalize(image[None])
        if task != "detection":
            return Answer(inputs, module.network(inputs)), imported, module
        (prediction,) = victim.scored.predict(image[None])
    found: Any = prediction.answer
    boxes, classes, scores = (torch.as_tensor(each) for each in (found.boxes, found.classes - 1, found.scores))
    return Answer(inputs, _boxes(boxes, classes, scores)), imported, module


def _boxes(boxes: Tensor, classes: Tensor, scores: Tensor) -> Tensor:
    """(m, 2 * dims + 2), all columns of about the same size."""
    return torch.cat([boxes, classes[:, None].to(boxes), 100 * scores[:, None]], 1)


def write_volume(file: Path, shape: tuple[int, ...], spacing: tuple[float, ...], seed: int = 0) -> Tensor:
    """A volume of whole HU with air, water and bone, on RAS axes; returns (1, x, y, z)."""
    draw = np.random.default_rng(seed)
    coarse = torch.tensor(draw.normal(0, 1, [max(2, side // 8) for side in shape]), dtype=torch.float32)
    smooth = nn.functional.interpolate(coarse[None, None], shape, mode="trilinear")[0, 0].numpy()
    values = np.clip(np.round(smooth * 500 - 100 + draw.normal(0, 30, shape)), -1024, 1500).astype(np.int16)
    values[:3] = -1024
    values[:, :2] = 0
    nib.save(nib.Nifti1Image(values, np.diag([*spacing, 1.0])), file)
    return torch.from_numpy(values.astype(np.float32))[None]


def write_picture(file: Path, height: int, width: int, seed: int = 0) -> Tensor:
    """A colour picture with black borders; returns (3, y, x)."""
    draw = np.random.default_rng(seed)
    coarse = torch.tensor(draw.uniform(0, 255, (1, 3, height // 8, width // 8)), dtype=torch.float32)
    levels = nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0].round().to(torch.uint8)
    levels[:, :, : width // 8] = 0
    Image.fromarray(levels.permute(1, 2, 0).numpy()).save(file)
    return levels.float()


def off(one: Tensor, other: Tensor) -> float:
    """The largest difference, as a share of the largest value of `other`."""
    return float((one - other).abs().max() / other.abs().max().clamp(min=1e-12))
