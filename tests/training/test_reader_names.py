"""What CorpusReader gives goes through MONAI's SaveImage with its defaults: a name of its own each, and the same pixels and affine."""

from pathlib import Path

import numpy as np
import pytest
from monai.data import NibabelReader
from monai.transforms import Compose, LoadImage, LoadImaged, SaveImage, SaveImaged

from medadv.training.dataset import CorpusDataset
from medadv.training.monai_reader import CorpusReader, datalist

pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodec")


@pytest.mark.parametrize("ensured", [False, True])
@pytest.mark.parametrize("which", ["ct_slices", "ct_volumes", "tiny_corpus"])
def test_images_are_saved_under_names_of_their_own_and_read_back(
    which: str, ensured: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    corpus = request.getfixturevalue(which)
    items = datalist(corpus)
    attack = CorpusDataset(corpus).attacks[0]
    keys = ["image", "adversarial", *(["label"] if isinstance(items[0]["label"], str) else [])]
    load = LoadImaged(keys, reader=CorpusReader, ensure_channel_first=ensured)
    save = Compose([load, SaveImaged(keys, output_dir=tmp_path, output_postfix="", separate_folder=False, print_log=False)])
    for item in items:
        save(item)
    names = {"image": "clean", "adversarial": attack, "label": "label"}
    expected = {f"{item['sample_id']}_{names[key]}.nii.gz" for item in items for key in keys}
    assert {path.name for path in tmp_path.iterdir()} == expected
    back = LoadImage(reader=NibabelReader, ensure_channel_first=True)
    dataset = CorpusDataset(corpus, attack)
    for index, item in enumerate(items):
        stored = dataset[index]
        for key in keys:
            again = back(tmp_path / f"{item['sample_id']}_{names[key]}.nii.gz")
            # Photographs come back with an axis of length one behind theirs.
            values = np.asarray(stored[key]).reshape(again.shape)
            assert np.array_equal(again.numpy(), values)
            if "affine" in stored:
                assert np.allclose(again.affine, stored["affine"], atol=1e-4)


def test_defaults_of_saveimage_keep_ten_images_apart(tiny_corpus: Path, tmp_path: Path) -> None:
    load, save = LoadImage(reader=CorpusReader), SaveImage(output_dir=tmp_path, print_log=False)
    for item in datalist(tiny_corpus):
        for key in ("image", "adversarial"):
            save(load(item[key]))
    assert len(list(tmp_path.rglob("*.nii.gz"))) == 20


@pytest.mark.parametrize("which", ["ct_slices", "ct_volumes", "tiny_corpus"])
def test_channel_first_is_as_stored(which: str, request: pytest.FixtureRequest) -> None:
    corpus = request.getfixturevalue(which)
    load = LoadImaged(["image", "adversarial"], reader=CorpusReader, ensure_channel_first=True)
    for item, stored in zip(datalist(corpus), CorpusDataset(corpus), strict=False):
        for key in ("image", "adversarial"):
            assert np.array_equal(load(item)[key].numpy(), stored[key].numpy())


def test_an_attack_whose_name_has_a_dot_keeps_it(tmp_path: Path) -> None:
    """SaveImage cuts one ending off a name."""
    from monai.data import create_file_basename

    name = "/corpus/shards/shard-00000.h5#/0a-0001_pgd-0.5.h5"
    assert Path(create_file_basename("", name, tmp_path, separate_folder=False)).name == "0a-0001_pgd-0.5"
