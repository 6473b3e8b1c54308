"""What does a first spec say? A guess as a commented run spec, to go on from."""

import json
import os
from pathlib import Path
from typing import Any, get_args

import yaml

from medadv.datasets.guess import FIRST_LOOKS
from medadv.datasets.guessed import Guess
from medadv.spec.data import Task
from medadv.spec.modality import MODALITIES
from medadv_transforms.colour import PICTURE_RULES

MOST_OF_A_NOTE = 300


def spec_text(found: Guess, base: str, name: str) -> str:
    """The spec as YAML with comments; every value that a folder cannot tell is marked."""
    look, unit = FIRST_LOOKS[found.modality], MODALITIES[found.modality].unit
    preprocess, normalize, epsilon = look.preprocess, look.normalize, look.epsilon
    if found.pictures and look.as_pictures is not None:
        (preprocess, normalize, epsilon), unit = look.as_pictures, "grey levels"
    if found.volumes:
        preprocess = "preprocess: {orientation: RAS}   # <- and spacing: [x, y, z] in mm, as in training"
    lines = [
        "# Written by medadv init after a look at the folder; every line is a guess until you have read it.",
        f"name: {_safe(name)}",
        "data:",
        f"  modality: {found.modality}            # {'<- ' if found.unsure else ''}{' | '.join(MODALITIES)}",
        f"  task: {found.task}{'            # <- ' + ' | '.join(get_args(Task)) if found.task_unsure else ''}",
        f"  layout: {found.layout}",
        f"  path: {_quoted(base if found.path == '.' else f'{base}/{found.path}')}   # relative to this file",
        *(f"  {key}: {_value(value)}" for key, value in found.settings.items()),
        *(f"  # {_printable(note)}" for note in found.notes),
        *([] if "group" in found.settings else ["  # group: patient           # column of the patient, so that none crosses splits"]),
        '  licence: "not stated"      # <- licence of the images; it goes into the manifest',
        preprocess,
        "victim:                      # <- the model to attack; manifests/README.md of medadv's repository lists the ways to name one",
        *(f"  {line}" for line in _victim(found)),
        "  weights: victim.safetensors   # <- safetensors or state dict, relative to this file",
        f"  {normalize}",
        f"attacks:                     # epsilon in {unit}",
        *(f"  {kind}-{epsilon}: {{attack: {kind}, epsilon: {epsilon}, steps: 10}}" for kind in ("pgd", "smia")),
        f"output: corpora/{_safe(name)}",
    ]
    return "\n".join(lines) + "\n"


def _victim(found: Guess) -> list[str]:
    channels = PICTURE_RULES[found.modality].channels
    if found.task == "segmentation":
        inner = "channels: [16, 32, 64, 128, 256], strides: [2, 2, 2, 2], num_res_units: 2"
        return ["network: monai:unet", f"arguments: {{spatial_dims: 2, in_channels: {channels}, out_channels: {found.classes}, {inner}}}"]
    if found.volumes:
        anchors = "base_anchor_shapes: [[6, 8, 4], [8, 6, 5], [10, 10, 6]], backbone: resnet50, conv1_t_stride: [2, 2, 1]"
        return ["network: monai:retinanet", f"arguments: {{spatial_dims: 3, in_channels: 1, num_classes: {found.classes - 1}, {anchors}}}"]
    if found.task == "detection":
        return ["network: torchvision:fcos_resnet18_fpn_gn", f"arguments: {{num_classes: {found.classes}, size: 256}}"]
    return [
        "network: monai:resnet18",
        f"arguments: {{spatial_dims: 2, n_input_channels: {channels}, num_classes: {found.classes}}}",
    ]


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_value(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return _quoted(str(value))


def _quoted(text: str) -> str:
    """As YAML reads it back: what it would take for a number, a date or a truth is quoted."""
    plain = text.replace("/", "").replace("_", "").replace("-", "").replace(".", "").isalnum() and text.isascii()
    try:
        return text if plain and yaml.safe_load(text) == text else json.dumps(text)
    except (yaml.YAMLError, ValueError):
        return json.dumps(text)


def _printable(note: str) -> str:
    return "".join(c if c.isprintable() else " " for c in note)[:MOST_OF_A_NOTE]


def _safe(name: str) -> str:
    cleaned = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in name).lstrip("._-")
    return cleaned[:100] or "corpus"


def way_between(start: Path, end: Path) -> str:
    """The way from one folder to another, as specs have their paths."""
    return Path(os.path.relpath(end, start)).as_posix()
