"""Several corpora as one data set, and a sampler over them: what is drawn, by whom, how often, and what is left after a stop."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from tests.training.small_corpora import detection, photographs, segmentation, write_corpus
from torch.utils.data import ConcatDataset, DataLoader, Subset

from medadv.training.collate import collate
from medadv.training.dataset import CorpusDataset
from medadv.training.sampler import CorpusSampler

COUNT = 12
LABELS = [0] * 9 + [1] * 3


@pytest.fixture(scope="module")
def generations(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three corpora of the same twelve pictures, nine of one class, with perturbations of their own; the last lacks four of them."""
    root = tmp_path_factory.mktemp("generations")
    draw = np.random.default_rng(1)
    folders = []
    for number, count in enumerate((COUNT, COUNT, 8)):
        delta = draw.integers(-8, 9, (count, 3, 24, 28), np.int8)
        folders.append(
            write_corpus(root / f"{number}", photographs(COUNT)[:count], np.array(LABELS[:count]), delta, axes="yx", task="classification")
        )
    return folders


def epochs(sampler: CorpusSampler, count: int) -> Iterator[list[int]]:
    for epoch in range(count):
        sampler.set_epoch(epoch)
        yield list(sampler)


def test_corpora_end_to_end_are_each_as_alone(generations: list[Path]) -> None:
    together, alone = CorpusDataset(generations, mode="mixed"), [CorpusDataset(folder, mode="mixed") for folder in generations]
    assert len(together) == COUNT + COUNT + 8
    for index, (number, place) in enumerate((n, p) for n, dataset in enumerate(alone) for p in range(len(dataset))):
        item, expected = together[index], alone[number][place]
        assert item["corpus"] == number
        assert item["sample_id"] == expected["sample_id"]
        assert together.locate(index) == alone[number].locate(place)
        if number == 0:
            assert torch.equal(item["image"], expected["image"])
    # The same sample of another corpus has draws of its own.
    assert [together[i]["is_adversarial"] for i in range(COUNT)] != [together[COUNT + i]["is_adversarial"] for i in range(COUNT)]
    assert collate([together[0], together[COUNT]])["corpus"].tolist() == [0, 1]


def test_corpora_that_differ_are_named(generations: list[Path], tmp_path: Path) -> None:
    boxes, scans = detection(tmp_path / "boxes"), segmentation(tmp_path / "scans")
    with pytest.raises(ValueError, match=rf"{generations[0]} and {boxes} differ in task: classification and detection"):
        CorpusDataset([*generations, boxes])
    volumes = segmentation(tmp_path / "volumes", volumes=True)
    with pytest.raises(ValueError, match="differ in spatial axes: xy and xyz"):
        CorpusDataset([scans, volumes])
    named = Path(shutil.copytree(generations[1], tmp_path / "named"))
    manifest = json.loads((named / "manifest.json").read_text())
    manifest["data"]["classes"] = ["well", "ill"]
    (named / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="differ in classes: none named and well, ill"):
        CorpusDataset([generations[0], named])
    # A label map in alphabetical order stands without `classes`: its names say what class 1 is.
    organs = {}
    for organ in ("liver", "spleen", "spleen again"):
        organs[organ] = segmentation(tmp_path / organ)
        manifest = json.loads((organs[organ] / "manifest.json").read_text())
        manifest["data"]["label_map"] = {"background": [0], organ.split()[0]: [1 if organ == "spleen" else 2]}
        (organs[organ] / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="differ in classes: liver and spleen"):
        CorpusDataset([organs["liver"], organs["spleen"]])
    assert len(CorpusDataset([organs["spleen"], organs["spleen again"]])) == 12
    with pytest.raises(ValueError, match="names no corpus"):
        CorpusDataset([])
    with pytest.raises(ValueError, match=r"attack=\[\] names none: leave it out, or name a"):
        CorpusDataset(generations, [])
    with pytest.raises(ValueError, match=f"attack 'b' is not in this corpus; there are a .*{generations[0]}"):
        CorpusDataset(generations, "b")


def test_every_sample_once_an_epoch_whatever_corpora_hold_it(generations: list[Path]) -> None:
    dataset = CorpusDataset(generations)
    sampler = CorpusSampler(dataset, seed=3)
    assert len(sampler) == COUNT
    orders = []
    for order in epochs(sampler, 40):
        assert sorted(dataset[index]["sample_id"] for index in order) == sorted(f"s{n}" for n in range(COUNT))
        orders.append(order)
    assert len({tuple(order) for order in orders}) == 40
    assert list(epochs(CorpusSampler(dataset, seed=3), 3)) == orders[:3]
    assert list(epochs(CorpusSampler(dataset, seed=4), 3)) != orders[:3]
    assert dataset.epoch == 2  # the data set's draws follow


