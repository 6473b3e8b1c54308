"""`attack` and AdversarialPerturbd take what pipelines hold, to the same pixels, or say what to do."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_corpora
import torch
from monai.data import DataLoader as MonaiLoader
from monai.data import Dataset, MetaTensor
from monai.transforms import Compose, RandFlipd, Resized, Spacingd
from torch import nn
from torch.utils.data import DataLoader

import medadv
from medadv.training.collate import collate
from medadv.training.dataset import CorpusDataset
from medadv.training.in_memory import AdversarialPerturbd, as_victim, attack
from medadv.victims.sources.registry import fcos_resnet18_fpn_gn
from medadv_transforms.normalize import Normalize, Window

PGD = {"attack": "pgd", "epsilon": 4, "step": 1, "steps": 2}


def classifier(classes: int = 3, head: str = "softmax") -> Any:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(36, classes))
    return as_victim(network, "classification", Normalize([0.5] * 3, [0.25] * 3), classes=classes, head=head)


def segmenter(dims: int = 2, head: str = "softmax", **options: Any) -> Any:
    torch.manual_seed(0)
    network = (nn.Conv2d if dims == 2 else nn.Conv3d)(1, 3, 3, padding=1)
    return as_victim(network, "segmentation", Window(-1000, 1000), classes=3, head=head, spatial_dims=dims, **options)


def detector() -> Any:
    torch.manual_seed(0)
    return as_victim(fcos_resnet18_fpn_gn(2, 64, 64), "detection", Normalize([0.5] * 3, [0.25] * 3))


def pictures(count: int = 2) -> torch.Tensor:
    return torch.from_numpy(small_corpora.photographs(count, 12))


def slices(count: int = 2, dims: int = 2) -> torch.Tensor:
    shape = (count, 1, *[9, 8, 6][:dims])
    return torch.randint(-900, 3000, shape, generator=torch.Generator().manual_seed(1))


CASES: dict[str, tuple[Callable[[Path], Path], Callable[[], Any], str]] = {
    "classification": (small_corpora.classification, classifier, "level8"),
    "segmentation": (small_corpora.segmentation, segmenter, "hu"),
    "volumes": (lambda root: small_corpora.segmentation(root, volumes=True), lambda: segmenter(3), "hu"),
    "detection": (small_corpora.detection, detector, "level8"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_batch_of_a_corpus_is_attacked_as_it_is(case: str, tmp_path: Path) -> None:
    make, victim, unit = CASES[case]
    dataset = CorpusDataset(make(tmp_path / "corpus"))
    batch = next(iter(DataLoader(dataset, batch_size=3, collate_fn=collate)))
    found = attack(victim(), batch, PGD, unit=unit, seeds=[1, 2, 3])
    assert found.dtype == torch.float32
    assert 0 < (found - batch["image"]).abs().max() <= 4
    perturb = AdversarialPerturbd("image", victim(), PGD, unit=unit)
    alone = CorpusDataset(tmp_path / "corpus", transform=perturb)[1]["image"]
    assert 0 < (alone - batch["image"][1]).abs().max() <= 4
    if case != "detection":
        monai = next(iter(MonaiLoader(dataset, batch_size=3)))
        assert torch.equal(attack(victim(), monai, PGD, unit=unit, seeds=[1, 2, 3]), found)


@pytest.mark.parametrize(
    "form",
    [
        lambda t: t.numpy()[:, ::-1, ::-1][:, ::-1, ::-1],
        lambda t: t.numpy().astype(np.float64),
        lambda t: t.double(),
        lambda t: t.half(),
        lambda t: t.bfloat16(),
        lambda t: MetaTensor(t.float()),
    ],
)
def test_images_of_every_kind_give_the_same_pixels(form: Any) -> None:
    label = torch.tensor([0, 2])
    expected = attack(classifier(), {"image": pictures(), "label": label}, PGD, seeds=[1, 2])
    given = form(pictures())
    found = attack(classifier(), {"image": given, "label": label}, PGD, seeds=[1, 2])
    assert found.dtype == torch.as_tensor(np.asarray(given) if isinstance(given, np.ndarray) else given).dtype
    assert torch.equal(found.double(), expected.double())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_inside_the_bound(dtype: torch.dtype) -> None:
    image = slices().to(dtype)
    assert (image.float().abs() > 2048).any()
    label = torch.randint(0, 3, (2, 1, 9, 8))
    found = attack(segmenter(), {"image": image, "label": label}, {**PGD, "epsilon": 5, "step": 3}, unit="hu", seeds=[1, 2])
    assert found.dtype == dtype
    assert 0 < (found.double() - image.double()).abs().max() <= 5


@pytest.mark.parametrize(
    "label",
    [
        torch.tensor([[0], [2]]),
        torch.tensor([[1, 0, 0], [0, 0, 1]]),
        torch.tensor([0.0, 2.0], dtype=torch.float64),
        np.array([0, 2]),
        [0, 2],
        torch.tensor([[1.0, 0, 0], [0, 0, 1]], dtype=torch.float64),
    ],
)
def test_classes_in_every_form(label: Any) -> None:
    expected = attack(classifier(), {"image": pictures(), "label": torch.tensor([0, 2])}, PGD, seeds=[1, 2])
    assert torch.equal(attack(classifier(), {"image": pictures(), "label": label}, PGD, seeds=[1, 2]), expected)


def test_masks_in_every_form() -> None:
    mask = torch.randint(0, 3, (2, 9, 8), generator=torch.Generator().manual_seed(0))
    ask = lambda label: attack(segmenter(), {"image": slices(), "label": label}, PGD, unit="hu", seeds=[1, 2])  # noqa: E731
    expected = ask(mask)
    one_hot = nn.functional.one_hot(mask, 3).movedim(-1, 1)
    for label in (mask[:, None], MetaTensor(mask[:, None].float()), mask.double().numpy(), one_hot, one_hot.double()):
        assert torch.equal(ask(label), expected)


@pytest.mark.parametrize(
    ("victim", "batch", "message"),
    [
        (classifier, {"image": torch.rand(1, 3, 8, 8), "label": [0]}, "lie in 0..1; .* 0 to 255: multiply by 255"),
        (classifier, {"image": torch.rand(1, 3, 8, 8) * 255, "label": [0]}, "fractions such as .* round_to_lattice=True"),
        (classifier, {"image": torch.full((1, 3, 8, 8), torch.nan), "label": [0]}, "NaN"),
        (classifier, {"image": pictures(1), "label": torch.tensor([[0.3, 0.7, 0]])}, "fractions"),
        (classifier, {"image": pictures(1), "label": torch.tensor([[1, 1, 0]])}, "neither one class nor one-hot"),
        (segmenter, {"image": slices(1), "label": torch.zeros(1, 1, 9, 8) + 0.5}, "mode='nearest'"),
        (segmenter, {"image": slices(1), "label": torch.zeros(1, 1, 9, 8) - 1}, r"holds -1: .* ignore_index=-1"),
        (segmenter, {"image": slices(1), "label": torch.zeros(1, 1, 4, 8)}, r"shape \[1, 4, 8\] beside images of \[9, 8\]"),
        (segmenter, {"image": slices(1), "label": torch.zeros(1, 2, 9, 8)}, "2 channels, which are not one-hot"),
        (detector, {"image": pictures(1), "boxes": [[[3.0, 3, 3, 9]]], "classes": [[1]]}, "no extent along an axis"),
        (detector, {"image": pictures(1), "boxes": [[[3.0, 3, 5, 9]]], "classes": [[1, 1]]}, "1 boxes and 2 classes"),
    ],
)
def test_what_does_not_fit_is_told(victim: Any, batch: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attack(victim(), batch, PGD, unit="hu" if victim is segmenter else "level8")


@pytest.mark.parametrize("count", [2, 4])
def test_every_image_has_a_label_of_its_own(count: int) -> None:
    batch = {"image": pictures(3), "boxes": [[[3.0, 3, 9, 9]]] * count, "classes": [[1]] * count}
    with pytest.raises(ValueError, match=f"{count} labels for 3 images: each image needs one of its own"):
        attack(detector(), batch, PGD)


def test_labels_that_are_missing() -> None:
    with pytest.raises(KeyError, match="no 'label', nor 'boxes' and 'classes'; there are 'image'"):
        attack(detector(), {"image": pictures(1)}, PGD)


def test_what_resampling_leaves_is_rounded_on_request(tmp_path: Path) -> None:
    dataset = CorpusDataset(
        small_corpora.segmentation(tmp_path / "c", volumes=True),
        transform=Compose([Spacingd(["image"], [1, 1, 2], mode="bilinear"), Spacingd(["label"], [1, 1, 2], mode="nearest")]),
    )
    item = dataset[0]
    assert not torch.equal(item["image"], item["image"].round())
    with pytest.raises(ValueError, match="round_to_lattice=True"):
        AdversarialPerturbd("image", segmenter(3), PGD, unit="hu")(item)
    found = AdversarialPerturbd("image", segmenter(3), PGD, unit="hu", round_to_lattice=True)(item)["image"]
    assert torch.equal(found, found.round())
    assert 0 < (found.as_tensor() - item["image"].as_tensor().round()).abs().max() <= 4
    assert torch.equal(found.affine, item["image"].affine)
    resized = Resized(["image"], [9, 9], mode="bilinear")({"image": pictures(1)[0].float()})["image"]
    batch = {"image": resized[None] + 100, "label": [0]}
    beyond = attack(classifier(), batch, PGD, round_to_lattice=True)
    assert beyond.max() <= 255


def test_an_empty_batch_stays_empty() -> None:
    for victim, shape, extra in (
        (classifier(), (0, 3, 8, 8), {"label": torch.zeros(0)}),
        (segmenter(), (0, 1, 9, 8), {"label": torch.zeros(0, 1, 9, 8)}),
        (detector(), (0, 3, 64, 64), {"boxes": [], "classes": []}),
    ):
        assert attack(victim, {"image": torch.zeros(shape, dtype=torch.uint8), **extra}, PGD).shape == shape


def test_inference_mode_as_in_test_steps() -> None:
    batch = {"image": pictures(), "label": torch.tensor([0, 2])}
    expected = attack(classifier(), batch, PGD, seeds=[1, 2])
    with torch.inference_mode():
        inside = {key: value.clone() for key, value in batch.items()}
        assert inside["image"].is_inference()
    victim = classifier()
    with torch.inference_mode():
        assert torch.equal(attack(victim, inside, PGD, seeds=[1, 2]), expected)


def test_masks_of_0_and_255_are_warned_of_once() -> None:
    batch = {"image": slices(), "label": torch.full((2, 1, 9, 8), 255)}
    victim = segmenter()
    with pytest.warns(UserWarning, match=r"divide masks by 255; .* as_victim\(…, ignore_index=255\)"):
        attack(victim, batch, PGD, unit="hu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attack(victim, batch, PGD, unit="hu")
        attack(segmenter(ignore_index=255), batch, PGD, unit="hu")
        attack(segmenter(), {**batch, "label": torch.tensor([255, 1]).repeat(2, 1, 9, 4)}, PGD, unit="hu")


def test_an_ignore_index_of_ones_own_is_medadvs() -> None:
    mask = torch.randint(0, 3, (2, 1, 9, 8), generator=torch.Generator().manual_seed(0))
    ask = lambda value, **own: attack(  # noqa: E731
        segmenter(**own), {"image": slices(), "label": torch.where(mask == 2, value, mask)}, PGD, unit="hu", seeds=[1, 2]
    )
    assert torch.equal(ask(-1, ignore_index=-1), ask(255))


def seeds_of(batch: Any) -> list[float]:
    return [float(value) for value in batch["image"].flatten(1).double().std(1)]


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_no_two_workers_of_other_data_sets_start_alike(context: str) -> None:
    """Sixteen times the same image: as many random starts, in each of two epochs, under torch's own loader."""
    perturb = AdversarialPerturbd("image", classifier(), {**PGD, "steps": 1, "epsilon": 20})
    sample = {"image": pictures(1)[0], "label": 0}
    for transform in (perturb, Compose([perturb])):
        dataset = Dataset([sample] * 16, transform)
        # Spawned workers import torch and MONAI each, and live on for that.
        loader = DataLoader(dataset, batch_size=2, num_workers=2, multiprocessing_context=context, persistent_workers=context == "spawn")
        starts = [value for _ in range(2) for batch in loader for value in seeds_of(batch)]
        assert len(set(starts)) == 32
        if context == "spawn":
            return


def test_one_seed_gives_one_start_in_this_process() -> None:
    perturb = AdversarialPerturbd("image", classifier(), PGD)
    sample = {"image": pictures(1)[0], "label": np.int64(0)}
    first, second = (perturb.set_random_state(seed=3)(sample)["image"] for _ in range(2))
    assert torch.equal(first, second)
    assert medadv.AdversarialPerturbd is AdversarialPerturbd


def test_flips_before_the_attack(tmp_path: Path) -> None:
    """In a pipeline, after spatial transforms, image and mask still belong together for the victim."""
    dataset = CorpusDataset(
        small_corpora.segmentation(tmp_path / "c"),
        transform=Compose([RandFlipd(["image", "label"], 0.5, 0), AdversarialPerturbd("image", segmenter(), PGD, unit="hu")]),
        mode="clean",
    )
    dataset.set_epoch(0)
    first = [dataset[index]["image"] for index in range(4)]
    assert all(torch.equal(dataset[index]["image"], first[index]) for index in range(4))
