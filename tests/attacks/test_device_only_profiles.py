"""Profiles keep the step loop on the device: those of accelerators, and the modules that only CPUs take today."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from attack_cases import images
from device_guard import attack_on_meta
from test_device_only import FEWEST, GRID, chosen, detector, masks, through_windows

from medadv.victims.inputs.normalized import Normalized
from medadv.victims.sources.registry import build_network
from medadv.victims.speed.folding import fold_batch_norm
from medadv.victims.speed.norms import ChannelsLastNorm, ChannelwiseAffine
from medadv.victims.speed.profiles import Profile, with_profile
from medadv.victims.speed.space_to_depth import SpaceToDepth
from medadv.victims.tasks.segmentation import Segmenter
from medadv_transforms.normalize import Window

SIDE = 16
NORMS: dict[str, Any] = {"batch": "batch", "instance": "instance", "group": ("group", {"num_groups": 2})}
LEAN = {"batch": ChannelwiseAffine, "instance": ChannelsLastNorm, "group": ChannelsLastNorm}
PROFILES = [Profile(channels_last=True), Profile(bf16=True), Profile(channels_last=True, bf16=True)]
CASES = [(norm, profile) for norm in NORMS for profile in PROFILES] + [("batch", replace(profile, folded=True)) for profile in PROFILES]


def unet(axes: int, norm: str, activation: str = "prelu") -> Segmenter:
    """With a thin strided convolution first, and joins of few channels."""
    sizes = {"channels": [8, 16, 16], "strides": [2, 2], "num_res_units": 1, "norm": NORMS[norm], "act": activation}
    network = build_network("monai:unet", {"spatial_dims": axes, "in_channels": 1, "out_channels": 2, **sizes}).eval()
    return Segmenter(Normalized(Window(0, 255), network), "softmax", 2, axes)


@pytest.mark.parametrize(("norm", "profile"), CASES, ids=lambda value: getattr(value, "name", value))
@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("made_on", ["cpu", "meta"])
def test_profiles(made_on: str, axes: int, norm: str, profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = [SIDE] * axes
    batch, truth = images(2, 1, *grid, dtype=torch.float32), masks("softmax", 2, *grid)
    victim = unet(axes, norm, "prelu" if made_on == "cpu" else "relu")
    if made_on == "meta":
        # Folding compares values, and freezing the slopes of PReLU reads them: before any attack, and not without values.
        if profile.folded:
            fold_batch_norm(victim.module, lambda: victim.forward(batch))
            profile = replace(profile, folded=False)
        victim.module.to("meta")
    tuned = with_profile(victim, profile, (1, *grid))
    if made_on == "cpu" and tuned is not victim:
        kinds = {type(part) for part in tuned.module.modules()}
        assert {SpaceToDepth} | (set() if profile.folded else {LEAN[norm]}) <= kinds
    assert attack_on_meta(tuned, batch, truth, chosen("smia", loss="dice_ce"), monkeypatch) > 2 * FEWEST


@pytest.mark.parametrize("made_on", ["cpu", "meta"])
@pytest.mark.parametrize("axes", [2, 3])
def test_half_precision_through_windows(axes: int, made_on: str, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = through_windows(unet(axes, "instance", "relu"), [12, 8, 8][:axes])
    batch, truth = images(2, 1, *GRID[axes], dtype=torch.float32), masks("softmax", 2, *GRID[axes])
    victim.module.to(made_on)
    tuned = with_profile(victim, Profile(channels_last=True, bf16=True), (1, *GRID[axes]))
    assert attack_on_meta(tuned, batch, truth, chosen("smia", loss="dice_ce"), monkeypatch) > 2 * FEWEST


@pytest.mark.parametrize("axes", [2, 3])
def test_half_precision_of_a_detector(axes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    tuned = with_profile(detector(axes), Profile(channels_last=True, bf16=True), (1, *[32] * axes))
    assert attack_on_meta(tuned, images(2, 1, *[32] * axes, dtype=torch.float32), [], chosen("smia"), monkeypatch) > 2 * FEWEST
