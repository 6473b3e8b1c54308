"""Boxes of a detector follow how images are stored, from the plan to the evidence; the normalisation has no say."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.conftest import quiet, save_victim

from medadv.datasets.sample import Shape
from medadv.evidence.reproduce import reproduce
from medadv.evidence.rescore import rescore
from medadv.prepare.request import Options
from medadv.run.run import run
from medadv.spec.reading import load_spec
from medadv.victims.loading import VictimRequest

pytestmark = pytest.mark.usefixtures("inline")

ARGUMENTS = {"spatial_dims": 2, "in_channels": 1, "num_classes": 1, "base_anchor_shapes": [[9, 24]], "backbone": "resnet10"}


def project(folder: Path, normalize: dict[str, Any]) -> Path:
    """A CT picture of 48 x 32 with a box, and a random detector."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 48), np.uint8)).save(folder / "0.png")
    entry = {"id": 0, "file_name": "0.png", "width": 48, "height": 32}
    box = {"id": 1, "image_id": 0, "category_id": 1, "bbox": [4, 3, 24, 9]}
    labels = {"images": [entry], "annotations": [box], "categories": [{"id": 1, "name": "nodule"}]}
    (folder / "labels.json").write_text(json.dumps(labels))
    weights = load_file(save_victim(folder / "victim.safetensors", "monai:retinanet", ARGUMENTS))
    # Untrained, it takes everything for background.
    changed = {key: value * 0 if key.endswith("cls_logits.bias") else value for key, value in weights.items()}
    save_file(changed, folder / "victim.safetensors")
    victim = {"network": "monai:retinanet", "arguments": ARGUMENTS, "weights": "victim.safetensors", "normalize": normalize}
    spec = {
        "name": "axes",
        "data": {"modality": "ct", "task": "detection", "layout": "coco", "path": "labels.json"},
        "victim": victim,
        "attacks": {"a": {"attack": "fgsm", "epsilon": 2}},
        "execution": {"workers": 1},
        "sanity_samples": 0,
        "output": "corpus",
    }
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec))
    return folder / "spec.yaml"


@pytest.mark.parametrize("normalize", [{"window": [0, 255]}, {"mean": [0.5], "std": [0.25]}])
def test_a_window_on_pictures_turns_no_boxes(tmp_path: Path, normalize: dict[str, Any]) -> None:
    path = project(tmp_path, normalize)
    result = run(path, Options(), quiet)
    spec = load_spec(path)
    judge = VictimRequest(spec.victim, "detection", tmp_path, x_first=False).load(torch.device("cpu")).scored
    with h5py.File(next((result.corpus / "shards").glob("*.h5"))) as file:
        assert file.attrs["spatial_axes"] == "yx"
        stored, images, sample = file["attacks/a/prediction_clean/boxes"][...], file["image"][...], bytes(file["sample_id"][0]).decode()
    expected = judge.predict(torch.from_numpy(images.astype(np.float32)))[0].answer
    np.testing.assert_allclose(stored, expected.boxes, atol=0.01)  # type: ignore[union-attr]
    # They reach further along x, the longer axis, than y is long.
    assert len(stored)
    assert stored[:, 2].max() > 32
    assert stored[:, 3].max() <= 32
    assert reproduce(result.corpus, sample).equal
    assert rescore(result.corpus, [], False, quiet) == []


def test_grids_are_x_first_whatever_normalises_them() -> None:
    assert [Shape((1, 8, 8), unit, axes).x_first for unit, axes in (("hu", "xy"), ("hu", "xyz"), ("level8", "yx"))] == [True, True, False]
