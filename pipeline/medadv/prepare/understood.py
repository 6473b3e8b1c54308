"""What is a victim understood as? Network, steps, window, head and classes in words, and its answer to one image; nothing is written."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medadv.attacks.untouched import untouched
from medadv.common.errors import SpecError
from medadv.common.record import Json
from medadv.datasets.labels import Array, Boxes
from medadv.datasets.layouts import list_samples
from medadv.datasets.reader import Reader
from medadv.datasets.sample import Sample
from medadv.spec.data import DataSettings, class_names
from medadv.spec.modality import MODALITIES
from medadv.spec.normalize import described
from medadv.spec.run_spec import RunSpec
from medadv.spec.victim import VictimSettings
from medadv.victims.importers.resolve import imported_folder, read_imports
from medadv.victims.loading import VictimRequest
from medadv.victims.sources.checkpoint import read_checkpoint
from medadv.victims.sources.matching import dictionaries
from medadv.victims.tasks.classification import Classifier
from medadv.victims.tasks.segmentation import Segmenter
from medadv.victims.victim import Victim
from medadv_transforms import InputError

SPECS = (".yaml", ".yml")
TRIED = 8
"""Samples of which one must be readable."""
NAMES = 3


@dataclass(frozen=True)
class Understood:
    """facts: what was understood, in the order to show it in; values are texts, numbers, or lists of texts."""

    facts: dict[str, Json]
    notes: tuple[str, ...]


def understood(target: Path, overrides: Sequence[str] = (), trust_code: bool = False) -> Understood:
    """A victim in words.

    target: a run spec, whose first readable image the victim is asked about; the folder of a MONAI bundle or of nnU-Net; or a checkpoint,
    whose dictionaries of tensors are listed.  overrides: `key=value` settings of a run spec.

    Raises SpecError where the target is none of these, or does not fit together.
    """
    if target.is_dir():
        return _of_folder(target, trust_code)
    if target.suffix.lower() in SPECS or not target.exists():
        return _of_spec(target, overrides, trust_code)
    return _of_checkpoint(target)


def _of_spec(path: Path, overrides: Sequence[str], trust_code: bool) -> Understood:
    spec, imported = read_imports(path, overrides, trust_code)
    base = path.resolve().parent
    file, sample = _first_sample(spec, base)
    image: dict[str, Json] = {"image": f"{file.name}, {_shape(sample.image.shape)} {sample.image.dtype}, axes {sample.spatial_axes}"}
    facts: dict[str, Json] = {}
    said: list[str] = []
    for key, settings in spec.named_victims.items():
        victim = VictimRequest(settings, spec.data.task, base, trust_code, sample.x_first).load(torch.device("cpu"), sample.image.shape)
        own: dict[str, Json] = {
            **_settings(settings, spec.data.task, MODALITIES[spec.data.modality].unit),
            **_identity(victim, settings),
            "classes": _classes(victim, spec.data),
            **image,
            **_answer(victim, sample),
        }
        before = f"{key}: " if spec.victims else ""
        facts |= {before + name: value for name, value in own.items()}
        said += [before + note for note in victim.notes]
    notes = [note for found in imported.values() for note in found.notes]
    if "victim" in imported and (original := imported["victim"].original) is not None:
        try:
            facts["logits of its own tool"] = [_spread(original(file))]
        except SpecError as error:
            notes.append(str(error))
    return Understood(facts, (*notes, *said))


def _of_folder(folder: Path, trust_code: bool) -> Understood:
    found = imported_folder(folder, trust_code)
    settings = VictimSettings.model_validate(dict(found.victim))
    task = str(found.data.get("task", "segmentation"))
    request = VictimRequest(settings, task, folder, trust_code)
    rules = MODALITIES.get(found.data.get("modality"))  # type: ignore[call-overload]
    unit = "units" if rules is None else rules.unit
    missing = [file for file in settings.weight_files if not (folder / file).is_file()]
    matched: dict[str, Json] = {}
    notes: list[str] = []
    if not missing:
        networks, hashes, _, notes = request.members()
        matched = {
            "weights": [f"{Path(file).name}, SHA-256 {sha256}" for file, sha256 in zip(settings.weight_files, hashes, strict=False)],
            "parameters": sum(p.numel() for p in networks[0].parameters()),
        }
    facts = {
        **_settings(settings, task, unit),
        **matched,
        **{f"data.{key}": value for key, value in found.data.items() if key != "task"},
        **{f"preprocess.{key}": value for key, value in found.preprocess.items()},
    }
    return Understood(facts, (*found.notes, *notes))


def _of_checkpoint(path: Path) -> Understood:
    held = [(".".join(place) or "(top)", tensors) for place, tensors in dictionaries(read_checkpoint(path))]
    if not held:
        raise SpecError(f"{path}: holds no dictionary of tensors; give a run spec, a folder of a bundle or nnU-Net, or a checkpoint")
    facts: dict[str, Json] = {
        name: f"{len(tensors)} tensors, {sum(t.numel() for t in tensors.values())} values: {', '.join(list(tensors)[:NAMES])}, …"
        for name, tensors in held
    }
    return Understood(facts, ())


def _settings(settings: VictimSettings, task: str, unit: str) -> dict[str, Json]:
    """What the spec's own words say, defaults included."""
    window: Json = "none: whole images"
    if settings.window is not None:
        window = (
            f"{list(settings.window)}, overlap {settings.overlap:g}, {settings.window_mode}, padded {settings.window_padding}, "
            f"places as {settings.window_places}, {settings.window_batch} at a time"
        )
    extras: dict[str, Json] = {}
    if settings.mirror:
        extras["mirrored"] = f"over axes {list(settings.mirror)}, mean of {2 ** len(settings.mirror)}"
    if settings.slicewise:
        extras["slicewise"] = "a 2D network, slice by slice along the first axis"
    if task != "detection":
        # Detectors have heads of their own.
        extras["head"] = settings.head + ("" if settings.activation == "none" else f", answered after a {settings.activation}")
    return {
        "task": task,
        "network": settings.network,
        "arguments": settings.arguments,
        "input": [f"stored {unit}", *described(settings.normalize)],
        "window": window,
        **extras,
    }


