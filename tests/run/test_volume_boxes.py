"""Detection in volumes through a whole run: boxes in space, windows of the detector, evidence, report, export, and MONAI's own way back."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from monai.apps.detection.transforms.dictionary import (
    AffineBoxToImageCoordinated,
    AffineBoxToWorldCoordinated,
    ConvertBoxModed,
    RandFlipBoxd,
)
from monai.data.decathlon_datalist import load_decathlon_datalist
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged
from safetensors.torch import save_file
from tests.conftest import quiet
from tests.victims.test_sliding_maps import ARGUMENTS as SMALL
from torch import nn

from medadv.datasets.labels import Boxes
from medadv.datasets.layouts import list_samples
from medadv.datasets.reader import Reader
from medadv.datasets.space_boxes import in_space
from medadv.evidence.reproduce import reproduce
from medadv.evidence.rescore import rescore
from medadv.evidence.verify import verify
from medadv.export.export import Request, export
from medadv.prepare.request import Options
from medadv.report.page import write_report
from medadv.run.run import Result, run
from medadv.spec.reading import load_spec
from medadv.training.boxes import BoxesToTensorAxesd, BoxesToXFirstd
from medadv.training.collate import collate
from medadv.training.dataset import CorpusDataset
from medadv.victims.loading import VictimRequest
from medadv.victims.sources.retinanet import retinanet

pytestmark = [pytest.mark.usefixtures("inline"), pytest.mark.filterwarnings("ignore:NvImgCodec")]

ARGUMENTS: dict[str, Any] = {**SMALL, "detections_per_img": 20}
AFFINE = np.array([[-1.5, 0, 0, 90.0], [0, -1.2, 0, -40.0], [0, 0, 2.0, -300.0], [0, 0, 0, 1]])
# One smaller than a window; two of more voxels, the second padded to the detector's strides.
SHAPES = [(16, 16, 6), (24, 18, 9), (24, 18, 9)]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Volumes with noise, a random detector whose windows are small, and as truth what it finds surest; the last volume has no box."""
    folder = tmp_path_factory.mktemp("boxes")
    (folder / "data").mkdir()
    torch.manual_seed(0)
    detector = retinanet(**ARGUMENTS)
    nn.init.zeros_(detector.network.classification_head.cls_logits.bias)
    save_file(detector.network.state_dict(), folder / "victim.safetensors")
    records: list[dict[str, Any]] = []
    for index, shape in enumerate(SHAPES):
        volume = np.random.default_rng(index).normal(-300, 400, shape).clip(-1000, 900).astype(np.int16)
        nib.save(nib.Nifti1Image(volume, AFFINE), folder / "data" / f"{index}.nii.gz")
        records.append({"image": f"{index}.nii.gz", "box": [], "label": [], "patient": f"p{index}"})
    labels = folder / "data" / "dataset.json"
    labels.write_text(json.dumps({"training": records}))
    spec = {
        "name": "nodules",
        "data": {
            "modality": "ct",
            "task": "detection",
            "layout": "decathlon",
            "path": "data/dataset.json",
            "group": "patient",
            "classes": ["nodule", "scar"],
        },
        "preprocess": {"orientation": "RAS"},
        "victim": {
            "network": "monai:retinanet",
            "arguments": ARGUMENTS,
            "weights": "victim.safetensors",
            "normalize": [{"scale": [-1024, 300, 0, 1], "clip": True}],
            "window": [16, 16, 8],
            "window_batch": 2,
        },
        "attacks": {"pgd-60": {"attack": "pgd", "epsilon": 60, "step": 20, "steps": 2}},
        "execution": {"batch_size": 1, "shard_size": 2, "workers": 1},
        "sanity_samples": 0,
        "output": "corpus",
    }
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(spec))
    settings = load_spec(path)
    judge = VictimRequest(settings.victim, "detection", folder, x_first=True).load(torch.device("cpu")).scored
    reader = Reader(folder / "data", settings.data, settings.preprocess)
    for record, source in zip(records[:2], list_samples(settings.data, folder).sources, strict=False):
        sample = reader.read(source)
        answer = judge.predict(torch.from_numpy(sample.image[None].astype(np.float32)))[0].answer
        assert isinstance(answer, Boxes)
        assert sample.affine is not None
        record["box"] = in_space(Boxes(answer.boxes[:2], answer.classes[:2]), sample.affine)
        record["label"] = (answer.classes[:2] - 1).tolist()
    labels.write_text(json.dumps({"training": records}))
    return folder


@pytest.fixture(scope="module")
def result(project: Path) -> Result:
    return run(project / "spec.yaml", Options(), quiet)


