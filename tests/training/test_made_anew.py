"""Readers stay with the files that they were made for: a corpus made anew at the same path, and folders that are named relatively."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from monai.data import PersistentDataset
from monai.transforms import LoadImaged
from tests.conftest import CLASSIFIER, draw_pictures, quiet, save_victim, tiny_spec
from torch.utils.data import ConcatDataset, DataLoader

from medadv.common.errors import IntegrityError
from medadv.prepare.request import Options
from medadv.run.run import run
from medadv.store.reader import open_files
from medadv.training.collate import collate
from medadv.training.dataset import CorpusDataset
from medadv.training.monai_reader import CorpusReader, datalist
from medadv.training.sampling import BalancedSampler

pytestmark = [pytest.mark.usefixtures("inline"), pytest.mark.filterwarnings("ignore:NvImgCodec")]


def make(folder: Path, epsilon: int, count: int = 4) -> Path:
    """A corpus of one attack `pgd`, in FOLDER/corpus."""
    if not (folder / "victim.safetensors").exists():
        folder.mkdir(parents=True, exist_ok=True)
        save_victim(folder / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    draw_pictures(folder / "data", count)
    attack = {"attack": "pgd", "epsilon": epsilon, "step": epsilon, "steps": 2}
    return run(tiny_spec(folder, attacks={"pgd": attack}, sanity_samples=0), Options(), quiet).corpus


def make_anew(folder: Path, epsilon: int) -> Path:
    """The same inputs attacked with another bound, at the same path."""
    shutil.rmtree(folder / "corpus")
    return make(folder, epsilon)


def largest(item: dict[str, torch.Tensor]) -> int:
    return int((item["adversarial"] - item["image"]).abs().max())


def named(corpus: Path) -> int:
    load = LoadImaged(["image", "adversarial"], reader=CorpusReader)
    return largest(load(datalist(corpus)[0]))


def test_a_corpus_made_anew_is_read_from_its_new_files(tmp_path: Path) -> None:
    corpus = make(tmp_path, 2)
    assert (largest(CorpusDataset(corpus)[0]), named(corpus)) == (2, 2)
    make_anew(tmp_path, 4)
    dataset = CorpusDataset(corpus)
    assert dataset.manifest.attacks["pgd"].epsilon == 4
    # The same process made both: the settings that it attacked with are those of the second plan.
    with h5py.File(dataset.paths[0]) as file:
        assert np.abs(file["attacks/pgd/perturbation"][...]).max() == 4
    assert (largest(dataset[0]), named(corpus)) == (4, 4)


def test_an_older_reader_says_that_the_corpus_is_another(tmp_path: Path) -> None:
    corpus = make(tmp_path, 2)
    read, unread = CorpusDataset(corpus), CorpusDataset(corpus)
    assert largest(read[0]) == 2
    make_anew(tmp_path, 4)
    for dataset in (read, unread):
        with pytest.raises(IntegrityError, match="corpus was made anew or damaged since; make the reader again"):
            dataset[0]
    with pytest.raises(IntegrityError, match="made anew"):
        BalancedSampler(unread)
    with pytest.raises(IntegrityError, match="made anew"):
        list(DataLoader(unread, batch_size=2, num_workers=1, collate_fn=collate))


def test_a_file_overwritten_in_place_is_read_anew(tmp_path: Path) -> None:
    """The inode stays the same, and HDF5 shares what it holds open by inode."""
    paths = [tmp_path / name for name in ("a.h5", "b.h5")]
    for value, path in enumerate(paths, start=1):
        with h5py.File(path, "w") as file:
            file["image"] = np.full((value, 1, 2, 2), value, np.uint8)
            file.attrs.update({"unit": "level8", "spatial_axes": "yx"})
    assert open_files(paths[0])["image"].shape == (1, 1, 2, 2)
    with paths[0].open("r+b") as target:
        target.write(paths[1].read_bytes())
        target.truncate()
    assert open_files(paths[0])["image"][...].tolist() == [[[[2, 2]] * 2]] * 2


def test_a_reader_goes_on_while_its_corpus_grows(tmp_path: Path) -> None:
    corpus = make(tmp_path, 2)
    dataset = CorpusDataset(corpus)
    before = [dataset[index]["adversarial"] for index in range(4)]
    make(tmp_path, 2, count=6)
    assert [len(dataset), len(CorpusDataset(corpus))] == [4, 6]
    assert all(torch.equal(dataset[index]["adversarial"], before[index]) for index in range(4))


def test_what_is_cached_of_a_datalist_is_not_taken_for_a_corpus_made_anew(tmp_path: Path) -> None:
    load = LoadImaged(["image", "adversarial"], reader=CorpusReader)
    found = []
    for epsilon in (2, 4):
        corpus = make(tmp_path, epsilon) if epsilon == 2 else make_anew(tmp_path, epsilon)
        found.append(largest(PersistentDataset(datalist(corpus), load, cache_dir=tmp_path / "cache")[0]))
    assert found == [2, 4]


def test_relative_paths_are_fixed_when_the_reader_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpora = [make(tmp_path / str(epsilon), epsilon) for epsilon in (2, 4)]
    datasets, lists = [], []
    for corpus in corpora:
        monkeypatch.chdir(corpus)
        datasets.append(CorpusDataset("."))
        lists.append(datalist("."))
    # From the second folder, and from a third one, in this process and in workers.
    for place in (corpora[1], tmp_path):
        monkeypatch.chdir(place)
        load = LoadImaged(["image", "adversarial"], reader=CorpusReader)
        assert [largest(dataset[0]) for dataset in datasets] == [2, 4]
        assert [largest(load(items[0])) for items in lists] == [2, 4]
    loader = DataLoader(ConcatDataset(datasets), batch_size=4, num_workers=1, collate_fn=collate, multiprocessing_context="spawn")
    assert [largest(batch) for batch in loader] == [2, 4]


def test_a_datalist_is_relative_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = make(tmp_path / "here", 2)
    items = datalist(corpus, relative_to=tmp_path)
    assert all(item[key].startswith("here/corpus/shards/") for item in items for key in ("image", "adversarial"))
    shutil.move(tmp_path / "here", tmp_path / "moved")
    (tmp_path / "there").mkdir()
    shutil.move(tmp_path / "moved", tmp_path / "there" / "here")
    monkeypatch.chdir(tmp_path / "there")
    assert largest(LoadImaged(["image", "adversarial"], reader=CorpusReader)(items[0])) == 2
