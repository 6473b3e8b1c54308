"""What a victim from nnU-Net's folder answers, beside the same prediction written out: read, turn, crop, normalise, tile, mirror."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, product
from math import ceil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from scipy.ndimage import gaussian_filter
from tests.victims.nnunet_folders import INTENSITIES, REGIONS, Training, write_volume
from torch import Tensor, nn

from medadv.common.errors import SpecError
from medadv.datasets.reader import Reader
from medadv.datasets.source import Source
from medadv.victims.importers.resolve import imported_folder, read_spec
from medadv.victims.loading import VictimRequest
from medadv.victims.sources.registry import build_network

pytest.importorskip("dynamic_network_architectures", reason="pip install 'medadv[nnunet]'")

FULL = Training()
FLAT = Training(configuration="2d", patch=(16, 24), spacing=(1.5, 1.0), mirror=(0, 1), folds=("all",))
CASES = {
    "folds": (replace(FULL, folds=(0, 1), mirror=(0, 2)), "LPS", 2),
    "transposed": (replace(FULL, transpose=(2, 0, 1), spacing=(1.0, 2.5, 1.5)), "LPS", 0),
    "regions, reoriented, not mirrored": (
        Training(network="ResidualEncoderUNet", labels=REGIONS, order=(1, 2, 3), reader="NibabelIOWithReorient", mirror=None),
        "LPS",
        1,
    ),
    "2d": (FLAT, "RAS", 1),
    "old plans": (replace(FULL, old=True), "RAS", 0),
}


def spec_for(folder: Path, training: Training, **victim: Any) -> Path:
    training.written(folder / "model")
    spec = {
        "name": "nnunet",
        "data": {"layout": "nnunet", "path": "."},
        "victim": {"nnunet": "model", **victim},
        "attacks": {"fgsm-4": {"attack": "fgsm", "epsilon": 4}},
        "output": "corpus",
    }
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec))
    return folder / "spec.yaml"


@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_the_prediction_written_out(name: str, tmp_path: Path) -> None:
    training, codes, border = CASES[name]
    file = write_volume(tmp_path / "case_0000.nii.gz", (17, 22, 9), (1.0, 1.5, 2.5), codes, 5, border)
    spec, _ = read_spec(spec_for(tmp_path, training))
    image = Reader(tmp_path, spec.data, spec.preprocess).read(Source((file.name,), None)).image
    victim = VictimRequest(spec.victim, spec.data.task, tmp_path, x_first=True).load(torch.device("cpu"), image.shape)
    module: Any = victim.scored.module
    with torch.no_grad():
        own = module(torch.from_numpy(image.astype(np.float32))[None])[0].numpy()
    wanted = written_out(training, next((tmp_path / "model").iterdir()), file)
    inside = ~np.isnan(wanted)
    assert inside.all() == (border == 0)
    assert np.abs(own - wanted)[inside].max() <= 1e-5 * np.abs(wanted[inside]).max()
    outside = own[:, ~inside[0]]
    assert (outside < 0).all() if training.labels is REGIONS else (outside.argmax(0) == 0).all()


def test_what_the_spec_says_wins(tmp_path: Path) -> None:
    path = spec_for(tmp_path, FULL, overlap=0.25, normalize={"window": [-100, 300]})
    spec, notes = read_spec(path, ["preprocess.spacing=null", "data.classes=[liver, tumour]"])
    assert (spec.victim.overlap, spec.victim.window) == (0.25, (8, 16, 16))
    assert (spec.preprocess.spacing, spec.data.classes, spec.data.task) == (None, ["liver", "tumour"], "segmentation")
    assert spec.victim.weights == str(Path("model", "nnUNetTrainer__nnUNetPlans__3d_fullres", "fold_0", "checkpoint_final.pth"))
    mapped, _ = read_spec(path, ["data.label_map={tumour: [2], liver: [1]}"])
    assert (mapped.data.classes, list(mapped.data.label_map or {})) == (["tumour", "liver"], ["tumour", "liver"])
    assert notes[0].startswith("victim: nnU-Net: 3d_fullres of nnUNetTrainer__nnUNetPlans__3d_fullres (nnUNetTrainer), fold_0")


def test_a_folder_is_known_by_what_lies_in_it(tmp_path: Path) -> None:
    model = FULL.written(tmp_path)
    assert imported_folder(tmp_path).victim == imported_folder(model).victim
    assert imported_folder(model).victim["network"] == "nnunet:PlainConvUNet"


def test_what_is_wrong_names_the_key(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"spec.yaml: victim.nnunet: fold 4 has no checkpoint_final.pth in .*; there are folds 0"):
        read_spec(spec_for(tmp_path, FULL, fold=4))


def written_out(training: Training, model: Path, file: Path) -> Any:
    """Logits (K, x, y, z) on the grid that the reader gives, NaN where the crop left nothing to see."""
    image: Any = nib.load(file)
    image = nib.as_closest_canonical(image) if training.reader.endswith("WithReorient") else image
    array = np.asarray(image.dataobj).astype(np.float32).transpose(2, 1, 0).transpose(training.transpose)
    box = tuple(slice(int(held.min()), int(held.max()) + 1) for held in np.nonzero(array))
    low, high = INTENSITIES["percentile_00_5"], INTENSITIES["percentile_99_5"]
    seen = (np.clip(array[box], low, high) - np.float32(INTENSITIES["mean"])) / np.float32(INTENSITIES["std"])
    logits = np.mean([stitched(training, network_of(training, model, fold), seen) for fold in training.folds], 0)
    whole = np.full((len(logits), *array.shape), np.nan, np.float32)
    whole[(slice(None), *box)] = logits
    back = np.argsort(training.transpose)
    return whole.transpose(0, *(1 + back)).transpose(0, 3, 2, 1)


def network_of(training: Training, model: Path, fold: int | str) -> nn.Module:
    network = build_network(f"nnunet:{training.network}", {"input_channels": 1, "num_classes": training.heads, **training.arch})
    network.load_state_dict(torch.load(model / f"fold_{fold}" / "checkpoint_final.pth", weights_only=False)["network_weights"])
    return network.eval()


def stitched(training: Training, network: nn.Module, seen: Any) -> Any:
    """The mean of all tiles, weighted by nnU-Net's Gaussian; a 2D network takes one slice after the other."""
    if len(training.patch) == seen.ndim - 1:
        return np.stack([stitched(training, network, picture) for picture in seen], 1)
    sides = [max(0, tile - length) for tile, length in zip(training.patch, seen.shape, strict=True)]
    padded = np.pad(seen, [(side // 2, side - side // 2) for side in sides])
    peak = np.zeros(training.patch)
    peak[tuple(tile // 2 for tile in training.patch)] = 1
    weight = gaussian_filter(peak, [tile / 8 for tile in training.patch], mode="constant")
    weight = (10 * weight / weight.max()).astype(np.float16)
    weight[weight == 0] = weight[weight > 0].min()
    total, count = np.zeros((training.heads, *padded.shape), np.float32), np.zeros(padded.shape, np.float32)
    for corner in product(*(starts(length, tile) for length, tile in zip(padded.shape, training.patch, strict=True))):
        place = tuple(slice(at, at + tile) for at, tile in zip(corner, training.patch, strict=True))
        total[(slice(None), *place)] += mirrored(network, padded[place], training.mirror or ()) * weight
        count[place] += weight
    answer = total / count
    return answer[(slice(None), *(slice(s // 2, s // 2 + n) for s, n in zip(sides, seen.shape, strict=True)))]


def starts(length: int, tile: int) -> list[int]:
    number = ceil((length - tile) / (tile * 0.5)) + 1
    return [round(index * (length - tile) / max(1, number - 1)) for index in range(number)]


def mirrored(network: nn.Module, picture: Any, axes: Sequence[int]) -> Any:
    """The mean over every combination of mirrored axes, none included."""
    chosen = [combination for size in range(len(axes) + 1) for combination in combinations(axes, size)]
    image: Tensor = torch.from_numpy(picture.copy())[None, None]
    with torch.no_grad():
        each = [network(image.flip([2 + a for a in axes])).flip([2 + a for a in axes]) for axes in chosen]
    return torch.stack(each).mean(0)[0].numpy()
