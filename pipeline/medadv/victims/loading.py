"""How does a spec's victim become a model ready for attack? A kind of victim is added here.

A new source of models is a module in sources/ and a branch in `_network`; a new task is a class in tasks/ with the surface of
`TaskModel` (victim.py) and a branch in `VictimRequest`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import torch
from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
from torch import Tensor, nn

from medadv.attacks.untouched import set_evaluation
from medadv.common.errors import SpecError, first_line
from medadv.spec.normalize import NormalizeSettings
from medadv.spec.run_spec import RunSpec
from medadv.spec.victim import VictimSettings
from medadv.victims.inputs.geometry import Crop
from medadv.victims.inputs.normalized import Normalized
from medadv.victims.inputs.pipeline import deployed, normalization, refuse_windows, refuse_windows_of
from medadv.victims.sources.factory import from_factory
from medadv.victims.sources.program import DYNAMIC, EXPORTED, check_answers, from_program
from medadv.victims.sources.registry import FAMILIES, build_network
from medadv.victims.sources.weights import load_weights
from medadv.victims.speed import Profile, with_profile
from medadv.victims.tasks.answer import Answer, entry, is_coarser, key_of
from medadv.victims.tasks.classification import Classifier
from medadv.victims.tasks.detection import Detector
from medadv.victims.tasks.detection_monai import MonaiDetector
from medadv.victims.tasks.segmentation import Segmenter
from medadv.victims.victim import Identity, TaskModel, Victim

PROGRAMS = (".pt", ".pth", ".ts", ".torchscript", ".pt2")


@dataclass(frozen=True)
class VictimRequest:
    """Which model is asked for, and what it may do.

    settings: as the spec names it.  task: classification, segmentation or detection.  base: folder that relative paths start from.
    trust_code: whether a `python:` factory may be imported, and a program may do more than compute.  x_first: whether stored images are
    (C, x, y[, z]), as CT in HU is; pictures are (C, y, x).
    """

    settings: VictimSettings
    task: str
    base: Path
    trust_code: bool = False
    x_first: bool = False
    victims: Mapping[str, VictimSettings] = field(default_factory=dict)
    """Several victims by name, of which `settings` is the first."""

    @classmethod
    def of(cls, spec: RunSpec, base: Path, trust_code: bool = False, x_first: bool = False) -> Self:
        """For the victims of a spec."""
        return cls(spec.victim, spec.data.task, base, trust_code, x_first, spec.victims)

    def load(self, device: torch.device, shape: tuple[int, ...] | None = None, profile: Profile | None = None) -> Victim:
        """Build the network, load its weights and wrap both for the task.

        Args:
            device: where it runs.
            shape: (C, *spatial) of a stored image; the outputs for it tell how many classes there are. Detectors say it themselves.
            profile: how it is executed while it is attacked, the plain way unless given; needs the shape.

        Raises:
            SpecError: unknown network, weights that do not fit, outputs that are not what the task needs.
            ValueError, RuntimeError: the network does not bear the profile.
        """
        if self.victims:
            named = {name: self._named(name, device, shape, profile) for name in sorted(self.victims)}
            first = next(iter(named.values()))
            of_all = [f"{name}: {note}" for name, each in named.items() for note in each.notes]
            return replace(first, notes=tuple(of_all), named=named)
        refuse_windows(self.settings, self.task)
        networks, hashes, origin, notes = self.members()
        parameters = sum(p.numel() for p in networks[0].parameters())
        for network in networks:
            set_evaluation(network)
        classes = 0
        if self.task != "detection":
            if shape is None:
                raise ValueError("the shape of an image is needed to learn how many classes the network answers")
            networks = [network.to(device) for network in networks]
            wrap, classes, told = answering(networks[0], self.settings, self.task, shape, device)
            networks = [wrap(network) for network in networks]
            notes += told
        else:
            refuse_windows_of(networks[0], self.settings)
        module = deployed(networks, self.settings).to(device)
        set_evaluation(module)
        model = self._wrapped(module, classes, shape)
        attacked = model
        if profile is not None:
            if shape is None:
                raise ValueError("a profile is tried on an image of a shape, and none was given")
            attacked = with_profile(model, profile, shape)
        members = tuple(hashes) if len(hashes) > 1 else ()
        identity = Identity(hashes[0], origin.program, parameters, members, origin.code)
        return Victim(model, attacked, identity, tuple(dict.fromkeys(notes)))

    def _named(self, name: str, device: torch.device, shape: tuple[int, ...] | None, profile: Profile | None) -> Victim:
        try:
            return replace(self, settings=self.victims[name], victims={}).load(device, shape, profile)
        except SpecError as error:
            raise SpecError(f"victims.{name}: {error}") from None

    def members(self) -> tuple[list[nn.Module], list[str], "Origin", list[str]]:
        """The networks of all members, the hash of each one's weights, where they come from, and what was understood."""
        settings, files = self.settings, self.settings.weight_files
        first, origin = _network(settings, self.base, self.trust_code)
        if not files:
            if origin.program is None:
                raise SpecError("victim.weights is missing: an untrained network is no victim")
            return [first], [origin.program], origin, []
        if self.task == "detection" and len(files) > 1:
            raise SpecError(f"victim.weights names {len(files)} files, whose logits would be averaged; task detection takes one")
        networks = [first, *(_network(settings, self.base, self.trust_code)[0] for _ in files[1:])]
        loaded = [load_weights(network, settings, self.base / file) for network, file in zip(networks, files, strict=True)]
        return networks, [each.sha256 for each in loaded], origin, [each.note for each in loaded if each.note]

    def _wrapped(self, module: Normalized, classes: int, shape: tuple[int, ...] | None) -> TaskModel:
        settings = self.settings
        if self.task == "detection":
            return detector_of(module, settings.score_threshold, x_first=self.x_first)
        assert shape is not None
        # One value for two classes is answered as two, of which the first is always 0.
        head, classes = ("softmax", 2) if settings.head == "binary" else (settings.head, classes)
        if self.task == "classification":
            return Classifier(module, head, classes)
        return Segmenter(module, head, classes, len(shape) - 1)


