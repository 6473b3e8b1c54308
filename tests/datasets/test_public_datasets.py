"""The specs of public data sets, on drawn folders in the layout that each is downloaded in."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import yaml
from PIL import Image
from tests.conftest import quiet, save_victim
from tests.docs.documents import ROOT

from medadv.common.errors import SpecError
from medadv.datasets.layouts import list_samples
from medadv.datasets.reader import Reader
from medadv.prepare.describe import describe
from medadv.prepare.request import Options
from medadv.spec.reading import load_spec
from medadv.spec.run_spec import RunSpec

SPECS = ROOT / "manifests" / "specs"


def picture(path: Path, seed: int, size: tuple[int, int] = (64, 48)) -> None:
    """A picture like no other: smooth noise, with a bright disc where fundus photographs have their field of view."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(60, 220, (6, 8, 3), np.uint8)
    image = np.asarray(Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)).copy()
    y, x = np.mgrid[: size[1], : size[0]]
    image[(x - size[0] / 2) ** 2 + (y - size[1] / 2) ** 2 > (0.48 * size[1]) ** 2] = 0
    Image.fromarray(image).save(path)


def draw_aptos(root: Path) -> None:
    """train.csv with grades, train_images/ID.png, and test.csv beside them; one photograph twice with another grade."""
    rows = [("000c1434d8d7", 2), ("001639a390f0", 4), ("0024cdab0c1e", 1), ("002c21358ce6", 0)]
    for number, (name, _) in enumerate(rows):
        picture(root / "train_images" / f"{name}.png", number)
    picture(root / "train_images" / "ffff00000000.png", 0)
    table = [*rows, ("ffff00000000", 3)]
    (root / "train.csv").write_text("id_code,diagnosis\n" + "".join(f"{name},{grade}\n" for name, grade in table))
    (root / "test.csv").write_text("id_code\n0005cfc8afb6\n")


def draw_ead(root: Path) -> None:
    """NAME.jpg beside NAME.txt; a frame without artefacts has an empty file."""
    for number, lines in enumerate((["5 0.25 0.5 0.125 0.25", "0 0.5 0.5 0.25 0.5"], ["6 0.75 0.25 0.5 0.5"], [])):
        picture(root / f"{number:05d}.jpg", number)
        (root / f"{number:05d}.txt").write_text("".join(f"{line}\n" for line in lines))


def draw_covid(root: Path) -> None:
    """Two volumes of each source; the masks of all in one folder."""
    names = ["coronacases_001", "coronacases_002", "radiopaedia_4_85506_1", "radiopaedia_7_85703_0"]
    for folder in ("COVID-19-CT-Seg_20cases", "Lung_Mask"):
        (root / folder).mkdir(parents=True)
    for number, name in enumerate(names):
        mask = np.zeros((32, 32, 3), np.uint8)
        mask[4:14, 8:24, 1:], mask[18:28, 8:24, 1:] = 1, 2
        hu = np.where(mask > 0, -800, 40).astype(np.int16) + np.int16(number)
        values = hu if name.startswith("corona") else np.clip((hu + 1250) / 6, 0, 255).astype(np.int16)
        for folder, array in (("COVID-19-CT-Seg_20cases", values), ("Lung_Mask", mask)):
            image = nibabel.Nifti1Image(array, np.diag([-0.7, -0.7, 5.0, 1.0]))
            image.set_sform(image.affine, 1)
            image.set_qform(image.affine, 1)
            nibabel.save(image, root / folder / f"{name}.nii.gz")


DRAWN = {"aptos-2019": draw_aptos, "ead-2019": draw_ead, "covid-19-ct-lung": draw_covid}


@pytest.fixture(scope="module", params=sorted(DRAWN))
def downloaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A spec in its place below a folder that holds the data where the spec looks, and weights that fit."""
    name = request.param
    home = tmp_path_factory.mktemp(name)
    spec = yaml.safe_load((SPECS / f"{name}.yaml").read_text())
    path = (home / "manifests" / "specs" / spec["data"]["path"]).resolve()
    DRAWN[name](path if path.suffix == "" else path.parent)
    (home / "victims").mkdir()
    save_victim(home / "victims" / Path(spec["victim"]["weights"]).name, spec["victim"]["network"], spec["victim"]["arguments"])
    (home / "manifests" / "specs").mkdir(parents=True)
    copied = home / "manifests" / "specs" / f"{name}.yaml"
    copied.write_text((SPECS / f"{name}.yaml").read_text())
    return name, copied


def labels(spec: RunSpec, base: Path) -> list[Any]:
    """Labels of all samples as they will be stored, in the order of their files."""
    listing = list_samples(spec.data, base)
    reader = Reader(listing.root, spec.data, spec.preprocess)
    return [reader.read(part).label for source in listing.sources for part in reader.expand(source)]


def test_the_plan_finds_what_the_folder_holds(downloaded: tuple[str, Path]) -> None:
    name, spec = downloaded
    # A plan tries a step of the attack, which takes half a minute on pictures of their full size.
    smaller = {"aptos-2019": ["preprocess.size=[64, 64]"], "ead-2019": ["preprocess.size=[64, 64]", "victim.arguments.size=64"]}
    facts = describe(spec, Options(overrides=smaller.get(name, [])), quiet)
    # Both copies of the photograph that has two grades are out; slices are samples; Radiopaedia's volumes are passed over.
    assert (facts["samples"], facts["quarantined"]) == {"aptos-2019": (3, 2), "ead-2019": (3, 0), "covid-19-ct-lung": (6, 0)}[name]


def test_labels_arrive_as_they_were_drawn(downloaded: tuple[str, Path]) -> None:
    name, path = downloaded
    found = labels(load_spec(path), path.parent)
    if name == "aptos-2019":
        assert found == [2, 4, 1, 0, 3]
    elif name == "ead-2019":
        # 64 x 48 becomes 512 x 384 in the middle of 512 x 512: eight times as large, 64 pixels down; classes count from 1.
        assert [label.classes.tolist() for label in found] == [[6, 1], [7], []]
        np.testing.assert_allclose(found[0].boxes[0], [96, 64 + 144, 160, 64 + 240])
    else:
        assert [int(mask.sum()) for mask in found] == [0, 320, 320] * 2
        assert set(np.unique(found[1])) == {0, 1}


def test_pairs_say_what_is_missing(tmp_path: Path) -> None:
    draw_covid(tmp_path)
    (tmp_path / "Lung_Mask" / "coronacases_002.nii.gz").unlink()
    spec = load_spec(SPECS / "covid-19-ct-lung.yaml", [f"data.path={tmp_path}"])
    listing = list_samples(spec.data, tmp_path)
    assert [source.images for source in listing.sources] == [("COVID-19-CT-Seg_20cases/coronacases_001.nii.gz",)]
    assert [(problem.path, problem.code) for problem in listing.problems] == [("Lung_Mask/coronacases_002.nii.gz", "not-found")]
    wrong = [({"image": "x.nii.gz"}, "with one"), ({"label": "Lung_Mask"}, "takes a template"), ({"group": "patient"}, "no split")]
    for change, words in wrong:
        with pytest.raises(SpecError, match=words):
            list_samples(spec.data.model_copy(update=change), tmp_path)
