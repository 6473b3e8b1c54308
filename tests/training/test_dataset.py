"""CorpusDataset: what is read is what is stored, whichever mode, patch, worker or epoch."""

import copy
import pickle
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from monai.data import DataLoader as MonaiLoader
from monai.data import PersistentDataset
from monai.transforms import LoadImaged
from tests.conftest import NO_PLAN, manifest_by_hand
from tests.training.small_corpora import classification
from torch.utils.data import DataLoader

from medadv.common.errors import IntegrityError
from medadv.common.hashing import canonical_json, hash_file
from medadv.datasets.labels import Boxes
from medadv.store.layout import ShardContent
from medadv.store.patches import Window, crop_boxes
from medadv.store.reader import CHUNK_CACHE, open_files
from medadv.store.writer import write_content
from medadv.training.collate import collate
from medadv.training.dataset import CorpusDataset
from medadv.training.monai_reader import CorpusReader, datalist
from medadv.training.sampling import BalancedSampler


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three CT-like volumes with masks and an oblique affine; just enough of a corpus to be read."""
    root = tmp_path_factory.mktemp("volumes")
    (root / "shards").mkdir()
    draw = np.random.default_rng(5)
    image = draw.integers(-1000, 1000, (3, 1, 40, 70, 66), np.int16)
    affine = np.array([[0.0, -0.8, 0, 10], [0.8, 0, 0, -20], [0, 0, 2.5, 30], [0, 0, 0, 1]])
    content = ShardContent(
        {"/": {"spatial_axes": "xyz", "unit": "hu", "plan": NO_PLAN}, "attacks/a": {"epsilon": 8.0}},
        {
            "image": image,
            "label": draw.integers(0, 3, (3, 40, 70, 66), np.uint8),
            "affine": np.stack([affine] * 3),
            "sample_id": np.array(["v0", "v1", "v2"], "S"),
            "group_id": np.array(["g0", "g0", "g1"], "S"),
            "attacks/a/perturbation": draw.integers(-8, 9, image.shape, np.int8),
            "attacks/a/success": np.array([1, 0, 1], np.uint8),
        },
    )
    write_content(root / "shards" / "shard-00000.h5", content, 3)
    (root / "manifest.json").write_bytes(canonical_json(manifest_by_hand(root / "shards" / "shard-00000.h5", 3, 8.0)))
    return root


def raw(corpus: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Sample -> (clean, perturbation of the first attack), by plain h5py."""
    found = {}
    for path in sorted((corpus / "shards").glob("*.h5")):
        with h5py.File(path) as file:
            attack = sorted(file["attacks"])[0]
            for row, name in enumerate(file["sample_id"][...]):
                found[name.decode()] = (file["image"][row].astype(int), file[f"attacks/{attack}/perturbation"][row].astype(int))
    return found


def test_modes_hold_what_is_stored(tiny_corpus: Path) -> None:
    truth = raw(tiny_corpus)
    datasets = {mode: CorpusDataset(tiny_corpus, "pgd-8", mode=mode) for mode in ("pair", "clean", "adversarial", "mixed")}
    kinds = set()
    for index in range(10):
        pair, clean, adversarial, mixed = (datasets[mode][index] for mode in datasets)
        image, delta = truth[pair["sample_id"]]
        assert np.array_equal(pair["image"].numpy(), image)
        assert np.array_equal(pair["adversarial"].numpy(), image + delta)
        assert np.array_equal(clean["image"].numpy(), image)
        assert "adversarial" not in clean
        assert np.array_equal(adversarial["image"].numpy(), image + delta)
        assert np.array_equal(mixed["image"].numpy(), image + delta * mixed["is_adversarial"])
        kinds.add(mixed["is_adversarial"])
    assert kinds == {True, False}