def test_corpora_come_by_weight_and_a_sample_only_from_those_that_hold_it(generations: list[Path]) -> None:
    dataset = CorpusDataset(generations)
    counts: Counter[tuple[bool, int]] = Counter()
    for order in epochs(CorpusSampler(dataset, weights=[1, 0, 3]), 300):
        for index in order:
            place = index if index < COUNT else index - COUNT if index < 2 * COUNT else index - 2 * COUNT
            counts[place < 8, 0 if index < COUNT else 1 if index < 2 * COUNT else 2] += 1
    assert counts[False, 0] == 300 * 4  # four samples are in the first corpus alone
    assert counts[True, 1] == counts[False, 1] == 0
    assert abs(counts[True, 2] / (300 * 8) - 0.75) < 0.04  # 4.5 standard deviations
    newest = CorpusSampler(dataset, weights=[0, 0, 1])
    assert sorted(newest) == list(range(2 * COUNT, 2 * COUNT + 8))


def test_classes_and_groups_come_equally_often(generations: list[Path]) -> None:
    dataset = CorpusDataset(generations)
    for order in epochs(CorpusSampler(dataset, balance="class", length=18), 5):
        drawn = Counter(dataset[index]["sample_id"] for index in order)
        assert set(drawn.values()) == {1, 3}  # nine of one class once each, three of the other three times
        assert sum(drawn[f"s{n}"] for n in (9, 10, 11)) == 9
    for order in epochs(CorpusSampler(dataset, balance="class-group", length=12), 5):
        groups = Counter((int(dataset[i]["label"]), dataset[i]["group_id"]) for i in order)
        # Class 0: g0 to g3 two samples each, g4 one; class 1: g4 one, g5 two.
        assert sorted(groups[0, f"g{n}"] for n in range(5)) == [1, 1, 1, 1, 2]
        assert [groups[1, "g4"], groups[1, "g5"]] == [3, 3]
    (order,) = epochs(CorpusSampler(dataset, balance="class", length=400), 1)
    # Drawn again, a sample comes from a corpus drawn anew.
    assert len({index for index in order if index % COUNT == 9}) == 2


def test_what_is_ignored_is_no_foreground(tmp_path: Path) -> None:
    masks = np.zeros((4, 20, 16), np.uint8)
    masks[:2, :5], masks[0, 5:8] = 255, 1
    image = np.zeros((4, 1, 20, 16), np.int16)
    corpus = write_corpus(tmp_path / "c", image, masks, axes="xy", task="segmentation", affine=True, unit="hu")
    dataset = CorpusDataset(corpus)
    drawn = Counter(dataset[index]["sample_id"] for index in CorpusSampler(dataset, balance="class", length=12))
    assert drawn == {"s0": 6, "s1": 2, "s2": 2, "s3": 2}


