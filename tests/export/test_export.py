"""Exported files are the stored samples, read back by MONAI; DICOM says what it is and holds nobody's data."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from monai.data import NibabelReader, PILReader, PydicomReader
from monai.transforms import LoadImage
from PIL import Image
from safetensors.torch import load_file
from tests.conftest import CLASSIFIER, SIZE, draw_pictures, quiet, save_victim, tiny_spec
from tests.export.export_cases import made, manifest_of

from medadv.common.errors import SpecError
from medadv.common.hashing import canonical_json, hash_bytes
from medadv.datasets.labels import Boxes
from medadv.export.dicom import write_dicom
from medadv.export.export import Request, export
from medadv.export.item import Item, Written
from medadv.export.native import to_native
from medadv.export.nifti import write_nifti
from medadv.export.png import write_labels, write_png
from medadv.prepare.request import Options
from medadv.report.page import write_report
from medadv.report.text import write_text
from medadv.run.run import run
from medadv.training.dataset import CorpusDataset
from medadv.victims.sources.registry import build_network
from medadv_transforms.placement import Placement
from medadv_transforms.resample import Grid, reoriented, resampling_facts, respaced

# A codec that MONAI looks for and does without.
pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodec")

MANIFEST = manifest_of({"smia-4": ("smia", 4.0)}, classes=["polyp"])
# Axes run along +R-A oblique directions, so that a swapped axis or sign shows.
TURN = np.array([[0.0, -1.0, 0.0], [np.cos(0.3), 0.0, -np.sin(0.3)], [np.sin(0.3), 0.0, np.cos(0.3)]])


def volume(shape: tuple[int, ...] = (12, 9, 7)) -> Item:
    draw = np.random.default_rng(3)
    affine = np.eye(4)
    affine[:3, :3] = TURN * [0.7, 0.9, 2.5]
    affine[:3, 3] = [-31.25, 12.5, 100.75]
    image = draw.integers(-1024, 3072, (1, *shape), np.int16)
    return Item("s0", "smia-4", image, "hu", "xyz"[: len(shape)], draw.integers(0, 3, shape, np.uint8), affine, {})


def test_nifti_round_trips_through_monai(tmp_path: Path) -> None:
    item = volume()
    files = write_nifti(tmp_path, item, MANIFEST)
    loaded = LoadImage(reader=NibabelReader(), dtype=np.int16)(files[0])
    assert np.array_equal(loaded.numpy(), item.image[0])
    assert np.allclose(loaded.affine.numpy(), item.affine, atol=1e-5)
    assert np.array_equal(LoadImage(reader=NibabelReader(), dtype=np.uint8)(files[1]).numpy(), item.label)


@pytest.mark.filterwarnings("ignore")
def test_a_dicom_series_round_trips_through_monai(tmp_path: Path) -> None:
    item = volume()
    files = write_dicom(tmp_path, item, MANIFEST, patient="g0")
    assert len(files) == 7
    loaded = LoadImage(reader=PydicomReader(), dtype=np.float32)(files[0].parent)
    assert np.array_equal(loaded.numpy(), item.image[0])
    assert np.allclose(loaded.affine.numpy(), item.affine, atol=1e-4)


def test_a_dicom_slice_keeps_its_plane(tmp_path: Path) -> None:
    item = volume((12, 9))
    (path,) = write_dicom(tmp_path, item, MANIFEST, patient="g0")
    dataset = pydicom.dcmread(path)
    assert np.array_equal(dataset.pixel_array, item.image[0].T)
    assert dataset.PixelSpacing == pytest.approx([0.9, 0.7])


def test_dicom_is_marked_and_names_nobody(tmp_path: Path) -> None:
    item = volume()
    seen = [pydicom.dcmread(path) for path in write_dicom(tmp_path, item, MANIFEST, patient="g0")]
    first = seen[0]
    assert first.ImageType == ["DERIVED", "SECONDARY", "AXIAL"]
    assert first[0x0008, 0x001C].value == "YES"  # SyntheticData
    assert "Not for clinical use" in first.DerivationDescription
    assert "NOT FOR CLINICAL USE" in first.SeriesDescription
    assert len(first.SeriesDescription) <= 64
    assert first.PatientID == "g0"
    assert not first.PatientBirthDate
    assert not first.StudyDate
    assert len({d.SOPInstanceUID for d in seen}) == len(seen)
    assert len({(d.StudyInstanceUID, d.SeriesInstanceUID, d.FrameOfReferenceUID) for d in seen}) == 1


def test_photographs_become_secondary_captures(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 9, 11), np.uint8)
    item = Item("p0", None, image, "level8", "yx", np.int64(1), None, {})
    (path,) = write_dicom(tmp_path, item, MANIFEST, patient="g0")
    dataset = pydicom.dcmread(path)
    assert np.array_equal(dataset.pixel_array, np.moveaxis(image, 0, -1))
    assert (0x0008, 0x001C) not in dataset  # nobody knows whether a clean photograph is synthetic
    assert dataset.SOPClassUID.name == "Secondary Capture Image Storage"


def test_png_and_labels_of_a_whole_corpus(tiny_corpus: Path, tmp_path: Path) -> None:
    summary = export(tiny_corpus, Request("png", tmp_path / "out", "pgd-8", clean=True), quiet)
    assert (summary.samples, summary.files) == (10, 22)
    load = LoadImage(reader=PILReader(), ensure_channel_first=True, dtype=np.uint8)
    dataset = CorpusDataset(tiny_corpus, "pgd-8")
    lines = (tmp_path / "out" / "labels.csv").read_text().splitlines()
    for index in range(10):
        item = dataset[index]
        for attack, key in (("pgd-8", "adversarial"), ("clean", "image")):
            path = tmp_path / "out" / f"{item['sample_id']}_{attack}.png"
            # PIL gives x before y.
            assert torch.equal(load(path).as_tensor().transpose(1, 2), item[key].to(torch.uint8))
            assert f"{path.name},{item['sample_id']},{'' if attack == 'clean' else attack},{int(item['label'])}" in lines


def test_boxes_become_coco(tmp_path: Path) -> None:
    image = np.zeros((3, 20, 30), np.uint8)
    item = Item("b0", "smia-4", image, "level8", "yx", Boxes.of([[1, 2, 11, 7]], [1]), None, {})
    (path,) = write_png(tmp_path, item, manifest_of({"smia-4": ("smia", 4.0)}, "level8", ["polyp"]))
    rows = [Written(path.name, "b0", "smia-4", item.label, (30, 20), None)]
    (labels,) = write_labels(tmp_path, rows, MANIFEST)
    coco = json.loads(labels.read_text())
    assert coco["annotations"][0]["bbox"] == [1, 2, 10, 5]
    assert coco["categories"] == [{"id": 1, "name": "polyp"}]
    assert coco["images"][0] == {"id": 1, "file_name": "b0_smia-4.png", "width": 30, "height": 20}


def placed(placement: Placement) -> Item:
    image = np.random.default_rng(1).integers(0, 256, (3, *placement.size), np.uint8)
    label = Boxes.of([[placement.pad[1] + 2, placement.pad[0] + 3, placement.pad[1] + 8, placement.pad[0] + 9]], [1])
    return Item("n0", "smia-4", image, "level8", "yx", label, None, {"placement": placement.as_dict()})


def test_the_native_grid_undoes_crop_and_padding_exactly() -> None:
    placement = Placement((50, 60), (5, 7, 20, 30), (20, 30), (6, 1), (32, 32))
    item = placed(placement)
    native = to_native(item, lossy=False)
    assert native.back is None
    assert native.item.image.shape == (3, 50, 60)
    assert np.array_equal(native.item.image[:, 5:25, 7:37], item.image[:, 6:26, 1:31])
    assert isinstance(native.item.label, Boxes)
    assert native.item.label.boxes.tolist() == [[9, 8, 15, 14]]


def test_resampling_is_refused_unless_lossy_and_then_leads_back() -> None:
    placement = Placement((50, 60), (5, 7, 40, 40), (20, 20), (6, 6), (32, 32))
    item = placed(placement)
    with pytest.raises(SpecError, match=r"scaled from 40 x 40 to 20 x 20 pixels.*--lossy"):
        to_native(item, lossy=False)
    native = to_native(item, lossy=True)
    assert native.item.image.shape == (3, 50, 60)
    assert native.back is not None
    assert native.back(native.item.image).shape == item.image.shape


def test_a_reoriented_volume_returns_exactly_and_a_respaced_one_only_lossily() -> None:
    native = Grid((12, 9, 7), np.diag([-1.0, -1.0, 2.0, 1.0]))
    upright, _ = reoriented(native, "RAS")
    item = volume(upright.shape)
    turned = Item(**{**item.__dict__, "facts": {"resampling": resampling_facts(native, upright, upright)}})
    assert np.array_equal(to_native(turned, lossy=False).item.image, item.image[:, ::-1, ::-1])
    coarse = respaced(upright, (2.0, 2.0, 2.0))
    smaller = volume(coarse.shape)
    spaced = Item(**{**smaller.__dict__, "facts": {"resampling": resampling_facts(native, upright, coarse)}})
    with pytest.raises(SpecError, match="add --lossy"):
        to_native(spaced, lossy=False)
    back = to_native(spaced, lossy=True)
    assert back.item.image.shape == (1, 12, 9, 7)
    assert back.back is not None
    assert back.back(back.item.image).shape == smaller.image.shape


@pytest.mark.usefixtures("inline")
def test_lossy_export_scores_what_the_files_hold(tmp_path: Path) -> None:
    """The score is that of the exported PNG scaled down again, by the bare network."""
    draw_pictures(tmp_path / "data", 4, size=2 * SIZE)
    weights = save_victim(tmp_path / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    corpus = run(tiny_spec(tmp_path), Options(), quiet).corpus
    with pytest.raises(SpecError, match="--lossy"):
        export(corpus, Request("png", tmp_path / "refused", grid="native"), quiet)
    summary = export(corpus, Request("png", tmp_path / "out", grid="native", lossy=True), quiet)
    network = build_network("monai:densenet121", CLASSIFIER).eval()
    network.load_state_dict(load_file(weights))
    scores = []
    for row in csv.DictReader((tmp_path / "out" / "labels.csv").read_text().splitlines()):
        image = Image.open(tmp_path / "out" / row["file"])
        assert image.size == (2 * SIZE, 2 * SIZE)
        levels = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR), np.float32)
        with torch.no_grad():
            logits = network(torch.from_numpy((levels / 255 - 0.5) / 0.25).permute(2, 0, 1)[None])
        scores.append(float(logits.softmax(1)[0, int(row["label"])]))
    assert len(scores) == 4
    assert summary.metrics is not None
    assert summary.metrics["score_exported"] == pytest.approx(np.mean(scores), abs=1e-4)
    assert abs(summary.metrics["score_exported"] - summary.metrics["score_stored"]) > 1e-3


def test_a_corpus_that_was_never_scaled_needs_no_score(tiny_corpus: Path, tmp_path: Path) -> None:
    summary = export(tiny_corpus, Request("png", tmp_path / "out", grid="native", lossy=True), quiet)
    assert summary.metrics is None
    assert summary.grid == "native"


def test_requests_that_cannot_be_met_say_so(tiny_corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="photographs do not have"):
        export(tiny_corpus, Request("nifti", tmp_path / "a"), quiet)
    with pytest.raises(SpecError, match="PNG holds 8-bit images"):
        write_png(tmp_path, volume(), MANIFEST)
    with pytest.raises(SpecError, match="attack 'cw' is not in this corpus"):
        export(tiny_corpus, Request("png", tmp_path / "b", "cw"), quiet)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "x").touch()
    with pytest.raises(SpecError, match="is not empty"):
        export(tiny_corpus, Request("png", tmp_path / "c"), quiet)
    with pytest.raises(SpecError, match="no sample nobody"):
        export(tiny_corpus, Request("png", tmp_path / "d", samples=("nobody",)), quiet)
    with pytest.raises(SpecError, match="--lossy resamples for --grid native"):
        export(tiny_corpus, Request("png", tmp_path / "e", lossy=True), quiet)


@pytest.mark.parametrize("place", ["png", "shards/png", "."])
def test_nothing_is_written_into_a_corpus(tiny_corpus: Path, place: str) -> None:
    before = sorted(tiny_corpus.rglob("*"))
    for write in (
        lambda: export(tiny_corpus, Request("png", tiny_corpus / place), quiet),
        lambda: write_report(tiny_corpus, tiny_corpus / place / "page.html"),
        lambda: write_text(tiny_corpus / place / "card.md", ""),
    ):
        with pytest.raises(SpecError, match=r"lies in the corpus .* name a place outside"):
            write()
    assert sorted(tiny_corpus.rglob("*")) == before


@pytest.mark.parametrize("how", [{"spacing": [1.0, 1.0, 2.5]}, {"orientation": "LPS"}])
def test_slices_of_a_resampled_volume_have_no_grid_of_their_own(how: dict[str, Any], ct_slices: Path, tmp_path: Path) -> None:
    corpus = shutil.copytree(ct_slices, tmp_path / "corpus")
    manifest = json.loads((corpus / "manifest.json").read_text())
    manifest["preprocess"] |= how
    data = canonical_json(manifest)
    (corpus / "manifest.json").write_bytes(data)
    (corpus / "manifest.json.sha256").write_text(f"{hash_bytes(data)}  manifest.json\n")
    with pytest.raises(SpecError, match="resampled or reoriented, and lead back to no grid of their own"):
        export(corpus, Request("nifti", tmp_path / "native", grid="native"), quiet)
    assert export(corpus, Request("nifti", tmp_path / "stored"), quiet).samples == 8


@pytest.mark.parametrize("kind", ["nifti", "dicom"])
def test_classes_of_scans_stand_in_a_file(kind: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    lines, draw = ["file,grade"], np.random.default_rng(0)
    for grade in range(2):
        scan = nibabel.Nifti1Image(draw.integers(-1000, 1000, (32, 32, 2), np.int16), np.eye(4))
        nibabel.save(scan, tmp_path / "data" / f"{grade}.nii.gz")
        lines.append(f"{grade}.nii.gz,{grade}")
    (tmp_path / "data" / "labels.csv").write_text("\n".join(lines))
    network = {**CLASSIFIER, "in_channels": 1}
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", network)
    changes = {"data__modality": "ct", "preprocess": {"as": "slices"}, "victim__normalize": {"window": [-1000, 400]}, "sanity_samples": 0}
    corpus = made(tiny_spec(tmp_path, victim__arguments=network, **changes))
    export(corpus, Request(kind, tmp_path / "out"), quiet)
    rows = list(csv.DictReader((tmp_path / "out" / "labels.csv").read_text().splitlines()))
    truth = {item["sample_id"]: str(int(item["label"])) for item in CorpusDataset(corpus)}
    assert {row["sample"]: row["label"] for row in rows} == truth
    assert len(truth) == 4
    assert sorted(truth.values()) == ["0", "0", "1", "1"]
    assert all((tmp_path / "out" / row["file"]).exists() for row in rows)


def overlapping(placement: Placement, classes: int = 3) -> Item:
    """A photograph with one mask per class, as a sigmoid head has them."""
    label = np.random.default_rng(2).integers(0, 2, (classes, *placement.size), np.uint8)
    return replace(placed(placement), label=label)


def test_masks_that_overlap_become_one_file_per_class(tmp_path: Path) -> None:
    item = overlapping(Placement((50, 60), (5, 7, 20, 30), (20, 30), (6, 1), (32, 40)))
    names = [f"n0_label_{number}.png" for number in (1, 2, 3)]
    files = write_png(tmp_path, item, MANIFEST)
    assert [path.name for path in files] == ["n0_smia-4.png", *names]
    assert write_png(tmp_path, replace(item, attack=None), MANIFEST) == [tmp_path / "n0_clean.png"]
    for name, mask in zip(names, item.label, strict=True):
        assert np.array_equal(np.asarray(Image.open(tmp_path / name)), mask)
    rows = [Written(files[0].name, "n0", "smia-4", item.label, (40, 32), None)]
    (labels,) = write_labels(tmp_path, rows, MANIFEST)
    with labels.open() as stream:
        (row,) = csv.DictReader(stream)
    assert row["label"].split(" ") == names
    # Axes in the other order are turned upright like the image's.
    turned = replace(item, sample="t0", spatial_axes="xy")
    write_png(tmp_path, turned, MANIFEST)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "t0_label_2.png")), item.label[1].T)


@pytest.mark.parametrize("classes", [None, 1, 3])
def test_the_native_grid_of_masks_crops_the_spatial_axes_alone(classes: int | None) -> None:
    item = overlapping(Placement((50, 60), (5, 7, 20, 30), (20, 30), (6, 1), (32, 40)), classes or 1)
    item = item if classes else replace(item, label=item.label[0])
    native = to_native(item, lossy=False).item.label
    assert native.shape == (*item.label.shape[:-2], 50, 60)
    assert native.dtype == np.uint8
    assert np.array_equal(native[..., 5:25, 7:37], item.label[..., 6:26, 1:31])
    assert native.sum() == item.label[..., 6:26, 1:31].sum()
    scaled = to_native(replace(item, facts={"placement": Placement((50, 60), (5, 7, 40, 40), (20, 20), (6, 6), (32, 40)).as_dict()}), True)
    assert scaled.item.label.shape == native.shape
    assert np.array_equal(scaled.item.label[..., 5:45:2, 7:47:2], item.label[..., 6:26, 6:26])