def test_draws_follow_seed_epoch_and_sample_and_nothing_else(tiny_corpus: Path) -> None:
    def seen(workers: int, epoch: int, context: str | None = None, seed: int = 0) -> list[tuple[str, bool]]:
        dataset = CorpusDataset(tiny_corpus, ["pgd-8", "smia-8"], mode="mixed", seed=seed)
        dataset.set_epoch(epoch)
        loader = DataLoader(dataset, batch_size=3, num_workers=workers, collate_fn=collate, multiprocessing_context=context)
        return [pair for batch in loader for pair in zip(batch["attack"], batch["is_adversarial"].tolist(), strict=True)]

    assert seen(0, 0) == seen(0, 0) == seen(2, 0, "fork")
    assert seen(0, 0) != seen(0, 1)
    assert seen(0, 0) != seen(0, 0, seed=1)
    assert {attack for attack, _ in seen(0, 0)} == {"pgd-8", "smia-8"}


def test_forked_workers_read_right_after_the_parent_has_read(tiny_corpus: Path) -> None:
    dataset = CorpusDataset(tiny_corpus)
    expected = [dataset[index]["adversarial"] for index in range(len(dataset))]
    open_files(dataset.paths[0])
    for _ in range(2):
        loader = DataLoader(dataset, batch_size=1, num_workers=2, collate_fn=collate, multiprocessing_context="fork")
        for index, batch in enumerate(loader):
            assert torch.equal(batch["adversarial"][0], expected[index])
            assert torch.equal(dataset[index]["adversarial"], expected[index])


def test_volumes_keep_bricks_and_pictures_keep_nothing(volumes: Path, tmp_path: Path) -> None:
    for corpus, kept in ((volumes, CHUNK_CACHE), (classification(tmp_path), 0)):
        assert open_files(CorpusDataset(corpus).paths[0]).id.get_access_plist().get_cache()[2] == kept


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_that_live_on_see_the_next_epoch(tiny_corpus: Path, context: str) -> None:
    dataset = CorpusDataset(tiny_corpus, mode="mixed")
    loader = DataLoader(
        dataset, batch_size=10, num_workers=1, persistent_workers=True, collate_fn=collate, multiprocessing_context=context
    )
    for epoch in range(2):
        dataset.set_epoch(epoch)
        (batch,) = list(loader)
        assert batch["is_adversarial"].tolist() == [dataset[index]["is_adversarial"] for index in range(10)]


def test_a_curriculum_scales_perturbations_on_the_lattice(tiny_corpus: Path) -> None:
    dataset = CorpusDataset(tiny_corpus, "pgd-8", epsilon=lambda epoch: 2.0 * epoch)
    truth = raw(tiny_corpus)
    for epoch, bound in ((0, 0), (1, 2), (3, 6), (4, 8)):
        dataset.set_epoch(epoch)
        item = dataset[3]
        image, delta = truth[item["sample_id"]]
        found = item["adversarial"].numpy() - image
        assert np.abs(found).max() == bound
        assert np.array_equal(found, found.round())
        assert np.abs(found - delta * bound / 8).max() <= 0.5
    with pytest.raises(ValueError, match="epsilon=10 must lie between 0 and the 8 that pgd-8 was made with"):
        dataset.set_epoch(5)
    with pytest.raises(ValueError, match="epsilon=9 must lie between 0 and the 8"):
        CorpusDataset(tiny_corpus, epsilon=9)
    # (0.1 + 0.7) * 10 is a rounding error below 8.
    whole = CorpusDataset(tiny_corpus, "pgd-8", epsilon=(0.1 + 0.7) * 10)
    assert torch.equal(whole[3]["adversarial"], CorpusDataset(tiny_corpus, "pgd-8")[3]["adversarial"])


def test_a_curriculum_leaves_perturbations_of_a_smaller_bound_as_they_are(ct_slices: Path) -> None:
    dataset = CorpusDataset(ct_slices, ["pgd-20", "pgd-90"], epsilon=lambda epoch: 40.0 * epoch)
    dataset.set_epoch(1)
    most = {item["attack"]: float((item["adversarial"] - item["image"]).abs().max()) for item in dataset}
    assert most == {"pgd-20": 20, "pgd-90": 40}


