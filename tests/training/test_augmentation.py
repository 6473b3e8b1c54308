"""What a transform draws follows from (seed, epoch, index), whatever runs it; generators are left as they were found."""

import hashlib
import os
import pickle
import random
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_corpora
import torch
from monai.data import DataLoader as MonaiLoader
from monai.data import ThreadDataLoader
from monai.transforms import Compose, Lambdad, OneOf, RandFlipd, RandGaussianNoised, RandLambdad, RandRotated, RandShiftIntensity, SomeOf
from monai.transforms.transform import Randomizable
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from medadv.training.augmentation import seeded
from medadv.training.collate import collate
from medadv.training.dataset import CorpusDataset
from medadv.training.reach import generators_in

EPOCHS = 3


class Holder:
    """A class of one's own that holds one of MONAI's transforms, and generators of its own."""

    def __init__(self) -> None:
        self.shift = RandShiftIntensity(0.5, prob=1)
        self.numpy, self.python = np.random.default_rng(0), random.Random(0)

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        offset = self.numpy.random() + self.python.random()
        return {**item, "image": self.shift(item["image"]) + offset}


def from_global_numpy(image: Any) -> Any:
    return image + float(np.random.rand())  # noqa: NPY002


def from_global_python(image: Any) -> Any:
    return image + random.random()


def scaled(image: Any) -> Any:
    return image * (1 + float(torch.rand(())))


def pipeline() -> Compose:
    """One of each kind."""
    return Compose(
        [
            OneOf([RandFlipd("image", 0.5, 0), Compose([RandRotated("image", range_x=3.0, prob=1), RandFlipd("image", 0.5, 1)])]),
            SomeOf([RandGaussianNoised("image", prob=1), RandFlipd("image", 0.5, 0)], num_transforms=1),
            RandLambdad("image", scaled, prob=0.5),
            Lambdad("image", v2.RandomErasing(p=0.7)),
            Lambdad("image", from_global_numpy),
            Lambdad("image", from_global_python),
            Holder(),
        ]
    )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_corpora.classification(tmp_path_factory.mktemp("eight") / "corpus", 8)