def is_program(name: str) -> bool:
    """Whether a spec's `network` names a file that is the network itself."""
    return name.partition(":")[0] not in ("python", *FAMILIES) and Path(name).suffix in PROGRAMS


@dataclass(frozen=True)
class Origin:
    """SHA-256 of what a network came from: of the file that is the program, or of the code of the factory that built it."""

    program: str | None = None
    code: str | None = None


def _network(settings: VictimSettings, base: Path, trust_code: bool) -> tuple[nn.Module, Origin]:
    """The network, and what it came from."""
    name = settings.network
    if name.startswith("python:"):
        network, code = from_factory(name, settings, base, trust_code)
        return network, Origin(code=code)
    if is_program(name):
        path = base / name
        if not path.is_file():
            raise SpecError(f"victim.network: no such file {path}")
        network, program = from_program(path, trust_code)
        return network, Origin(program)
    return build_network(name, settings.arguments), Origin()


def detector_of(module: Normalized, score_threshold: float, *, x_first: bool) -> Detector:
    """A detector of torchvision or MONAI as a victim.

    x_first: whether image tensors are (C, x, y[, z]) as CT is. Stored boxes have x first in any case; torchvision's boxes belong to (y, x)
    tensors, MONAI's follow the tensor.
    """
    if any(isinstance(part, Crop) for part in module.normalize.modules()):
        raise SpecError("victim.normalize: crop differs from image to image, and boxes cannot follow it; leave it out for task detection")
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


