"""A small processor tries and trains in fp32 alone, counted product by product; a large one shows that the count would see it."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import plainly
from tests.products import Products
from tests.victims.test_profiles import SHAPES, batch_of, truth_of, victim_of

from medadv.batches.judging import batch_of as batch_of_loaded
from medadv.batches.loading import Loaded
from medadv.batches.trial import Trial
from medadv.datasets.labels import Boxes, Label
from medadv.datasets.sample import Sample
from medadv.datasets.source import Source
from medadv.plan.model import PlannedSample
from medadv.prepare.choose_profile import choose_profile
from medadv.spec.attack import AttackSettings
from medadv.victims.speed.profiles import Profile, exact_profile, with_profile
from medadv.victims.victim import Victim

LARGE = ("avx512_bf16", "avx512_fp16")


def trial_of(kind: str) -> Trial:
    """One sample, one step."""
    image, truth = batch_of(kind, 1).numpy()[0].astype(np.uint8), truth_of(kind, 1)
    label: Label = truth[0].numpy() if kind != "detector" else Boxes(truth[0]["boxes"].numpy(), truth[0]["labels"].numpy())
    sample = Sample(image, "level8", "yx" if image.ndim == 3 else "xyz", None, None, None, None, {})
    loaded = Loaded(PlannedSample("a", "", "", Source((), None)), sample, label, (0, 0))
    batch = batch_of_loaded([loaded], victim_of(kind), torch.device("cpu"))
    return Trial(batch, {"pgd": AttackSettings(attack="pgd", epsilon=4, step=1, steps=1)}, 0)


@pytest.mark.parametrize(("kind", "large"), [*((kind, False) for kind in sorted(SHAPES)), ("unet 2D", True)])
def test_what_is_tried(kind: str, large: bool, play: Callable[..., None]) -> None:
    play(*(LARGE if large else ("avx2",)))
    exact = exact_profile(victim_of(kind).module, "cpu")

    def in_profile(profile: Profile) -> Victim:
        model = victim_of(kind)
        return replace(plainly(model), attacked=with_profile(model, profile, SHAPES[kind]))

    with Products() as products:
        _, records = choose_profile(in_profile, exact, trial_of(kind), lambda _: None)
    assert not [record for record in records if record.verdict.startswith("failed")]
    assert products.count["fp32"] > 0
    assert ("bf16" in products.count) == large
    assert large or set(products.count) == {"fp32"}
    assert any("bf16" in record.profile for record in records) == large


@pytest.mark.parametrize("large", [False, True])
def test_recipes_are_trained_in_what_is_fast(large: bool, play: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[2] / "scripts")
    import train_victims

    play(*(LARGE if large else ("avx2",)))
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, 3, 32, 32), generator=generator, dtype=torch.uint8)
    data = train_victims.Labelled(images, torch.tensor([0, 1, 0, 1]), torch.ones(4, 6))
    settings = train_victims.normalisation(images)
    arguments: dict[str, Any] = {"spatial_dims": 2, "in_channels": 3, "out_channels": 2, "init_features": 8, "growth_rate": 4}
    for bears in (True, False):
        recipe = replace(train_victims.RECIPES[0], bears_bf16=bears, epochs=1, batch=2)
        network = train_victims.build_network("monai:densenet121", {**arguments, "block_config": [2, 2]})
        with Products() as products:
            train_victims.fit(recipe, train_victims.trainee(network, data), data, settings)
        precision = train_victims.precision_of(recipe, torch.device("cpu"))
        card = train_victims.card_of(recipe, precision, settings, 4, {"further": {}}, "")
        assert card["training"]["precision"] == ("bf16" if large and bears else "fp32")
        assert products.count["bf16" if large and bears else "fp32"] > 0
        assert ("bf16" in products.count) == (large and bears)
    for name in ("train_victims", "victims_data", "victims_recipes", "victims_tasks", "victims_metrics"):
        sys.modules.pop(name)
