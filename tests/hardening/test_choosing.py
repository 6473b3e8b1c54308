"""Which generation is chosen, which epsilon it was trained at, what is mirrored: cases whose answers are known."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import quiet
from tests.hardening.hardening_cases import classification

from medadv.common.log import Log
from medadv.common.stop import Stop
from medadv.datasets.part import part_of
from medadv.datasets.source import Listing, Source
from medadv.hardening.choosing import choose, is_worse
from medadv.hardening.flips import flip_axes, flipped
from medadv.hardening.folder import Home
from medadv.hardening.fresh import drop_older
from medadv.hardening.record import Compared, Cost, GenerationRecord, Passes
from medadv.hardening.specs import settings_of
from medadv.hardening.work import Work
from medadv.prepare.request import Options
from medadv.report.record import Figure
from medadv.spec.attack import AttackSettings
from medadv.spec.data import PartSettings
from medadv.spec.hardening import HardeningSettings
from medadv.spec.reading import load_spec


def figure(value: float | None) -> Figure:
    return Figure(value=value, low=value, high=value)


def generation(number: int, robust: float, change: float | None) -> GenerationRecord:
    none = Passes()
    return GenerationRecord(
        number=number,
        epsilons={},
        content_root="0" * 64,
        samples=1,
        warm={},
        attacked_weights_sha256="0" * 64,
        weights_sha256="0" * 64,
        losses=[],
        control_losses=[],
        validation=Compared(clean=figure(0.5), robust=figure(robust)),
        control=Compared(clean=figure(0.5), robust=None),
        clean_change=figure(change),
        step=figure(0.0),
        worse=False,
        cost=Cost(attacks=none, training=none, control=none, measuring=none),
    )


@pytest.mark.parametrize(
    ("figures", "chosen", "within"),
    [
        ([(0.1, 0.0), (0.3, -0.04), (0.5, -0.06)], 2, True),
        ([(0.3, 0.0), (0.3, 0.0)], 1, True),
        ([(0.3, -0.2), (0.1, -0.1)], 2, False),
        ([(0.3, None), (0.1, -0.05)], 2, True),
    ],
)
def test_the_most_robust_one_within_the_clean_cost(figures: list[tuple[float, float | None]], chosen: int, within: bool) -> None:
    choice = choose([generation(number, *each) for number, each in enumerate(figures, 1)], 0.05, "auc")
    assert (choice.generation, choice.within_cost) == (chosen, within)


def test_worse_is_beyond_the_interval() -> None:
    assert is_worse(Figure(value=-0.2, low=-0.3, high=-0.1))
    assert not is_worse(Figure(value=-0.2, low=-0.5, high=0.0))
    assert not is_worse(figure(None))


@pytest.mark.parametrize(("full", "epsilons"), [(4.0, [1, 2, 3, 4, 4, 4, 4, 4]), (1.0, [1] * 8), (2.0, [1, 1, 2, 2, 2, 2, 2, 2])])
def test_epsilon_rises_in_whole_units_over_the_first_half(full: float, epsilons: list[float]) -> None:
    settings = HardeningSettings(split="train", generations=8)
    attack = AttackSettings(attack="pgd", epsilon=full, steps=3)
    assert [settings.generation_attack(number, attack).epsilon for number in range(1, 9)] == epsilons
    assert settings.generation_attack(8, attack) == attack
    small = settings.generation_attack(1, AttackSettings(attack="pgd", epsilon=60))
    assert (small.epsilon, small.step) == (15, 3.75)
    assert HardeningSettings(split="train", epsilon="full").generation_attack(1, attack) == attack


@pytest.mark.parametrize("full", [1.9, 2.75])
@pytest.mark.parametrize("generations", [8, 40])
def test_epsilon_never_rises_above_its_own(full: float, generations: int) -> None:
    settings = HardeningSettings(split="train", generations=generations)
    epsilons = [settings.generation_epsilon(number, full) for number in range(1, generations + 1)]
    assert epsilons == sorted(epsilons)
    assert (epsilons[0], epsilons[-1]) == (1, full)


@pytest.mark.parametrize(("attack", "warm", "kept"), [("pgd", True, [3, 4, 5, 6]), ("pgd", False, [6]), ("square", True, [6])])
def test_corpora_that_attacks_start_from_are_kept(attack: str, warm: bool, kept: list[int], tmp_path: Path) -> None:
    """Square begins with stripes of its own, whatever `warm` says."""
    path, home = classification(tmp_path, 2, 2, flips=[0, 1], warm=warm), Home(tmp_path / "hardening")
    spec = load_spec(path).model_copy(update={"attacks": {"one": AttackSettings(attack=attack, epsilon=4, steps=9)}})
    work = Work(path, spec, settings_of(spec), home, Options(), quiet, Stop(), Log(tmp_path / "log"))
    for number in range(1, 7):
        (home.corpus(number) / "shards").mkdir(parents=True)
        drop_older(work, number)
    assert [number for number in range(1, 7) if (home.corpus(number) / "shards").exists()] == kept


def test_images_masks_and_boxes_are_mirrored_together() -> None:
    image = torch.arange(24.0).reshape(1, 4, 6)
    item: dict[str, Any] = {"image": image, "adversarial": image + 1, "label": image.long(), "spatial_axes": "yx"}
    # A box around the pixel in row 1 and column 4.
    item["boxes"] = torch.tensor([[4.0, 1.0, 5.0, 2.0]])
    turned = flipped(item, [0, 1])
    for key in ("image", "adversarial", "label"):
        assert (turned[key] == item[key].flip(1, 2)).all()
    x0, y0, x1, y1 = turned["boxes"][0].int().tolist()
    assert turned["image"][0, y0:y1, x0:x1].tolist() == [[image[0, 1, 4]]]
    back = flipped(turned, [0, 1])
    assert (back["boxes"] == item["boxes"]).all()
    assert flipped({"image": image, "label": torch.tensor(1)}, [1])["label"] == 1
    assert (flip_axes("auto", "fundus"), flip_axes("auto", "ct")) == ((0, 1), ())
    assert (flip_axes((1,), "ct"), flip_axes("none", "fundus")) == ((1,), ())


def test_both_sides_of_a_cut_are_whole_and_all_there_is(tmp_path: Any) -> None:
    listing = Listing(tmp_path, [Source((f"{i}.png",), 0, None if i > 7 else f"p{i // 2}") for i in range(10)])
    sides: dict[str, Listing] = {}
    for take in ("cut", "rest"):
        sides[take] = part_of(listing, PartSettings(share=0.34, seed=3, take=take))  # type: ignore[arg-type]
    groups = {take: {source.group or source.images[0] for source in side.sources} for take, side in sides.items()}
    assert len(groups["cut"]) == 2
    assert not groups["cut"] & groups["rest"]
    assert len(sides["cut"].sources) + len(sides["rest"].sources) == 10
    other = part_of(listing, PartSettings(share=0.34, seed=4, take="cut"))
    assert {source.images for source in other.sources} != {source.images for source in sides["cut"].sources}