def answering(
    network: nn.Module, settings: VictimSettings, task: str, stored: tuple[int, ...], device: torch.device
) -> tuple[Callable[[nn.Module], nn.Module], int, list[str]]:
    """How a classifier or segmenter becomes a network of one output, its classes, and what was understood, from a pass over an empty image.

    stored: shape of an image, (C, *spatial).  Raises SpecError where network and shape do not fit.
    """
    shape = _piece(settings, stored)
    inputs = _tried(lambda images: _network_input(settings, images), settings, shape, device)
    grid = tuple(inputs.shape[2:])
    if beyond := [axis for axis in settings.mirror or () if axis >= len(grid)]:
        of = "a slice" if settings.slicewise else "an image"
        raise SpecError(f"victim.mirror={list(settings.mirror or ())}: {of} has the axes 0 to {len(grid) - 1}; leave {beyond[0]} out")
    outputs = _tried(lambda _: network(inputs), settings, shape, device)
    key = settings.output
    try:
        key = key_of(outputs, grid, task) if key is None else key
        logits = entry(outputs, key)
    except KeyError:
        raise SpecError(f"victim.output={key!r}: the network answers no such thing, but a {type(outputs).__name__}") from None
    except ValueError as error:
        raise SpecError(f"victim: {error}") from None
    notes = [] if key is None or settings.output is not None else [f"output {key!r} of the network is taken for its logits"]
    coarser = task == "segmentation" and isinstance(logits, Tensor) and is_coarser(logits, grid)
    if coarser:
        notes.append(f"logits of {list(logits.shape[2:])} are brought to the image's {list(grid)} linearly")
    fits = isinstance(logits, Tensor) and (logits.ndim == 2 if task == "classification" else coarser or logits.shape[2:] == grid)
    if not fits:
        got = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        form = f"(n, K) for an image of shape {list(shape)}" if task == "classification" else f"(n, K, {', '.join(map(str, grid))})"
        raise SpecError(f"victim: the network answers {got}; task {task} needs logits {form}")
    if settings.head == "binary" and logits.shape[1] != 1:
        raise SpecError(f"victim.head=binary is for networks of one value, and this one answers {logits.shape[1]}: take softmax or sigmoid")
    if is_program(settings.network):
        windows_alone = (settings.window is not None or settings.slicewise) and settings.window_batch == 1
        check_answers(lambda images: entry(network(images), key), settings.network, inputs, windows_alone)
    plain = key is None and not coarser
    return (lambda one: one) if plain else (lambda one: Answer(one, key, to_grid=coarser)), int(logits.shape[1]), notes


def _network_input(settings: VictimSettings, images: Tensor) -> Tensor:
    """What of images (n, C, *spatial) the network sees at once."""
    inputs: Tensor = normalization(settings).to(images.device)(images)
    if settings.slicewise:
        inputs = inputs.movedim(2, 1).flatten(0, 1)[:1]
    return inputs if settings.window is None else inputs.new_zeros(1, inputs.shape[1], *settings.window)


def try_shape(victim: Victim, settings: VictimSettings, stored: tuple[int, ...], device: torch.device) -> None:
    """Whether a victim takes images of another shape, (C, *spatial), than it was loaded for.  Raises SpecError where it does not."""
    _tried(victim.attacked.module, settings, _piece(settings, stored), device)


def _piece(settings: VictimSettings, stored: tuple[int, ...]) -> tuple[int, ...]:
    """What of a stored image is tried: see `Normalized.piece`."""
    try:
        return deployed([nn.Identity()], settings).piece(stored)
    except ValueError as error:
        raise SpecError(f"victim.{error}") from None


def _tried(module: Callable[[Tensor], Any], settings: VictimSettings, shape: tuple[int, ...], device: torch.device) -> Any:
    """What an empty image of a shape is answered."""
    try:
        with torch.no_grad():
            return module(torch.zeros(1, *shape, device=device))
    except Exception as error:  # whatever the network raises, the user learns that image and network do not fit
        normalize = settings.normalize
        means = normalize.mean if isinstance(normalize, NormalizeSettings) else None
        if is_program(settings.network) and Path(settings.network).suffix == EXPORTED and "size()[0] ==" in str(error):
            raise SpecError(f"victim.network: {settings.network} was exported for a batch of another size than 1: {DYNAMIC}") from None
        odd = f" (victim.normalize has {len(means)} means for {shape[0]} channels)" if means and len(means) != shape[0] else ""
        raise SpecError(
            f"victim: the network does not take an image of shape {list(shape)} (channels first){odd}: {first_line(error)}"
        ) from None
