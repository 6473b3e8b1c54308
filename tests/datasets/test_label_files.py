"""Label files and folders as people have them: what is read, what is refused, and what is passed over with a word."""

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from tests.conftest import Said, draw_pictures, save_victim, tiny_spec

from medadv.common.errors import SpecError
from medadv.datasets.file_hashes import FileHashes
from medadv.datasets.layouts import list_samples
from medadv.datasets.reader import Reader
from medadv.datasets.sample import Sample
from medadv.datasets.source import Listing
from medadv.prepare.request import Options
from medadv.prepare.survey import Survey, survey
from medadv.run.run import run
from medadv.spec.data import DataSettings, PreprocessSettings
from medadv.spec.reading import parse_spec
from medadv_transforms import InputError


def settings_of(**data: Any) -> DataSettings:
    return DataSettings.model_validate({"modality": "endoscopy", "task": "detection", "path": ".", **data})


def listed(folder: Path, **data: Any) -> Listing:
    return list_samples(settings_of(**data), folder)


def read_all(folder: Path, overlapping: bool = False, preprocess: dict[str, Any] | None = None, **data: Any) -> list[Sample]:
    listing = listed(folder, **data)
    reader = Reader(listing.root, settings_of(**data), PreprocessSettings.model_validate(preprocess or {}), overlapping)
    return [reader.read(part) for source in listing.sources for part in reader.expand(source)]


