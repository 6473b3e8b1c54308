"""The attack inside training code: the documented example, labels of every task, and the dictionary transform."""

import doctest
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Flipd, Invertd
from tests.attacks.attack_cases import LEVEL8, classifier, images, segmenter, settings

import medadv
import medadv.training.in_memory
from medadv.attacks.engine import perturb
from medadv.datasets.labels import Boxes
from medadv.victims.sources.registry import fcos_resnet18_fpn_gn
from medadv_transforms.normalize import Normalize, Window

PGD = {"attack": "pgd", "epsilon": 4, "step": 1, "steps": 2}


def test_the_documented_example() -> None:
    outcome = doctest.testmod(medadv.training.in_memory)
    assert outcome.attempted > 10
    assert outcome.failed == 0


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float64])
def test_equals_the_engine(dtype: torch.dtype) -> None:
    victim, batch, truth = classifier(), images(3, 3, 12, 12), torch.tensor([0, 3, 1])
    victim.module.to(torch.float64 if dtype == torch.float64 else torch.float32)
    plain = batch if dtype == torch.float64 else batch.float()
    expected = perturb(victim, plain, truth, settings("pgd", steps=2), lattice=LEVEL8, seeds=[1, 2, 3])
    found = medadv.attack(victim, {"image": batch.to(dtype), "label": truth}, PGD, seeds=[1, 2, 3])
    assert found.dtype == dtype
    assert torch.equal(found.double() - batch, expected.double())


def test_random_starts_follow_the_global_generator() -> None:
    victim = classifier()
    batch = {"image": images(1, 3, 12, 12), "label": torch.tensor([0])}
    torch.manual_seed(0)
    first, second = medadv.attack(victim, batch, PGD), medadv.attack(victim, batch, PGD)
    torch.manual_seed(0)
    assert torch.equal(first, medadv.attack(victim, batch, PGD))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("channel", [True, False])
def test_masks_with_and_without_channel(channel: bool) -> None:
    victim, batch = segmenter(2), images(2, 1, 9, 9)
    mask = torch.randint(0, 3, (2, 9, 9), generator=torch.Generator().manual_seed(0))
    pair = {"img": batch, "seg": mask[:, None] if channel else mask}
    found = medadv.attack(victim, pair, PGD, image_key="img", label_key="seg", seeds=[1, 2])
    expected = perturb(victim, batch, mask.to(torch.uint8), settings("pgd", steps=2), lattice=LEVEL8, seeds=[1, 2])
    assert torch.equal(found - batch, expected.double())


def test_boxes_as_dictionaries() -> None:
    torch.manual_seed(0)
    victim = medadv.as_victim(fcos_resnet18_fpn_gn(2, 64, 64), "detection", Normalize([0.5] * 3, [0.25] * 3))
    truth = {"boxes": torch.tensor([[4.0, 4, 40, 40]]), "labels": torch.tensor([1])}
    batch = images(2, 3, 64, 64).float()
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0)}
    one = medadv.attack(victim, {"image": batch, "label": [truth, nothing]}, PGD, seeds=[1, 2])
    two = medadv.attack(victim, {"image": batch, "label": [Boxes.of([[4, 4, 40, 40]], [1]), Boxes.of([], [])]}, PGD, seeds=[1, 2])
    assert torch.equal(one, two)
    assert not torch.equal(one, batch)


def test_hounsfield_units() -> None:
    victim = medadv.as_victim(segmenter(3).module.network.float(), "segmentation", Window(-1000, 400), classes=3, spatial_dims=3)
    volume = images(1, 1, 6, 7, 8, low=-1024, high=3071).to(torch.int16)
    mask = torch.zeros(1, 6, 7, 8)
    found = medadv.attack(victim, {"image": volume, "label": mask}, {**PGD, "epsilon": 30, "step": 30}, unit="hu", seeds=[1])
    assert found.dtype == torch.int16
    assert (found.int() - volume).abs().max() == 30
    with pytest.raises(ValueError, match="not on the lattice"):
        medadv.attack(victim, {"image": volume, "label": mask}, PGD, seeds=[1])


def test_transform_keeps_the_rest_and_draws_from_its_own_state() -> None:
    victim = classifier()
    victim.module.float()
    sample = {"image": MetaTensor(images(3, 12, 12).float(), affine=torch.eye(4) * 2), "label": 1, "name": "a"}
    make = lambda prob: medadv.AdversarialPerturbd("image", victim, PGD, prob=prob)  # noqa: E731
    pipeline = Compose([make(1.0)]).set_random_state(seed=5)
    state = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    first: Any = pipeline(sample)
    assert (state[0] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert torch.equal(state[1], torch.get_rng_state())
    assert (first["label"], first["name"]) == (1, "a")
    assert isinstance(first["image"], MetaTensor)
    assert torch.equal(first["image"].affine, sample["image"].affine)
    assert 0 < (first["image"] - sample["image"]).abs().max() <= 4
    again: Any = Compose([make(1.0)]).set_random_state(seed=5)(sample)
    other: Any = Compose([make(1.0)]).set_random_state(seed=6)(sample)
    assert torch.equal(first["image"], again["image"])
    assert not torch.equal(first["image"], other["image"])
    half = make(0.5).set_random_state(seed=0)
    attacked = sum(not torch.equal(half(sample)["image"], sample["image"]) for _ in range(60))
    assert 15 < attacked < 45


def test_what_was_done_before_the_attack_is_undone_behind_it() -> None:
    victim = classifier()
    victim.module.float()
    before = Flipd("image", 1)
    chain = Compose([before, medadv.AdversarialPerturbd("image", victim, PGD)])
    image = MetaTensor(images(3, 12, 14).float())
    attacked: Any = chain({"image": image, "label": 1})
    attacked["heat"] = MetaTensor(attacked["image"].as_tensor().clone())
    back = Invertd("heat", chain, orig_keys="image", nearest_interp=True)(attacked)["heat"]
    assert torch.equal(back.as_tensor(), attacked["image"].as_tensor().flip(2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: medadv.as_victim(torch.nn.Identity(), "ranking", torch.nn.Identity(), classes=2), "not classification"),
        (lambda: medadv.as_victim(torch.nn.Identity(), "segmentation", torch.nn.Identity()), "classes is missing"),
        (lambda: medadv.attack(classifier(), {"image": images(1, 3, 8, 8) / 255, "label": torch.tensor([0])}, PGD), "stored units"),
        (lambda: medadv.attack(classifier(), {"image": images(1, 3, 8, 8), "label": torch.tensor([9])}, PGD), "4 classes"),
        (lambda: medadv.attack(classifier(), {"image": images(1, 3, 8, 8), "label": torch.tensor([0])}, {"attack": "pgdd"}), "attack"),
    ],
)
def test_refusals(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        call()


def test_goals_take_an_index_where_no_data_name_classes() -> None:
    victim, batch = classifier(), images(4, 3, 16, 16)
    pair, seeds = {"image": batch, "label": torch.tensor([0, 0, 1, 3])}, [1, 2, 3, 4]
    found = medadv.attack(victim, pair, {**PGD, "epsilon": 40, "step": 4, "steps": 20, "goal": {"class": 2}}, seeds=seeds)
    answers = [int(each.answer) for each in victim.predict(found)]
    assert answers.count(2) > [int(each.answer) for each in victim.predict(batch)].count(2)
    for goal, said in (({"class": "cyst"}, "goal.class='cyst' is a name"), ("vanish", "vanish is for masks and boxes")):
        with pytest.raises(ValueError, match=said):
            medadv.attack(victim, pair, {**PGD, "goal": goal}, seeds=seeds)