def _identity(victim: Victim, settings: VictimSettings) -> dict[str, Json]:
    identity = victim.identity
    hashes = identity.members or (identity.weights_sha256,)
    files = settings.weight_files or [settings.network]
    return {
        "weights": [f"{Path(file).name}, SHA-256 {sha256}" for file, sha256 in zip(files, hashes, strict=True)],
        "parameters": identity.parameters,
    }


def _classes(victim: Victim, data: DataSettings) -> Json:
    """How many classes the victim answers, and their names where the spec has them."""
    count = int(getattr(victim.scored, "classes", 0))
    names = class_names(data)
    # Masks of one of several classes count from the background.
    names = ["background", *names] if len(names) == count - 1 else names
    return f"{count}" + (f": {', '.join(names)}" if names else "")


def _first_sample(spec: RunSpec, base: Path) -> tuple[Path, Sample]:
    """File and content of the first sample that can be read; of a series its first file."""
    listing = list_samples(spec.data, base)
    reader = Reader(listing.root, spec.data, spec.preprocess, spec.victim.head == "sigmoid")
    problem = ""
    for source in listing.sources[:TRIED]:
        try:
            part = reader.expand(source)
            chosen = part[len(part) // 2]
            return listing.root / chosen.images[0], reader.read(replace(chosen, label=None))
        except (InputError, OSError) as error:
            problem = problem or f": {source.images[0]}: {error}"
    raise SpecError(f"data.path={spec.data.path}: no image of it can be read{problem}")


def _answer(victim: Victim, sample: Sample) -> dict[str, Json]:
    """The logits of one image, and what they answer."""
    image = torch.from_numpy(sample.image[None].astype(np.float32))
    judge = victim.scored
    with untouched(judge.module), torch.no_grad():
        outputs = [tensor.float() for tensor in judge.tensors(judge.forward(image))]
    if isinstance(judge, Classifier | Segmenter):
        # Not asked a second time: a volume may take minutes.
        said = _counted((outputs[0].argmax(1) if judge.head == "softmax" else outputs[0] > 0)[0].numpy())
    else:
        found = judge.predict(image)[0].answer
        assert isinstance(found, Boxes)
        said = f"{len(found.boxes)} boxes"
    return {
        "logits": [_spread(each) for each in outputs],
        "answer": said,
    }


def _spread(logits: Tensor) -> str:
    return f"{_shape(logits.shape)}, {float(logits.min()):.5g} to {float(logits.max()):.5g}, mean {float(logits.mean()):.5g}"


def _counted(answer: Array) -> str:
    if answer.size == 1:
        return f"class {int(answer.item())}"
    values, counts = np.unique(answer, return_counts=True)
    shares = zip(values.tolist(), counts.tolist(), strict=True)
    return ", ".join(f"{value}: {count / answer.size:.2%}" for value, count in shares)


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