def epoch_of_a_rank(rank: int, dataset: CorpusDataset, meet: Any, answers: Any) -> None:
    """Rank 0 is an epoch ahead when rank 1 is asked which one it is in."""
    dataset.set_epoch(0)
    meet.wait()
    if rank == 0:
        dataset.set_epoch(1)
    meet.wait()
    if rank == 1:
        (batch,) = DataLoader(dataset, batch_size=len(dataset), num_workers=1, collate_fn=collate)
        answers.put((dataset.epoch, batch["is_adversarial"].tolist()))
    meet.wait()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_rank_that_is_ahead_does_not_move_the_others(tiny_corpus: Path, method: str) -> None:
    dataset = CorpusDataset(tiny_corpus, mode="mixed")
    expected = [dataset[index]["is_adversarial"] for index in range(len(dataset))]
    context = torch.multiprocessing.get_context(method)
    answers, meet = context.SimpleQueue(), context.Barrier(2)
    torch.multiprocessing.start_processes(epoch_of_a_rank, (dataset, meet, answers), 2, start_method=method)
    assert answers.get() == (0, expected)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda dataset: pickle.loads(pickle.dumps(dataset))])
def test_the_epoch_of_a_copy_reaches_workers_that_live_on(tiny_corpus: Path, copied: Any) -> None:
    dataset = CorpusDataset(tiny_corpus, mode="mixed")
    own = copied(dataset)
    loader = DataLoader(own, batch_size=10, num_workers=1, persistent_workers=True, collate_fn=collate)
    for epoch in range(3):
        dataset.set_epoch(epoch)
        own.set_epoch(epoch)
        (batch,) = loader
        assert batch["is_adversarial"].tolist() == [dataset[index]["is_adversarial"] for index in range(10)]


def test_a_patch_is_the_same_part_of_image_perturbation_mask_and_world(volumes: Path) -> None:
    whole, dataset = CorpusDataset(volumes), CorpusDataset(volumes, patch=(16, 64, 33))
    places = set()
    for epoch in range(3):
        dataset.set_epoch(epoch)
        for index in range(3):
            part, full = dataset[index], whole[index]
            origin = torch.linalg.solve(full["affine"], part["affine"])[:3, 3].round().int().tolist()
            x, y, z = origin
            window = (slice(x, x + 16), slice(y, y + 64), slice(z, z + 33))
            for key in ("image", "adversarial"):
                assert torch.equal(part[key].as_tensor(), full[key].as_tensor()[(slice(None), *window)])
            assert torch.equal(part["label"].as_tensor(), full["label"].as_tensor()[(slice(None), *window)])
            assert torch.equal(part["image"].affine, part["affine"])
            places.add((index, *origin))
    assert len({place[1:] for place in places}) > 5
    with pytest.raises(ValueError, match=r"a patch of \[64, 64, 64\] does not fit images of \[40, 70, 66\]"):
        CorpusDataset(volumes, patch=(64, 64, 64))[0]


def test_boxes_follow_a_patch() -> None:
    boxes = Boxes.of([[10, 20, 30, 40], [0, 0, 5, 5], [28, 30, 60, 70]], [1, 2, 1])
    window = Window((25, 8), (20, 24), False)  # rows from 25, columns from 8
    cropped = crop_boxes(boxes, window, "yx")
    assert cropped.boxes.tolist() == [[2, 0, 22, 15], [20, 5, 24, 20]]
    assert cropped.classes.tolist() == [1, 1]