def surveyed(folder: Path, preprocess: dict[str, Any] | None = None, head: str = "softmax", **data: Any) -> Survey:
    modality = data.get("modality", "endoscopy")
    spec = {
        "name": "x",
        "data": {"modality": "endoscopy", "task": "detection", "path": ".", **data},
        "preprocess": preprocess if preprocess is not None else {"size": [32, 32]},
        "victim": {
            "network": "monai:unet",
            "head": head,
            "normalize": {"window": [-1000, 400]} if modality == "ct" else {"mean": [0.5] * 3, "std": [0.5] * 3},
        },
        "attacks": {"a": {"attack": "pgd", "epsilon": 4}},
    }
    return survey(parse_spec(spec, "spec"), folder, FileHashes(None), b"key")


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (40, 20), **options: Any) -> Path:
    """A picture like no other, (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng([seed, *path.name.encode()]).integers(0, 255, (*size[::-1], 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def text(path: Path, content: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode(encoding))
    return path


BOX = "0 0.5 0.5 0.25 0.5\n"


@pytest.mark.parametrize(
    ("image", "label", "data"),
    [
        ("d/images/val/x.png", "d/labels/val/x.txt", {"path": "d", "split": {"use": "val"}}),
        ("d/val/images/x.png", "d/val/labels/x.txt", {"path": "d", "split": {"use": "val"}}),
        ("d/val/images/p/x.png", "d/val/labels/p/x.txt", {"path": "d/val"}),
        ("d/images/x.png", "d/labels/x.txt", {"path": "d/images"}),
        ("d/images/2024/images/x.png", "d/images/2024/labels/x.txt", {"path": "d"}),
        ("d/images/2024/images/x.png", "d/labels/2024/images/x.txt", {"path": "d"}),
        ("d/a/x.png", "d/a/x.txt", {"path": "d"}),
        ("d/images/x.png", "d/images/x.txt", {"path": "d"}),
        ("d/images/val/x.png", "d/labels/val/x.txt", {"path": "d/images/val", "root": "d"}),
    ],
)
def test_yolo_labels_at_any_depth(tmp_path: Path, image: str, label: str, data: dict[str, Any]) -> None:
    # What leads to the spec may be called images as well.
    base = tmp_path / "images"
    picture(base / image)
    text(base / label, BOX)
    found = listed(base, layout="yolo", **data)
    assert [s.label for s in found.sources] == [{"relative": [[1, 0.5, 0.5, 0.25, 0.5]]}]
    assert (found.notes, found.nothing_labelled) == ([], None)


def test_yolo_names_start_where_images_and_labels_part(tmp_path: Path) -> None:
    picture(tmp_path / "d/images/val/x.png")
    text(tmp_path / "d/labels/val/x.txt", BOX)
    found = listed(tmp_path, layout="yolo", path="d/images/val")
    assert (found.root, [s.images for s in found.sources]) == (tmp_path / "d", [("images/val/x.png",)])
    # As `reproduce --data` asks again, with the data elsewhere.
    (tmp_path / "d").rename(tmp_path / "moved")
    assert listed(tmp_path / "moved", layout="yolo", path="images/val").sources == found.sources


def test_yolo_takes_a_list_of_images(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(tmp_path / f"d/images/{name}.png")
        text(tmp_path / f"d/labels/{name}.txt", BOX)
    text(tmp_path / "d/lists/val.txt", "./images/b.png \r\n\r\n")
    found = listed(tmp_path, layout="yolo", path="d/lists/val.txt", root="d")
    assert [(s.images, len(s.label["relative"])) for s in found.sources] == [(("images/b.png",), 1)]
    assert [p.code for p in listed(tmp_path, layout="yolo", path="d/lists/val.txt").problems] == ["not-found"]


def test_yolo_counts_what_has_no_partner_and_refuses_a_corpus_without_labels(tmp_path: Path) -> None:
    for number in range(3):
        picture(tmp_path / f"images/{number}.png", number)
    text(tmp_path / "labels/0.txt", "")
    text(tmp_path / "labels/gone.txt", BOX)
    text(tmp_path / "labels/classes.txt", "polyp\n")
    text(tmp_path / "images/notes.docx", "x")
    text(tmp_path / "images/frame", "x")
    seen = surveyed(tmp_path, layout="yolo")
    assert len(seen.found) == 3
    assert seen.notes == [
        "2 files skipped (1 .docx, 1 no suffix)",
        "2 of 3 images without a label file: taken as images without objects",
        "1 label file without an image",
    ]
    (tmp_path / "labels/0.txt").unlink()
    with pytest.raises(SpecError, match=r"no label file for any of 3 images: labels/0.txt does not exist"):
        surveyed(tmp_path, layout="yolo")
    assert len(surveyed(tmp_path, layout="yolo", label="none").found) == 3


def coco(folder: Path, annotations: list[dict[str, Any]], images: list[dict[str, Any]] | None = None, **save: Any) -> Path:
    """A label file of one picture 40 x 20, two categories."""
    picture(folder / "a.png")
    document = {
        "images": images or [{"id": 7, "file_name": "a.png", "width": 40, "height": 20}],
        "annotations": [{"id": i, "image_id": 7, "category_id": 3, **a} for i, a in enumerate(annotations)],
        "categories": [{"id": 3, "name": "polyp"}, {"id": 8, "name": "tool"}],
    }
    return text(folder / "c.json", json.dumps(document), **save)


SQUARE = [[4, 2, 12, 2, 12, 8, 4, 8]]


def test_coco_root_template_and_byte_order_mark(tmp_path: Path) -> None:
    coco(tmp_path / "x/annotations", [{"bbox": [1, 1, 4, 4]}], encoding="utf-8-sig")
    (tmp_path / "x/val").mkdir()
    shutil.move(tmp_path / "x/annotations/a.png", tmp_path / "x/val/a.png")
    data = {"layout": "coco", "path": "x/annotations/c.json"}
    found = listed(tmp_path, root="x", image="val/{file_name}", **data)
    assert [(s.images, s.size) for s in found.sources] == [(("val/a.png",), (20, 40))]
    with pytest.raises(SpecError, match="names no key of an image"):
        listed(tmp_path, root="x", image="val/{name}", **data)
    with pytest.raises(SpecError, match=r"data\.root is relative to the spec"):
        listed(tmp_path, root="y", **data)
    with pytest.raises(SpecError, match="path is the root"):
        parse_spec({"name": "x", "data": {"modality": "ct", "task": "segmentation", "layout": "folders", "path": ".", "root": "x"}}, "spec")


def test_coco_sizes_are_held_against_the_upright_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(tmp_path / "turned.jpg", exif=exif)
    sizes = {"a.png": (40, 20), "b.png": (20, 40), "c.png": (80, 40), "d.png": (None, None), "turned.jpg": (40, 20)}
    for name in ("b.png", "c.png", "d.png"):
        picture(tmp_path / name)
    images = [{"id": i, "file_name": name, "width": w, "height": h} for i, (name, (w, h)) in enumerate(sizes.items())]
    coco(tmp_path, [{"bbox": [1, 1, 4, 4], "image_id": i} for i in range(5)], images)
    seen = surveyed(tmp_path, layout="coco", path="c.json")
    assert sorted(item.sample.source.images[0] for item in seen.found) == ["a.png", "d.png"]
    assert [(p.path, p.code, "EXIF" in p.message) for p in seen.problems] == [
        ("b.png", "size-differs", False),
        ("c.png", "size-differs", False),
        ("turned.jpg", "size-differs", True),
    ]


def test_coco_counts_what_it_leaves_out_and_refuses_what_labels_nothing(tmp_path: Path) -> None:
    picture(tmp_path / "b.png")
    images = [{"id": 7, "file_name": "a.png"}, {"id": 8, "file_name": "b.png"}]
    crowd = {"bbox": [0, 0, 9, 9], "iscrowd": 1}
    coco(tmp_path, [{"bbox": [1, 1, 4, 4]}, crowd, {"bbox": [1, 1, 4, 4], "image_id": 99}], images)
    assert surveyed(tmp_path, layout="coco", path="c.json").notes == [
        "1 annotation of images that the file does not list",
        "1 crowd annotation left out",
        "1 of 2 images without an annotation: taken as images without objects",
    ]
    for annotations in ([], [{"bbox": [1, 1, 4, 4], "image_id": 99}]):
        coco(tmp_path, annotations, images)
        with pytest.raises(SpecError, match="no annotation belongs to any of the images"):
            surveyed(tmp_path, layout="coco", path="c.json")


def test_coco_boxes_that_are_missing_are_those_of_the_outlines(tmp_path: Path) -> None:
    plane = np.zeros((20, 40), np.uint8)
    plane[3:9, 10:25] = 1
    packed = coco_mask.encode(np.asfortranarray(plane))
    rle = {"size": [20, 40], "counts": packed["counts"].decode()}
    runs = [10 * 20 + 3, *[6, 14] * 14, 6]
    plain = {"size": [20, 40], "counts": [*runs, 20 * 40 - sum(runs)]}
    coco(tmp_path, [{"segmentation": s} for s in (SQUARE, rle, plain)] + [{"bbox": [0, 0, 5, 5], "segmentation": SQUARE}])
    (source,) = listed(tmp_path, layout="coco", path="c.json").sources
    assert source.label["boxes"] == [[4, 2, 12, 8], [10, 3, 25, 9], [10, 3, 25, 9], [0, 0, 5, 5]]
    coco(tmp_path, [{"category_id": 8}])
    assert [p.code for p in listed(tmp_path, layout="coco", path="c.json").problems] == ["bad-box"]


def test_coco_outlines_are_masks(tmp_path: Path) -> None:
    plane = np.zeros((20, 40), np.uint8)
    plane[10:18, 20:35] = 1
    rle = {"size": [20, 40], "counts": coco_mask.encode(np.asfortranarray(plane))["counts"].decode()}
    crowd = {"segmentation": [[0, 0, 40, 0, 40, 4, 0, 4]], "iscrowd": 1}
    coco(tmp_path, [{"segmentation": SQUARE}, {"segmentation": rle, "category_id": 8}, crowd])
    data = {"layout": "coco", "path": "c.json", "task": "segmentation"}
    (sample,) = read_all(tmp_path, **data)
    expected = np.where(plane, 2, 0)
    expected[2:8, 4:12] = 1
    ignored = np.zeros((20, 40), bool)
    ignored[:4] = True
    expected[ignored & (expected == 0)] = 255
    np.testing.assert_array_equal(sample.label, expected)
    (planes,) = read_all(tmp_path, overlapping=True, **data)
    np.testing.assert_array_equal(planes.label == 1, [expected == 1, expected == 2])
    # Twice as large, with the same nearest neighbour as a mask picture.
    (large,) = read_all(tmp_path, preprocess={"size": [40, 80], "fit": "stretch"}, **data)
    np.testing.assert_array_equal(large.label, expected.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize(
    ("segmentation", "code"),
    [
        ([[1, 2, 3, 4]], "bad-segment"),
        ([[1, 2, 3, 4, 5, 1e9]], "bad-segment"),
        ({"size": [20, 40], "counts": "zzzz"}, "bad-segment"),
        ({"size": [20, 40], "counts": [5, 5]}, "bad-segment"),
        ({"size": [10, 40], "counts": [400]}, "size-differs"),
        ([], "missing-label"),
    ],
)
def test_damaged_outlines_are_refused(tmp_path: Path, segmentation: Any, code: str) -> None:
    coco(tmp_path, [{"segmentation": segmentation}])
    data = {"layout": "coco", "path": "c.json", "task": "segmentation"}
    found = [p.code for p in listed(tmp_path, **data).problems]
    if not found:
        with pytest.raises(InputError) as caught:
            read_all(tmp_path, **data)
        found = [caught.value.code]
    assert found == [code]


def test_overlapping_outlines_need_a_sigmoid_head(tmp_path: Path) -> None:
    coco(tmp_path, [{"segmentation": SQUARE}, {"segmentation": SQUARE, "category_id": 8}])
    data = {"layout": "coco", "path": "c.json", "task": "segmentation"}
    with pytest.raises(InputError, match="label-overlap"):
        read_all(tmp_path, **data)
    (sample,) = read_all(tmp_path, overlapping=True, **data)
    np.testing.assert_array_equal(sample.label[0], sample.label[1])


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        ("file;grade\n000.png;0\n001.png;1\n", "utf-8"),
        ("file\tgrade\n000.png\t0\n001.png\t1\n", "utf-16"),
        ("sep=;\r\nfile;grade\r\n000.png;0\r\n001.png;1\r\n;\r\n", "utf-8-sig"),
        (" file , grade \n 000.png , 0 \n001.png\t, 1\n", "utf-8"),
        ('"file","grade"\n".\\000.png","0"\n"001.png ","1"\n', "utf-8"),
    ],
)
def test_csv_as_spreadsheets_write_it(tmp_path: Path, content: str, encoding: str) -> None:
    draw_pictures(tmp_path, 2)
    text(tmp_path / "t.csv", content, encoding)
    found = listed(tmp_path, modality="fundus", task="classification", layout="csv", path="t.csv", label="grade")
    assert [(s.images[0].removeprefix("./"), s.label) for s in found.sources] == [("000.png", 0), ("001.png", 1)]
    assert found.problems == []


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    draw_pictures(tmp_path, 1)
    text(tmp_path / "t.csv", "file,grade,grade\n000.png,0,1\n")
    with pytest.raises(SpecError, match="several columns are called 'grade'"):
        listed(tmp_path, modality="fundus", task="classification", layout="csv", path="t.csv", label="grade")


def test_csv_root_and_names_of_another_system(tmp_path: Path) -> None:
    draw_pictures(tmp_path / "pictures/a", 2)
    text(tmp_path / "tables/t.csv", "file,grade\na\\000.png,0\na/001.png,1\n..\\..\\secret.png,1\n")
    found = listed(
        tmp_path, modality="fundus", task="classification", layout="csv", path="tables/t.csv", label="grade", root="pictures"
    )
    assert [s.images for s in found.sources] == [("a/000.png",), ("a/001.png",)]
    assert [p.code for p in found.problems] == ["outside-root"]


def volume(path: Path, values: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.diag([-1.0, -1.0, 2.0, 1.0]) if affine is None else affine), path)
    return path


BODY = (np.arange(6 * 5 * 4).reshape(6, 5, 4) - 60).astype(np.int16)


def test_decathlon_lists_of_one_and_root(tmp_path: Path) -> None:
    volume(tmp_path / "d/i.nii.gz", BODY)
    volume(tmp_path / "d/m.nii.gz", (BODY > 0).astype(np.uint8))
    text(tmp_path / "l/dataset.json", json.dumps({"training": [{"image": ["i.nii.gz"], "label": ["m.nii.gz"]}]}), "utf-8-sig")
    (sample,) = read_all(tmp_path, modality="ct", task="segmentation", layout="decathlon", path="l/dataset.json", root="d")
    np.testing.assert_array_equal(sample.label, BODY > 0)
    text(tmp_path / "l/dataset.json", json.dumps({"training": [{"image": ["i.nii.gz", "m.nii.gz"], "label": 1}]}))
    found = listed(tmp_path, modality="ct", task="classification", layout="decathlon", path="l/dataset.json", root="d")
    assert [p.code for p in found.problems] == ["not-found"]


def dicom(folder: Path, patient: str, *, seed: int = 0, count: int = 4) -> None:
    """A series of 5 x 6 pixels, in HU, spacing 1 x 1 x 2 mm."""
    folder.mkdir(parents=True, exist_ok=True)
    for z in range(count):
        meta = pydicom.dataset.FileMetaDataset()
        meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, "1.2.840.10008.5.1.4.1.1.2"
        meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[patient, str(seed), str(z)])
        one = pydicom.Dataset()
        one.file_meta = meta
        one.SOPClassUID, one.SOPInstanceUID, one.Modality, one.PatientID = meta.MediaStorageSOPClassUID, generate_uid(), "CT", patient
        one.SeriesInstanceUID = generate_uid(entropy_srcs=[patient, str(seed)])
        one.ImagePositionPatient, one.ImageOrientationPatient = [0, 0, 2 * z], [1, 0, 0, 0, 1, 0]
        one.PixelSpacing, one.SliceThickness, one.Rows, one.Columns = [1, 1], 2, 5, 6
        one.SamplesPerPixel, one.PhotometricInterpretation, one.PixelRepresentation = 1, "MONOCHROME2", 1
        one.BitsAllocated, one.BitsStored, one.HighBit, one.RescaleSlope, one.RescaleIntercept = 16, 16, 15, 1, 0
        one.PixelData = (np.random.default_rng([seed, z]).integers(-900, 100, (5, 6))).astype("<i2").tobytes()
        one.save_as(folder / f"{z}.dcm", enforce_file_format=True)


def test_a_folder_named_in_a_table_is_a_series_of_its_patient(tmp_path: Path) -> None:
    for number in range(2):
        dicom(tmp_path / f"d/p{number}/ct", f"P{number}", seed=number)
    volume(tmp_path / "d/p0/m.nii.gz", np.ones((6, 5, 4), np.uint8))
    volume(tmp_path / "d/p1/m.nii.gz", np.ones((6, 5, 4), np.uint8))
    dicom(tmp_path / "d/two/a", "P8", seed=8)
    dicom(tmp_path / "d/two/b", "P8", seed=9)
    (tmp_path / "d/none").mkdir()
    shutil.copy(tmp_path / "d/p0/ct/1.dcm", tmp_path / "d/p0/ct/again.dcm")
    text(tmp_path / "d/l.csv", "image,mask\np0,p0/m.nii.gz\np1\\ct,p1/m.nii.gz\ntwo,p0/m.nii.gz\nnone,p0/m.nii.gz\n.,p0/m.nii.gz\n")
    data = {"modality": "ct", "task": "segmentation", "layout": "csv", "path": "d/l.csv", "label": "mask"}
    found = listed(tmp_path, **data)
    assert [(len(s.images), s.group) for s in found.sources] == [(4, "P0"), (4, "P1")]
    assert sorted(p.code for p in found.problems) == ["empty-input", "mixed-series", "not-found"]
    assert found.remarks == ["1 file set aside: byte-for-byte copy of a slice"]
    assert list(found.aside) == ["p0/ct/again.dcm"]
    assert "again" not in " ".join(found.remarks)


def test_dicom_trees_of_labelled_series(tmp_path: Path) -> None:
    for number in range(2):
        dicom(tmp_path / f"d/s/p{number}", f"P{number}", seed=number)
        volume(tmp_path / f"m/p{number}.nii.gz", np.full((6, 5, 4), number + 1, np.uint8))
        volume(tmp_path / f"d/s/p{number}/seg.nii.gz", np.full((6, 5, 4), number + 1, np.uint8))
    data = {"modality": "ct", "task": "segmentation", "layout": "dicom", "path": "d"}
    for label in ("m/{name}.nii.gz", "d/{folder}/seg.nii.gz"):
        found = listed(tmp_path, label=label, **data)
        # The mask in the tree is no stray file where it is the label, and one otherwise.
        assert [p.code for p in found.problems] == (["not-dicom"] * 2 if label.startswith("m") else [])
        samples = read_all(tmp_path, label=label, **data)
        assert [int(s.label.max()) for s in samples] == [1, 2]
    (tmp_path / "m/p1.nii.gz").unlink()
    found = listed(tmp_path, label="m/{name}.nii.gz", **data)
    assert (len(found.sources), [p.code for p in found.problems].count("not-found")) == (1, 1)
    for label, words in (("m/p0.nii.gz", "by a template"), ("m/p0{name.x}.nii.gz", "knows"), ("m/x.nii.gz", "does not exist")):
        with pytest.raises(SpecError, match=words):
            listed(tmp_path, label=label, **data)


@pytest.mark.usefixtures("inline")
def test_a_run_counts_what_it_set_aside_and_names_it_in_private_alone(tmp_path: Path) -> None:
    for number in range(2):
        dicom(tmp_path / f"d/p{number}", f"P{number}", seed=number)
    shutil.copy(tmp_path / "d/p0/1.dcm", tmp_path / "d/p0/again.dcm")
    text(tmp_path / "d/l.csv", "scan,grade\np0,0\np1,1\n")
    network = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "init_features": 4, "growth_rate": 2, "block_config": [1]}
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", network)
    spec = tiny_spec(
        tmp_path,
        data={"modality": "ct", "task": "classification", "layout": "csv", "path": "d/l.csv", "label": "grade", "image": "scan"},
        preprocess={},
        victim__arguments=network,
        victim__normalize={"window": [-1000, 400]},
        attacks={"a": {"attack": "fgsm", "epsilon": 20}},
        sanity_samples=0,
    )
    said = Said()
    result = run(spec, Options(), said)
    assert (result.exit_code, result.manifest.samples) == (0, 2)
    assert "1 file set aside: byte-for-byte copy of a slice" in said
    assert json.loads((result.corpus / ".medadv/aside.json").read_text()) == {"p0/again.dcm": "byte-for-byte copy of a slice"}
    public = [path for path in result.corpus.rglob("*") if path.is_file() and ".medadv" not in path.parts]
    assert not any(b"again.dcm" in path.read_bytes() for path in public)


def nnunet(folder: Path, **changes: Any) -> None:
    for number in range(2):
        volume(folder / f"imagesTr/ct_{number}_0000.nii.gz", BODY)
        volume(folder / f"labelsTr/ct_{number}.nii.gz", (np.abs(BODY) % 4).astype(np.uint8))
    document = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "lung": 1, "tumour": 2, "ignore": 3},
        "numTraining": 3,
        "file_ending": ".nii.gz",
        **changes,
    }
    text(folder / "dataset.json", json.dumps(document))


def test_nnunet_raw_data(tmp_path: Path) -> None:
    nnunet(tmp_path)
    volume(tmp_path / "labelsTr/ct_9.nii.gz", np.zeros(BODY.shape, np.uint8))
    text(tmp_path / "imagesTr/list.txt", "x")
    data = {"modality": "ct", "task": "segmentation", "layout": "nnunet"}
    found = listed(tmp_path, **data)
    assert found.classes == ["lung", "tumour"]
    assert found.notes == ["1 file skipped (1 .txt)", "dataset.json states 3 training cases, the folder holds 2", "1 mask without an image"]
    for sample in read_all(tmp_path, path="dataset.json", **data):
        values = np.abs(BODY) % 4
        np.testing.assert_array_equal(sample.label, np.where(values == 3, 255, values))
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"channel_names": {"0": "CT", "1": "PET"}}, "2 channels"),
        ({"file_ending": None}, "version 1 is layout decathlon"),
        ({"labels": {"background": 0, "whole": [1, 2]}}, "regions"),
        ({"labels": {"background": 0, "lung": 2}}, "without a gap"),
    ]
    for changes, words in wrong:
        nnunet(tmp_path, **changes)
        with pytest.raises(SpecError, match=words):
            listed(tmp_path, **data)
    nnunet(tmp_path)
    with pytest.raises(SpecError, match="no such folder"):
        listed(tmp_path, split={"use": "Ts"}, **data)


def test_folders_say_what_they_skip_and_refuse_foreign_volumes(tmp_path: Path) -> None:
    picture(tmp_path / "a/x.webp")
    picture(tmp_path / "b/y.ppm")
    text(tmp_path / "b/y", "x")
    text(tmp_path / "b/y.xml", "x")
    found = listed(tmp_path, modality="fundus", task="classification", layout="folders")
    assert ([s.images for s in found.sources], found.notes) == ([("a/x.webp",), ("b/y.ppm",)], ["2 files skipped (1 .xml, 1 no suffix)"])
    text(tmp_path / "ct/a/v.nrrd", "NRRD0004\n")
    volume(tmp_path / "ct/b/v.nii.gz", BODY)
    seen = surveyed(tmp_path, preprocess={}, modality="ct", task="classification", layout="folders", path="ct")
    assert [(p.path, p.code) for p in seen.problems] == [("a/v.nrrd", "unsupported-format")]


def test_pairs_say_what_has_no_partner(tmp_path: Path) -> None:
    for name in ("images/a.png", "images/b.jpg", "masks/a.png", "masks/z.png"):
        picture(tmp_path / name)
    found = listed(tmp_path, task="segmentation", layout="folders", image="images/{id}.png", label="masks/{id}.png")
    assert len(found.sources) == 1
    assert found.notes == ["1 mask without an image", "1 file skipped (1 .jpg)"]


def test_numbers_without_a_unit_are_refused_while_planning(tmp_path: Path) -> None:
    volume(tmp_path / "a/raw.nii.gz", (BODY + 1024).astype(np.uint16))
    volume(tmp_path / "b/hu.nii.gz", BODY)
    data = {"modality": "ct", "task": "classification", "layout": "folders"}
    for preprocess in ({}, {"as": "slices"}):
        seen = surveyed(tmp_path, preprocess=preprocess, **data)
        assert [(p.path, p.code) for p in seen.problems] == [("a/raw.nii.gz", "not-hu")]
        assert len(surveyed(tmp_path, preprocess=preprocess, offset=-1024, **data).problems) == 0
    raw, hu = read_all(tmp_path, offset=-1024, **data)
    np.testing.assert_array_equal(raw.image, hu.image)


def test_slices_in_another_orientation_and_spacing_are_planned_as_they_are_read(tmp_path: Path) -> None:
    affine = np.array([[0, 0, 2.0, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])
    volume(tmp_path / "a/v.nii.gz", BODY, affine)
    volume(tmp_path / "b/w.nii.gz", BODY - 1, affine)
    data = {"modality": "ct", "task": "classification", "layout": "folders"}
    preprocess = {"as": "slices", "orientation": "RAS", "spacing": [2.0, 1.0, 2.5]}
    seen = surveyed(tmp_path, preprocess=preprocess, **data)
    samples = read_all(tmp_path, preprocess=preprocess, **data)
    assert (len(seen.found), seen.problems) == (len(samples), [])
    assert {item.shape.shape for item in seen.found} == {sample.image.shape for sample in samples} == {(1, 4, 6)}
    assert all("".join(nib.aff2axcodes(sample.affine)) == "RAS" for sample in samples)