def test_a_corpus_of_volumes_with_boxes_holds(project: Path, result: Result, tmp_path: Path) -> None:
    manifest = result.manifest
    assert (result.exit_code, manifest.samples) == (0, 3)
    assert verify(result.corpus) == []
    assert rescore(result.corpus, [], False, quiet) == []
    again = reproduce(result.corpus, None, data=project / "data")
    assert (again.origin, again.equal) == ("sources", True)
    # What its maker publishes, and the weights, are enough.
    published = tmp_path / "published"
    shutil.copytree(result.corpus, published, ignore=shutil.ignore_patterns(".medadv"))
    assert reproduce(published, None, weights=[project / "victim.safetensors"]).equal
    figures = manifest.metrics["pgd-60"]
    assert figures.metric == "ap50"
    # The truth is what the victim finds, and the attack makes it lose some.
    assert figures.all["ap50"]["clean"] > figures.all["ap50"]["adversarial"]
    classes, offsets = [], []
    for entry in manifest.shards:
        with h5py.File(result.corpus / entry.path) as file:
            assert file.attrs["spatial_axes"] == "xyz"
            assert file["label/boxes"].shape[1] == file["attacks/pgd-60/prediction_clean/boxes"].shape[1] == 6
            classes += file["label/classes"][...].tolist()
            offsets += np.diff(file["label/offsets"][...]).tolist()
    assert sorted(offsets) == [0, 2, 2]
    assert set(classes) <= {1, 2}


@pytest.mark.parametrize("grid", ["stored", "native"])
def test_exported_boxes_are_read_back_by_monai_and_by_the_layout(project: Path, result: Result, tmp_path: Path, grid: str) -> None:
    export(result.corpus, Request("nifti", tmp_path / "out", clean=True, grid=grid), quiet)
    stored = {item["sample_id"]: item for item in CorpusDataset(result.corpus, mode="clean")}  # type: ignore[attr-defined]
    records = load_decathlon_datalist(str(tmp_path / "out" / "dataset.json"), True, "training", base_dir=str(tmp_path / "out"))
    assert len(records) == 6
    bundle = Compose(
        [
            LoadImaged("image"),
            EnsureChannelFirstd("image"),
            ConvertBoxModed("box", "cccwhd", "xyzxyz"),
            AffineBoxToImageCoordinated("box", "image", affine_lps_to_ras=True),
        ]
    )
    for record in records:
        item, kept = bundle({**record, "box": np.reshape(record["box"], (-1, 6))}), stored[record["sample"]]
        boxes = torch.as_tensor(kept["boxes"]).as_subclass(torch.Tensor)
        if grid == "native":
            # The files are turned back to how the volumes lay.
            length = torch.tensor(kept["image"].shape[1:3]) - 1
            boxes = boxes.clone()
            boxes[:, [0, 1, 3, 4]] = (torch.cat([length, length]) - boxes[:, [0, 1, 3, 4]])[:, [2, 3, 0, 1]]
        np.testing.assert_allclose(item["box"], boxes, atol=1e-3)
        assert record["label"] == (kept["classes"] - 1).tolist()
    spec = load_spec(project / "spec.yaml")
    data = spec.data.model_copy(update={"path": "out/dataset.json", "group": None})
    listing = list_samples(data, tmp_path)
    assert (len(listing.sources), listing.problems) == (6, [])
    reader = Reader(listing.root, data, spec.preprocess)
    for record, source in zip(records, listing.sources, strict=True):
        again = reader.read(source).label
        np.testing.assert_allclose(again.boxes, stored[record["sample"]]["boxes"], atol=1e-3)


def test_stored_boxes_go_through_monais_transforms(result: Result) -> None:
    """Between `BoxesToTensorAxesd` and `BoxesToXFirstd`, with the affine that images carry."""
    world = [AffineBoxToWorldCoordinated("boxes", "image", affine_lps_to_ras=True), ConvertBoxModed("boxes", "xyzxyz", "cccwhd")]
    plain = CorpusDataset(result.corpus)
    in_mm = CorpusDataset(result.corpus, transform=Compose([BoxesToTensorAxesd(), *world]))
    turn = RandFlipBoxd(["image", "adversarial"], "boxes", "image", prob=1, spatial_axis=0)
    flipped = CorpusDataset(result.corpus, transform=Compose([BoxesToTensorAxesd(), turn, BoxesToXFirstd()]))
    for index in range(len(plain)):
        item, turned = plain[index], flipped[index]
        expected = in_space(Boxes.of(item["boxes"], item["classes"], dims=3), item["affine"].numpy())
        np.testing.assert_allclose(in_mm[index]["boxes"], np.reshape(expected, (-1, 6)), atol=1e-3)
        length = item["image"].shape[1]
        np.testing.assert_allclose(turned["boxes"][:, 0], length - item["boxes"][:, 3], atol=1e-4)
        assert turned["boxes"].shape == item["boxes"].shape
    batch = collate([plain[0]])
    assert batch["boxes"][0].shape[1] == 6


def test_the_report_shows_a_slice_with_boxes(result: Result, tmp_path: Path) -> None:
    page = write_report(result.corpus, tmp_path / "report.html", None).read_text()
    # On the slice through the first box there is at least this one.
    sheets = page[page.index('id="cases"') :]
    shown = re.findall(r"clean image with (\d) true boxes on this slice", sheets)
    assert sorted(shown)[0] == "0"
    assert len(shown) == 3
    assert all(int(number) >= 1 for number in sorted(shown)[1:])
    assert re.search(r"slice \d of 9", page)