def test_a_patient_is_one_patient_whatever_each_corpus_calls_it(generations: list[Path], tmp_path: Path) -> None:
    """With a key of its own, the second corpus has other group ids; that its samples are the first one's tells whose they are."""
    other = Path(shutil.copytree(generations[1], tmp_path / "other"))
    with h5py.File(other / "shards" / "shard-00000.h5", "r+") as file:
        groups = np.array([b"h" + bytes(value)[1:] for value in file["group_id"][...]], file["group_id"].dtype)
        samples = file["sample_id"][...]
        samples[0] = b"s99"  # only here, of the patient whose other picture is in both
        file["group_id"][...], file["sample_id"][...] = groups, samples
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["shards"][0]["bytes"] = (other / "shards" / "shard-00000.h5").stat().st_size
    (other / "manifest.json").write_text(json.dumps(manifest))
    dataset = CorpusDataset([generations[0], other])
    (order,) = epochs(CorpusSampler(dataset, balance="group", length=18), 1)
    drawn = Counter(dataset[index]["sample_id"] for index in order)
    assert [drawn[name] for name in ("s0", "s1", "s99")] == [1, 1, 1]  # six patients, three draws each
    assert len(drawn) == 13


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_ranks_share_an_epoch(generations: list[Path], world: int) -> None:
    dataset = CorpusDataset(generations)
    for epoch in range(3):
        ranks = [CorpusSampler(dataset, rank=rank, world_size=world) for rank in range(world)]
        for sampler in ranks:
            sampler.set_epoch(epoch)
        parts = [[index % COUNT for index in sampler] for sampler in ranks]
        assert {len(part) for part in parts} == {len(ranks[0])} == {-(-COUNT // world)}
        drawn = Counter(index for part in parts for index in part)
        assert set(drawn) == set(range(COUNT))
        assert sum(drawn.values()) - COUNT == -COUNT % world  # what fills the last round up



def read(loader: Any) -> list[tuple[list[str], list[bool], list[int]]]:
    return [(batch["sample_id"], batch["is_adversarial"].tolist(), batch["corpus"].tolist()) for batch in loader]


@pytest.mark.parametrize(("workers", "stop"), [(0, 1), (2, 2)])
def test_a_stopped_epoch_goes_on_with_the_batch_that_comes_next(generations: list[Path], workers: int, stop: int) -> None:
    def made() -> tuple[CorpusSampler, Any]:
        dataset = CorpusDataset(generations, mode="mixed")
        sampler = CorpusSampler(dataset, seed=1, weights=[1, 1, 2], length=14)
        return sampler, DataLoader(dataset, 4, sampler=sampler, num_workers=workers, collate_fn=collate, multiprocessing_context=context)

    context = "fork" if workers else None
    sampler, loader = made()
    sampler.set_epoch(5)
    whole = read(loader)
    sampler.set_epoch(6)
    after = read(loader)
    sampler, loader = made()
    sampler.set_epoch(5)
    seen = []
    for batch in sampler.counted(loader):
        seen += read([batch])
        if len(seen) == stop:
            state = json.loads(json.dumps(sampler.state_dict()))
            assert state == sampler.state_dict(consumed=4 * stop)
            break
    sampler, loader = made()
    sampler.load_state_dict(state)
    sampler.set_epoch(5)  # as the loop over epochs does that goes on
    next(iter(sampler))  # a look at what comes does not move it
    assert seen + read(sampler.counted(loader)) == whole
    assert sampler.state_dict()["position"] == 14
    sampler.set_epoch(6)
    assert read(loader) == after


def test_a_state_that_nobody_counted_is_not_gone_on_from(generations: list[Path]) -> None:
    sampler = CorpusSampler(CorpusDataset(generations))
    fresh = sampler.state_dict()
    next(iter(sampler))
    state = sampler.state_dict()
    sampler.load_state_dict(state)
    with pytest.raises(ValueError, match=r"sampler\.counted\(loader\), or as sampler\.state_dict\(consumed=…\)"):
        next(iter(sampler))
    sampler.load_state_dict(fresh)
    assert len(list(sampler)) == COUNT
    with pytest.raises(ValueError, match="the state is of a sampler with seed=0, this one has seed=1"):
        CorpusSampler(CorpusDataset(generations), seed=1).load_state_dict(fresh)
    with pytest.raises(ValueError, match="with samples="):
        CorpusSampler(CorpusDataset(generations[:2]), weights=[1, 1]).load_state_dict({**fresh, "of": {**fresh["of"], "weights": [1, 1]}})


@pytest.mark.parametrize("world", [1, 3])
def test_an_epoch_goes_on_over_another_number_of_ranks(generations: list[Path], world: int) -> None:
    dataset = CorpusDataset(generations)
    before = [CorpusSampler(dataset, rank=rank, world_size=2) for rank in range(2)]
    first = [index for sampler in before for index in list(sampler)[:2]]
    state = before[0].state_dict(consumed=2)
    parts = []
    for rank in range(world):
        sampler = CorpusSampler(dataset, rank=rank, world_size=world)
        sampler.load_state_dict(state)
        parts.append(list(sampler))
    assert len({len(part) for part in parts}) == 1
    assert {index % COUNT for part in [first, *parts] for index in part} == set(range(COUNT))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.filterwarnings("ignore")
def test_torchdatas_loader_keeps_the_state_by_itself(generations: list[Path], workers: int) -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader", reason="torchdata is not installed")

    def made() -> tuple[CorpusSampler, Any]:
        dataset = CorpusDataset(generations, mode="mixed")
        sampler = CorpusSampler(dataset, seed=1)
        return sampler, stateful.StatefulDataLoader(dataset, 3, sampler=sampler, num_workers=workers, collate_fn=collate)

    sampler, loader = made()
    sampler.set_epoch(2)
    whole = read(loader)
    sampler.set_epoch(3)
    after = read(loader)
    sampler, loader = made()
    sampler.set_epoch(2)
    batches = iter(loader)
    seen = read([next(batches)])
    state = loader.state_dict()
    del batches
    sampler, loader = made()
    sampler.set_epoch(2)
    loader.load_state_dict(state)
    assert seen + read(loader) == whole
    sampler.set_epoch(3)
    assert read(loader) == after


def test_parts_of_corpora_are_sampled_too(generations: list[Path]) -> None:
    datasets = [CorpusDataset(folder) for folder in generations]
    part = Subset(ConcatDataset(datasets), [0, 3, COUNT, COUNT + 5])
    assert sorted(CorpusSampler(part, weights=[1, 0, 0])) == [0, 1]
    assert {len(set(order) & {0, 2}) for order in epochs(CorpusSampler(part), 9)} == {1}


def test_wrong_arguments_are_named(generations: list[Path]) -> None:
    dataset = CorpusDataset(generations)
    for wrong, message in (
        ({"weights": [1, 2]}, r"weights=\[1, 2\] must hold one number for each of the 3"),
        ({"weights": [1, -1, 0]}, "finite and not below 0"),
        ({"weights": [0, 0, 0]}, "no sample to draw"),
        ({"balance": "patient"}, "balance='patient'"),
        ({"rank": 2, "world_size": 2}, "rank=2 must lie between 0 and world_size - 1, and world_size is 2"),
        ({"length": 0}, "length=0"),
    ):
        with pytest.raises(ValueError, match=message):
            CorpusSampler(dataset, **wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not list"):
        CorpusSampler([1, 2])
    with pytest.raises(ValueError, match="consumed=-1"):
        CorpusSampler(dataset).state_dict(consumed=-1)