def test_a_patch_reads_only_the_bricks_it_touches(volumes: Path, tmp_path: Path) -> None:
    """Every brick but those of one corner is destroyed; the corner's patch is still read."""
    corpus = Path(shutil.copytree(volumes, tmp_path / "corpus"))
    path = corpus / "shards" / "shard-00000.h5"
    with h5py.File(path) as file:
        chunks = [file[k].id.get_chunk_info(n) for k in ("image", "attacks/a/perturbation") for n in range(file[k].id.get_num_chunks())]
    content = bytearray(path.read_bytes())
    for chunk in chunks:
        if chunk.chunk_offset[-3:] != (0, 0, 0):
            content[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    path.write_bytes(content)
    with h5py.File(path) as file, pytest.raises(OSError):  # noqa: PT011
        file["image"][0]
    dataset = CorpusDataset(corpus, patch=(32, 64, 64))
    read = [seed for seed in range(60) if _corner(dataset, seed)]
    assert read


def _corner(dataset: CorpusDataset, epoch: int) -> bool:
    dataset.set_epoch(epoch)
    try:
        return dataset[0]["image"].shape == (1, 32, 64, 64)
    except IntegrityError:
        return False


def test_balanced_draws(tiny_corpus: Path) -> None:
    dataset = CorpusDataset(tiny_corpus)
    sampler = BalancedSampler(dataset, length=4000)
    labels = np.array([int(dataset[index]["label"]) for index in range(10)])
    drawn = np.array(list(sampler))
    assert abs(labels[drawn].mean() - 0.5) < 0.05
    assert list(sampler) == drawn.tolist()
    sampler.set_epoch(1)
    assert list(sampler) != drawn.tolist()
    with pytest.raises(ValueError, match="balance='patient'"):
        BalancedSampler(dataset, "patient")  # type: ignore[arg-type]


def test_groups_are_drawn_alike_whatever_their_size(volumes: Path) -> None:
    drawn = np.array(list(BalancedSampler(CorpusDataset(volumes), "group", length=4000)))
    assert abs((drawn == 2).mean() - 0.5) < 0.05  # one volume of g1, two of g0
    assert abs((drawn == 0).mean() - 0.25) < 0.05


def test_other_weights_are_warned_of(tiny_corpus: Path, tmp_path: Path) -> None:
    own = tiny_corpus.parent / "victim.safetensors"
    CorpusDataset(tiny_corpus, weights=own)
    other = tmp_path / "other.safetensors"
    other.write_bytes(own.read_bytes() + b"\0")
    with pytest.warns(UserWarning, match=f"was made for weights {hash_file(own)[:12]}"):
        CorpusDataset(tiny_corpus, weights=other)


def test_a_dataset_can_be_sent_to_another_process(tiny_corpus: Path) -> None:
    dataset = CorpusDataset(tiny_corpus, patch=(16, 16))
    dataset[0]
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again[2]["adversarial"], dataset[2]["adversarial"])


def test_wrong_arguments_are_named(tiny_corpus: Path) -> None:
    with pytest.raises(ValueError, match="attack 'cw' is not in this corpus; there are pgd-8, smia-8"):
        CorpusDataset(tiny_corpus, "cw")
    with pytest.raises(ValueError, match="mode='both'"):
        CorpusDataset(tiny_corpus, mode="both")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="probability=2"):
        CorpusDataset(tiny_corpus, probability=2)
    for patch in (8, (8.7, 8.2), (8,), (8, 0)):
        with pytest.raises(ValueError, match=r"patch=.* must be a whole number of pixels along each spatial axis"):
            CorpusDataset(tiny_corpus, patch=patch)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="epoch=-1 must be 0 or more"):
        CorpusDataset(tiny_corpus).set_epoch(-1)


@pytest.mark.filterwarnings("ignore:NvImgCodec")
def test_plain_load_imaged_reads_names_of_a_corpus(tiny_corpus: Path, volumes: Path, tmp_path: Path) -> None:
    for corpus, keys in ((tiny_corpus, ["image", "adversarial"]), (volumes, ["image", "adversarial", "label"])):
        load = LoadImaged(keys, reader=CorpusReader, ensure_channel_first=True)
        items = datalist(corpus)
        dataset = PersistentDataset(items, load, cache_dir=tmp_path / corpus.name)
        reference = CorpusDataset(corpus)
        for index in range(len(items)):
            loaded, expected = dataset[index], reference[index]
            assert loaded["sample_id"] == expected["sample_id"]
            for key in ("image", "adversarial"):
                assert np.array_equal(loaded[key].numpy(), expected[key].numpy())
            if "label" in keys:
                assert torch.equal(loaded["label"].as_tensor().long(), expected["label"].as_tensor())
                assert torch.equal(loaded["image"].affine, expected["affine"])
            else:
                assert loaded["label"] == int(expected["label"])
    assert len(list(MonaiLoader(dataset, batch_size=1))) == 3