@pytest.fixture(scope="module")
def alike(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 times the same image: equal draws give equal values."""
    image = np.repeat(small_corpora.photographs(1, 12), 64, 0)
    root = tmp_path_factory.mktemp("alike") / "corpus"
    return small_corpora.write_corpus(root, image, np.zeros(64, np.int64), np.zeros(image.shape, np.int8), axes="yx", task="classification")


def mark(image: Any) -> str:
    return hashlib.sha256(torch.as_tensor(image).numpy().tobytes()).hexdigest()[:16]


def epochs(dataset: CorpusDataset, loader: Any, set_epoch: bool = True) -> list[list[str]]:
    """Marks of every sample in three epochs."""
    found = []
    for epoch in range(EPOCHS):
        if set_epoch:
            dataset.set_epoch(epoch)
        found.append([mark(image) for batch in loader for image in batch["image"]])
    return found


@pytest.fixture(scope="module")
def expected(corpus: Path) -> list[list[str]]:
    dataset = CorpusDataset(corpus, transform=pipeline(), seed=3)
    found = []
    for epoch in range(EPOCHS):
        dataset.set_epoch(epoch)
        found.append([mark(dataset[index]["image"]) for index in range(8)])
    assert len({value for values in found for value in values}) == 8 * EPOCHS
    return found


LOADERS = {"torch": partial(DataLoader, collate_fn=collate), "MONAI": MonaiLoader}


EVERY = [(name, n, context, keep) for name in LOADERS for context in ("fork", "spawn") for n in (1, 2, 4) for keep in (False, True)]
FEW = [way for way in EVERY if way[2] == "fork" or way == ("torch", 1, "spawn", True)]
WORKERS = EVERY if os.environ.get("MEDADV_EVERY_LOADER") else FEW
"""Each spawned worker imports torch and MONAI for itself: `scripts/check_augmentation` tries all of them."""


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")
@pytest.mark.parametrize(("loader", "workers", "context", "persistent"), [*((name, 0, "fork", False) for name in LOADERS), *WORKERS])
def test_a_sample_follows_from_seed_epoch_and_index(
    corpus: Path, expected: list[list[str]], loader: str, context: str, workers: int, persistent: bool
) -> None:
    dataset = CorpusDataset(corpus, transform=pipeline(), seed=3)
    options: dict[str, Any] = {"multiprocessing_context": context, "persistent_workers": persistent} if workers else {}
    assert epochs(dataset, LOADERS[loader](dataset, batch_size=1, num_workers=workers, **options)) == expected


def test_another_seed_and_another_order(corpus: Path, expected: list[list[str]]) -> None:
    dataset = CorpusDataset(corpus, transform=pipeline(), seed=3)
    dataset.set_epoch(1)
    assert [mark(dataset[index]["image"]) for index in (5, 2, -1)] == [expected[1][index] for index in (5, 2, 7)]
    other = CorpusDataset(corpus, transform=pipeline(), seed=4)
    other.set_epoch(1)
    assert not {mark(other[index]["image"]) for index in range(8)} & set(expected[1])


def states() -> list[Any]:
    legacy = np.random.get_state(legacy=False)  # noqa: NPY002
    own = Randomizable.R.get_state(legacy=False)
    return [torch.get_rng_state().tolist(), random.getstate(), *(str((s["state"]["key"].tolist(), s["gauss"])) for s in (legacy, own))]


def test_generators_are_put_back(corpus: Path) -> None:
    np.random.standard_normal()  # noqa: NPY002  # leaves a second value in waiting
    transform = pipeline()
    held = [(g, pickle.dumps(vars(g).get("R"))) for _, g in generators_in(transform) if isinstance(g, Randomizable)]
    dataset = CorpusDataset(corpus, transform=transform)
    dataset.set_epoch(0)
    before = states()
    list(DataLoader(dataset, batch_size=2, sampler=range(8), collate_fn=collate, generator=torch.Generator()))
    assert states() == before
    assert all(pickle.dumps(vars(generator).get("R")) == own for generator, own in held)
    with pytest.raises(ZeroDivisionError), seeded(transform, 1, process=True):
        torch.rand(3 // 0)
    assert states() == before


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (2, True)])
def test_without_set_epoch_no_draw_comes_twice(alike: Path, loader: str, workers: int, persistent: bool) -> None:
    dataset = CorpusDataset(alike, transform=RandRotated("image", range_x=3.0, prob=1), mode="clean")
    made = LOADERS[loader](dataset, batch_size=8, num_workers=workers, persistent_workers=persistent)
    found = epochs(dataset, made, set_epoch=False)
    assert len({value for values in found for value in values}) == 64 * EPOCHS


def test_a_loader_made_anew_each_epoch_does_not_wind_draws_back(alike: Path) -> None:
    """MONAI's loader without workers starts torch's generator again from its seed when it is made."""
    dataset = CorpusDataset(alike, transform=RandRotated("image", range_x=3.0, prob=1), mode="clean")
    found = [mark(image) for _ in range(EPOCHS) for batch in MonaiLoader(dataset, batch_size=8) for image in batch["image"]]
    assert len(set(found)) == 64 * EPOCHS


class Library:
    """A generator that nobody can reach: a module's own."""

    generator = random.Random(0)


def from_library(item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "image": item["image"] + Library.generator.random()}


def test_the_hook_seeds_what_cannot_be_reached(corpus: Path) -> None:
    def marks(hook: Any) -> list[str]:
        dataset = CorpusDataset(corpus, transform=from_library, seed_hook=hook)
        dataset.set_epoch(2)
        return [mark(dataset[index]["image"]) for index in range(8)]

    given: list[int] = []
    assert marks(given.append) != marks(given.append)
    assert given[:8] == given[8:]
    assert len(set(given)) == 8
    assert all(0 <= seed < 1 << 32 for seed in given)
    assert marks(Library.generator.seed) == marks(Library.generator.seed)


def test_a_generator_of_torchs_is_seeded_and_put_back() -> None:
    """Apart: torch cannot send its Generator to a spawned process (its state's shared file is closed before the child opens it)."""
    held = [torch.Generator()]
    before = held[0].get_state()
    drawn = []
    for _ in range(2):
        with seeded(held, 5, process=False):
            drawn.append(float(torch.rand((), generator=held[0])))
    assert drawn[0] == drawn[1]
    assert torch.equal(held[0].get_state(), before)


def test_what_is_reached() -> None:
    flip = RandFlipd("image", 0.5, 0).set_random_state(seed=1)

    class Slotted:
        __slots__ = ("inner",)

    slotted = Slotted()
    slotted.inner = np.random.RandomState(0)
    module = torch.nn.Sequential()
    module.part = flip

    class Shared:
        numpy = np.random.default_rng(0)

    class Own(Shared, list):  # type: ignore[type-arg]
        def __init__(self) -> None:
            super().__init__([flip])
            self.held = random.Random(0)

    def closure(item: Any) -> Any:
        return flip(item)

    for transform, way in (
        ({"a": [flip]}, ".a.0"),
        (partial(closure), ".func.flip"),
        (Holder().__call__, ".self.shift"),
        (module, ".part"),
        (slotted, ".inner"),
        (Shared(), ".numpy"),
        (Own(), ".numpy"),
        (Own(), ".held"),
        (Own(), ".0"),
        (deque([flip]), ".0"),
    ):
        assert way in [found for found, _ in generators_in(transform)]
    twice = [flip, flip]
    twice.append(twice)  # type: ignore[arg-type]
    assert len(list(generators_in(twice))) == 1


def test_threads_beside_others_leave_global_generators_alone(corpus: Path) -> None:
    """The loop of a ThreadDataLoader draws while its thread reads: what it draws stays what it would have drawn."""

    def drawn(transform: Any) -> list[float]:
        dataset = CorpusDataset(corpus, transform=transform)
        dataset.set_epoch(0)
        loader = ThreadDataLoader(dataset, batch_size=1, num_workers=0)
        torch.manual_seed(0)
        return [float(torch.rand(1)) for _ in loader]

    plain = drawn(None)
    assert len(set(plain)) == 8
    assert drawn(RandFlipd("image", 0.5, 0)) == plain


def test_a_data_set_made_in_another_thread_seeds_what_the_process_shares(corpus: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        dataset = pool.submit(CorpusDataset, corpus, transform=Lambdad("image", from_global_numpy)).result()
    dataset.set_epoch(0)
    assert torch.equal(dataset[0]["image"], dataset[0]["image"])
