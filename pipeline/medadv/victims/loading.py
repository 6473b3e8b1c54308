"""From the spec's victim to a model ready for attack."""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
from safetensors.torch import load_file
from torch import nn

from medadv.attacks.engine import set_evaluation
from medadv.errors import SpecError
from medadv.hashing import hash_file, hash_value
from medadv.spec.victim import VictimSettings
from medadv.victims.base import Normalized, Victim
from medadv.victims.classification import Classifier
from medadv.victims.detection import Detector
from medadv.victims.networks import build_network
from medadv.victims.retinanet import MonaiDetector
from medadv.victims.segmentation import Segmenter
from medadv.victims.sliding import SlidingWindow
from medadv_transforms.normalize import Normalize, Window

PROGRAMS = (".pt", ".pth", ".ts", ".torchscript", ".pt2")
NESTED = ("state_dict", "model", "model_state_dict", "network")
SHOWN = 3


@dataclass(frozen=True)
class Identity:
    """What makes a victim the one it is; public."""

    weights_sha256: str
    program_sha256: str | None
    parameters: int

    def as_dict(self) -> dict[str, Any]:
        """For settings and manifest."""
        return {"weights_sha256": self.weights_sha256, "program_sha256": self.program_sha256, "parameters": self.parameters}


def load_victim(
    settings: VictimSettings,
    task: str,
    base: Path,
    *,
    device: torch.device,
    sample_shape: tuple[int, ...] | None = None,
    trust_code: bool = False,
) -> tuple[Victim, Identity]:
    """Build the network, load its weights and wrap both for the task.

    Args:
        settings: the spec's victim.
        task: classification, segmentation or detection.
        base: folder that relative paths start from.
        device: where it runs.
        sample_shape: (C, *spatial) of a stored image; the outputs for it tell how many classes there are. Detectors say it themselves.
        trust_code: whether a `python:` factory may be imported.

    Raises:
        SpecError: unknown network, weights that do not fit, outputs that are not what the task needs.
    """
    network, program = _network(settings, base, trust_code)
    weights = _load_weights(network, settings, base) if settings.weights else program
    if weights is None:
        raise SpecError("victim.weights is missing: an untrained network is no victim")
    parameters = sum(p.numel() for p in network.parameters())
    module = Normalized(_normalize(settings), _windowed(network, settings, task)).to(device)
    set_evaluation(module)
    identity = Identity(weights, program, parameters)
    if task == "detection":
        # CT grids, which alone take a HU window, are stored x first, photographs y first.
        return detector_of(module, settings.score_threshold, x_first=settings.normalize.window is not None), identity
    if sample_shape is None:
        raise ValueError("sample_shape is needed to learn how many classes the network answers")
    classes = classes_for(module, settings, task, sample_shape, device)
    if task == "classification":
        return Classifier(module, settings.head, classes), identity
    return Segmenter(module, settings.head, classes, len(sample_shape) - 1), identity


def _normalize(settings: VictimSettings) -> nn.Module:
    normalize = settings.normalize
    if normalize.window is not None:
        return Window(*normalize.window)
    assert normalize.mean is not None
    assert normalize.std is not None
    return Normalize(normalize.mean, normalize.std)


def _network(settings: VictimSettings, base: Path, trust_code: bool) -> tuple[nn.Module, str | None]:
    """The network, and the hash of the file it came from when that is a program."""
    name = settings.network
    if name.startswith("python:"):
        return _from_factory(name, settings, trust_code), None
    if not name.startswith(("monai:", "torchvision:")) and Path(name).suffix in PROGRAMS:
        path = base / name
        if not path.is_file():
            raise SpecError(f"victim.network: no such file {path}")
        return _from_program(path), hash_file(path)
    return build_network(name, settings.arguments), None


def _from_program(path: Path) -> nn.Module:
    try:
        if path.suffix == ".pt2":
            return torch.export.load(path).module()
        return torch.jit.load(str(path), map_location="cpu")
    except Exception as error:  # torch raises many types here, all of which mean the same to the user
        raise SpecError(f"victim.network: {path} is neither TorchScript nor an exported program ({_line(error)})") from None


def _from_factory(name: str, settings: VictimSettings, trust_code: bool) -> nn.Module:
    if not trust_code:
        raise SpecError(f"victim.network={name!r} runs Python code of yours: allow it with --trust-code")
    module, _, factory = name.removeprefix("python:").partition(":")
    try:
        network = getattr(importlib.import_module(module), factory)(**settings.arguments)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise SpecError(f"victim.network={name!r} cannot be built: {_line(error)}") from None
    if not isinstance(network, nn.Module):
        raise SpecError(f"victim.network={name!r} returned a {type(network).__name__}, not an nn.Module")
    return network


