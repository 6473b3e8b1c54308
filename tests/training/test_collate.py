"""Batches: MONAI's own collate functions, patches that come as lists, indices and subsets of every kind, names of a corpus."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_corpora
import torch
from monai.data import DataLoader as MonaiLoader
from monai.data import list_data_collate, pad_list_data_collate
from monai.transforms import LoadImaged, RandCropByPosNegLabeld, RandFlipd, RandSpatialCropd
from torch.utils.data import ConcatDataset, DataLoader, Subset, SubsetRandomSampler

from medadv.common.errors import IntegrityError
from medadv.training.collate import collate
from medadv.training.dataset import CorpusDataset
from medadv.training.monai_reader import CorpusReader, datalist
from medadv.training.sampling import BalancedSampler

MAKERS = {
    "classification": small_corpora.classification,
    "segmentation": small_corpora.segmentation,
    "detection": small_corpora.detection,
}


@pytest.fixture(scope="module", params=MAKERS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    return request.param, MAKERS[request.param](tmp_path_factory.mktemp(request.param) / "corpus")


@pytest.mark.parametrize("function", [list_data_collate, pad_list_data_collate])
@pytest.mark.parametrize("transform", [None, RandFlipd(["image", "adversarial"], 0.5, 0)])
def test_monais_loader_works_or_names_ours(case: tuple[str, Path], function: Any, transform: Any) -> None:
    task, corpus = case
    dataset = CorpusDataset(corpus, transform=transform)
    loader = MonaiLoader(dataset, batch_size=3, collate_fn=function, num_workers=2)
    if task == "detection":  # 0, 1 and 2 boxes
        said = r"0, 1, 2 boxes, which do not stack: DataLoader\(…, collate_fn=medadv\.collate"
        with pytest.raises((RuntimeError, ValueError), match=said):
            list(loader)
        return
    batches = list(loader)
    ours = list(DataLoader(dataset, batch_size=3, collate_fn=collate))
    assert all(batch[key].shape == our[key].shape for batch, our in zip(batches, ours, strict=True) for key in ("image", "label"))
    assert [batch["sample_id"] for batch in batches] == [our["sample_id"] for our in ours]


def test_padding_to_one_shape(tmp_path: Path) -> None:
    keys = ["image", "adversarial", "label"]
    dataset = CorpusDataset(
        small_corpora.segmentation(tmp_path / "c"), transform=RandSpatialCropd(keys, [4, 4], random_size=True), seed=1
    )
    batch = next(iter(MonaiLoader(dataset, batch_size=4, collate_fn=pad_list_data_collate)))
    assert batch["image"].shape == batch["label"].shape
    with pytest.raises(ValueError, match=r"image has shapes .* in one batch: crop or pad to one shape"):
        collate([dataset[index] for index in range(4)])


def test_lists_of_patches_are_laid_end_to_end(tmp_path: Path) -> None:
    keys = ["image", "adversarial", "label"]
    dataset = CorpusDataset(
        small_corpora.segmentation(tmp_path / "c"), transform=RandCropByPosNegLabeld(keys, "label", [4, 4], num_samples=3)
    )
    batch = next(iter(DataLoader(dataset, batch_size=2, collate_fn=collate, num_workers=2)))
    assert batch["image"].shape == batch["label"].shape == (6, 1, 4, 4)
    assert batch["affine"].shape == (6, 4, 4)
    assert batch["sample_id"] == ["s0"] * 3 + ["s1"] * 3


def test_mixed_tasks_are_a_sentence(tmp_path: Path) -> None:
    datasets = {name: CorpusDataset(make(tmp_path / name)) for name, make in MAKERS.items()}
    with pytest.raises(ValueError, match=r"boxes, classes, label, spatial_axes: in some samples .* one task"):
        collate([datasets["classification"][0], datasets["detection"][0]])
    photographs = small_corpora.photographs(2, 20)
    masks = small_corpora.write_corpus(tmp_path / "m", photographs, photographs[:, 0] % 2, axes="yx", task="segmentation")
    classes = small_corpora.write_corpus(tmp_path / "k", photographs, np.arange(2), axes="yx", task="classification")
    with pytest.raises(ValueError, match=r"label has shapes \[\] and \[1, 20, 24\] .* corpora of different tasks"):
        collate([CorpusDataset(masks)[0], CorpusDataset(classes)[0]])
    with pytest.raises(ValueError, match="takes dictionaries, the transform gave Tensor"):
        collate([torch.zeros(3)])


def test_boxes_reach_training_code_as_plain_tensors(tmp_path: Path) -> None:
    dataset = CorpusDataset(small_corpora.detection(tmp_path / "c"))
    for context in ("fork", "spawn"):
        loader = DataLoader(dataset, batch_size=3, collate_fn=collate, num_workers=1, multiprocessing_context=context)
        batch = next(iter(loader))
        assert [type(boxes) for boxes in batch["boxes"] + batch["classes"]] == [torch.Tensor] * 6
        assert [len(boxes) for boxes in batch["boxes"]] == [0, 1, 2]


def test_numbers_of_numpy_become_tensors() -> None:
    batch = collate([{"age": np.float32(age), "seen": np.bool_(age > 1), "site": np.str_("a")} for age in (1, 2)])
    assert torch.equal(batch["age"], torch.tensor([1.0, 2.0]))
    assert torch.equal(batch["seen"], torch.tensor([False, True]))
    assert batch["site"] == ["a", "a"]


def test_indices_of_every_kind(tmp_path: Path) -> None:
    dataset = CorpusDataset(small_corpora.classification(tmp_path / "c"))
    for index in (3, np.int64(3), torch.tensor(3), np.array(3), -5):
        assert dataset[index]["sample_id"] == "s3"
    assert [item["sample_id"] for item in dataset[2:5]] == ["s2", "s3", "s4"]
    for several in ([1, 6], np.array([1, 6]), torch.tensor([1, 6])):
        chosen = dataset[several]
        assert isinstance(chosen, Subset)
        assert [chosen[place]["sample_id"] for place in range(2)] == ["s1", "s6"]
    folds = np.array_split(np.random.default_rng(0).permutation(8), 4)  # as KFold gives them
    seen = [batch["sample_id"] for fold in folds for batch in DataLoader(Subset(dataset, fold), batch_size=2, collate_fn=collate)]
    assert sorted(name for names in seen for name in names) == [f"s{index}" for index in range(8)]
    loader = DataLoader(dataset, batch_size=2, sampler=SubsetRandomSampler(torch.tensor([5, 6])), collate_fn=collate, num_workers=2)
    assert sorted(next(iter(loader))["sample_id"]) == ["s5", "s6"]
    for wrong in (True, np.True_, torch.tensor(True), np.array([True, False])):
        with pytest.raises(TypeError, match=r"is no index|is no whole number"):
            dataset[wrong]
    with pytest.raises(TypeError, match=r"index 1.0 of type float is no whole number"):
        dataset[1.0]
    with pytest.raises(IndexError, match="index 8 of 8 samples"):
        dataset[8]


def test_balanced_draws_from_subsets(tmp_path: Path) -> None:
    dataset = CorpusDataset(small_corpora.classification(tmp_path / "c"))  # classes 0, 1, 0, 1, …
    subset = Subset(dataset, np.array([0, 2, 4, 5]))
    drawn = list(BalancedSampler(subset, "class", length=2000))
    assert set(drawn) == {0, 1, 2, 3}
    assert abs(np.mean([place == 3 for place in drawn]) - 0.5) < 0.05  # index 5 alone is of class 1
    both = list(BalancedSampler(ConcatDataset([subset, dataset]), "class", length=200))
    assert max(both) > 3
    with pytest.raises(TypeError, match="not list"):
        BalancedSampler([1, 2])


# MONAI's own readers warn that NVIDIA's decoder is not there.
@pytest.mark.filterwarnings("ignore:NvImgCodec")
def test_corpora_are_found_however_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = small_corpora.segmentation(tmp_path / "home" / "a #1.h5#b" / "corpus")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    written = (corpus, corpus / "manifest.json", "~/a #1.h5#b/corpus", "~/a #1.h5#b/corpus/manifest.json", "home/a #1.h5#b/corpus")
    for way in written:
        assert CorpusDataset(way)[1]["sample_id"] == "s1"
        item = LoadImaged(["image", "adversarial", "label"], reader=CorpusReader, ensure_channel_first=True)(datalist(way)[1])
        assert np.array_equal(item["adversarial"].numpy(), CorpusDataset(corpus)[1]["adversarial"].numpy())
    with pytest.raises(IntegrityError, match=r"no readable manifest.json"):
        CorpusDataset("~/nothing")


# MONAI's own readers warn that NVIDIA's decoder is not there.
@pytest.mark.filterwarnings("ignore:NvImgCodec")
def test_names_that_lead_nowhere_say_why(tmp_path: Path) -> None:
    corpus = small_corpora.segmentation(tmp_path / "c")
    name = datalist(corpus)[0]["image"]
    load = LoadImaged("image", reader=CorpusReader)
    with pytest.raises(ValueError, match=r"attack 'b' is not in this corpus; there are a"):
        load({"image": name.replace("_clean", "_b")})
    with pytest.raises(ValueError, match="no sample 's99' in this shard"):
        load({"image": name.replace("s0_", "s99_")})
    photographs = datalist(small_corpora.classification(tmp_path / "k"))[0]["image"]
    with pytest.raises(ValueError, match="no masks under 'label'"):
        load({"image": photographs.replace("_clean", "_label")})
    shutil.move(corpus, tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"no such shard; where a corpus was moved"):
        load({"image": name})
    assert "has to be named" in (CorpusReader.__doc__ or "")