def _load_weights(network: nn.Module, settings: VictimSettings, base: Path) -> str:
    path = base / str(settings.weights)
    if not path.is_file():
        raise SpecError(f"victim.weights: no such file {path}")
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
            state = next((loaded[key] for key in NESTED if isinstance(loaded.get(key), dict)), loaded)
    except Exception as error:  # safetensors and torch raise types of their own for damaged files
        raise SpecError(f"victim.weights: {path} cannot be read as weights ({_line(error)})") from None
    _fit(network, state, settings, path)
    return hash_file(path)


def _fit(network: nn.Module, state: dict[str, Any], settings: VictimSettings, path: Path) -> None:
    own = network.state_dict()
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    shapes = [f"{k} {list(state[k].shape)} for {list(own[k].shape)}" for k in own if k in state and state[k].shape != own[k].shape]
    if missing or extra or shapes:
        parts = [
            f"{len(names)} {what} ({', '.join(names[:SHOWN])}{', …' if len(names) > SHOWN else ''})"
            for what, names in (("missing", missing), ("not known to the network", extra), ("of another shape", shapes))
            if names
        ]
        raise SpecError(f"victim: {path} does not fit {settings.network} with these arguments: tensors {'; '.join(parts)}")
    network.load_state_dict(state)


def _windowed(network: nn.Module, settings: VictimSettings, task: str) -> nn.Module:
    if settings.window is None:
        return network
    if task != "segmentation":
        raise SpecError(f"victim.window: sliding windows stitch voxel-wise answers; task {task} takes whole images, leave it out")
    return SlidingWindow(network, settings.window, settings.overlap, settings.window_mode, settings.window_batch)


def detector_of(module: Normalized, score_threshold: float, *, x_first: bool) -> Detector:
    """A detector of torchvision or MONAI as a victim.

    x_first: whether image tensors are (C, x, y[, z]) as CT is. Stored boxes have x first in any case; torchvision's boxes belong to (y, x)
    tensors, MONAI's follow the tensor.
    """
    if isinstance(module.network, RetinaNetDetector):
        return MonaiDetector(module, module.network.num_classes + 1, score_threshold, reverse=not x_first)
    return Detector(module, _detector_classes(module.network), score_threshold, reverse=x_first)


def _detector_classes(network: nn.Module) -> int:
    """Classes of a detector, background included: asked of the parts that torchvision's detectors keep them in."""
    head = getattr(getattr(network, "head", None), "classification_head", None)
    predictor = getattr(getattr(getattr(network, "roi_heads", None), "box_predictor", None), "cls_score", None)
    for classes in (getattr(head, "num_classes", None), getattr(head, "num_columns", None), getattr(predictor, "out_features", None)):
        if classes is not None:
            return int(classes)
    raise SpecError("victim.network is no detector of torchvision or MONAI: task detection needs one that answers boxes, labels and scores")


def classes_for(module: nn.Module, settings: VictimSettings, task: str, stored: tuple[int, ...], device: torch.device) -> int:
    """Number of outputs of a classifier or segmenter, from one forward pass over an image of a stored shape (C, *spatial).

    Raises SpecError where network and shape do not fit.
    """
    # A window's worth tells the classes of a whole volume.
    shape = stored if settings.window is None else (stored[0], *settings.window)
    if len(shape) != len(stored):
        raise SpecError(f"victim.window={list(shape[1:])} has {len(shape) - 1} lengths for images of {len(stored) - 1} axes")
    try:
        with torch.no_grad():
            outputs: Any = module(torch.zeros(1, *shape, device=device))
    except Exception as error:  # whatever the network raises, the user learns that image and network do not fit
        raise SpecError(f"victim: the network does not take an image of shape {list(shape)} (channels first): {_line(error)}") from None
    expected = f"(n, K) for an image of shape {list(shape)}" if task == "classification" else f"(n, K, {', '.join(map(str, shape[1:]))})"
    fits = isinstance(outputs, torch.Tensor) and (outputs.ndim == 2 if task == "classification" else outputs.shape[2:] == shape[1:])
    if not fits:
        got = list(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
        raise SpecError(f"victim: the network answers {got}; task {task} needs logits {expected}")
    return int(outputs.shape[1])


def settings_hash(settings: VictimSettings, identity: Identity) -> str:
    """One hash for a loaded victim: workers keep the last one by it."""
    return hash_value([settings.model_dump(mode="json"), identity.as_dict()])


def _line(error: BaseException) -> str:
    """The first line of an error, short."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return text[:200]
