"""Execution profiles: the exact ones give the same gradients, the others are as strong, and scoring never changes."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.conftest import plainly
from torch import Tensor, nn

from medadv.attacks.engine import perturb
from medadv.spec.attack import AttackSettings
from medadv.victims.inputs.normalized import Normalized
from medadv.victims.inputs.sliding import SlidingWindow
from medadv.victims.loading import detector_of
from medadv.victims.sources.registry import build_network
from medadv.victims.speed.folding import fold_batch_norm
from medadv.victims.speed.int8 import has_int8_products
from medadv.victims.speed.profiles import Profile, candidates, exact_profile, with_profile
from medadv.victims.speed.replacing import freeze_slopes
from medadv.victims.tasks.classification import Classifier
from medadv.victims.tasks.segmentation import Segmenter
from medadv.victims.victim import TaskModel
from medadv_transforms.normalize import Normalize
from medadv_transforms.units import LATTICES

UNET = {"in_channels": 1, "out_channels": 2, "channels": [8, 16, 16], "strides": [2, 2], "num_res_units": 1, "norm": "batch"}
HALF = {False: 0.95, True: 0.8}
"""Cosine to the plain gradient in half precision: an untrained detector's depends on few of its anchors. Wrong wiring gives about 0."""
SHAPES = {"classifier": (3, 48, 48), "unet 2D": (1, 32, 32), "unet 3D": (1, 16, 16, 16), "sliding": (1, 24, 24), "detector": (3, 64, 64)}


def shaken(network: nn.Module) -> nn.Module:
    """Batch-norm statistics other than 0 and 1, so that folding has something to get wrong."""
    generator = torch.Generator().manual_seed(3)
    for part in network.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.running_mean.uniform_(-0.2, 0.2, generator=generator)
            part.running_var.uniform_(0.5, 2.0, generator=generator)
            with torch.no_grad():
                part.weight.uniform_(0.5, 1.5, generator=generator)
                part.bias.uniform_(-0.2, 0.2, generator=generator)
    return network.eval()


def victim_of(kind: str) -> TaskModel:
    torch.manual_seed(0)
    normalize = Normalize([0.5] * SHAPES[kind][0], [0.25] * SHAPES[kind][0])
    if kind == "classifier":
        return Classifier(Normalized(normalize, shaken(build_network("torchvision:resnet18", {"num_classes": 3}))), "softmax", 3)
    if kind == "detector":
        network = build_network("torchvision:retinanet_resnet18_fpn_gn", {"num_classes": 2, "size": 64}).eval()
        return detector_of(Normalized(normalize, network), 0.5, x_first=False)
    network = shaken(build_network("monai:unet", {"spatial_dims": len(SHAPES[kind]) - 1, **UNET}))
    if kind == "sliding":
        network = SlidingWindow(network, (16, 16), 0.5, "gaussian", 2)
    return Segmenter(Normalized(normalize, network), "softmax", 2, len(SHAPES[kind]) - 1)


def batch_of(kind: str, n: int = 2) -> Tensor:
    return torch.randint(0, 256, (n, *SHAPES[kind]), generator=torch.Generator().manual_seed(1)).float()


def truth_of(kind: str, n: int = 2) -> Any:
    if kind == "detector":
        return [{"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]), "labels": torch.tensor([1])}] * n
    if kind == "classifier":
        return torch.arange(n)
    return torch.randint(0, 2, (n, *SHAPES[kind][1:]), generator=torch.Generator().manual_seed(2)).to(torch.uint8)


def gradient(victim: TaskModel, kind: str) -> Tensor:
    x = batch_of(kind).requires_grad_()
    chosen = AttackSettings.model_validate({"attack": "pgd", "epsilon": 4})
    (found,) = torch.autograd.grad(victim.deviation(victim.forward(x), truth_of(kind), chosen).sum(), x)
    return found


@pytest.mark.parametrize("kind", sorted(SHAPES))
def test_every_profile_follows_the_plain_gradient(kind: str, play: Callable[..., None]) -> None:
    """Those in bfloat16 on every processor, since a plan may come from another one; 8-bit products where they are not saturated."""
    play("avx512_bf16", *(["avx512_vnni"] if has_int8_products() else []))
    plain = gradient(victim_of(kind), kind)
    tried = candidates(victim_of(kind).module, "cpu")
    assert any(p.folded for p in tried) == (kind != "detector")
    assert any(p.bf16 for p in tried)
    for profile in tried:
        found = gradient(with_profile(victim_of(kind), profile, SHAPES[kind]), kind)
        assert found.dtype == torch.float32
        likeness = float(nn.functional.cosine_similarity(found.flatten(), plain.flatten(), dim=0))
        assert likeness > (HALF[kind == "detector"] if profile.bf16 else 0.99999), profile.name


@pytest.mark.parametrize("kind", ["unet 2D", "unet 3D"])
def test_frozen_slopes_give_the_same_bits(kind: str) -> None:
    victim = victim_of(kind)
    slopes = [part for part in victim.module.modules() if isinstance(part, nn.PReLU)]
    with torch.no_grad():
        for number, part in enumerate(slopes):
            part.weight.fill_(0.1 + 0.07 * number)
    plain = gradient(victim, kind)
    lean = copy.deepcopy(victim)
    freeze_slopes(lean.module)
    assert slopes
    assert not any(isinstance(part, nn.PReLU) for part in lean.module.modules())
    assert torch.equal(gradient(lean, kind), plain)
    assert torch.equal(lean.forward(batch_of(kind)), victim.forward(batch_of(kind)))
    tuned = with_profile(victim, Profile(bf16=True), SHAPES[kind])
    assert not any(isinstance(part, nn.PReLU) for part in tuned.module.modules())
    assert sum(isinstance(part, nn.PReLU) for part in victim.module.modules()) == len(slopes)
    # Slopes by channel are left alone.
    freeze_slopes(channels := nn.Sequential(nn.PReLU(3)))
    assert isinstance(channels[0], nn.PReLU)


@pytest.mark.parametrize("kind", sorted(SHAPES))
def test_scoring_stays_in_single_precision(kind: str) -> None:
    plain, images = victim_of(kind), batch_of(kind)
    model = victim_of(kind)
    tuned = replace(plainly(model), attacked=with_profile(model, Profile(bf16=True), SHAPES[kind]))
    before, after = plain.predict(images), tuned.scored.predict(images)
    for first, second in zip(before, after, strict=True):
        if kind == "classifier":
            assert torch.equal(torch.from_numpy(first.probabilities), torch.from_numpy(second.probabilities))
        elif kind != "detector":
            assert (first.answer == second.answer).all()
    assert all(p.dtype == torch.float32 for p in tuned.scored.module.parameters())
    assert any(p.dtype == torch.bfloat16 for p in tuned.attacked.module.parameters())


def test_the_attack_runs_in_a_profile() -> None:
    chosen = AttackSettings.model_validate({"attack": "smia", "epsilon": 4, "step": 1, "steps": 1})
    for kind in ("classifier", "detector"):
        tuned = with_profile(victim_of(kind), Profile(channels_last=True, bf16=True), SHAPES[kind])
        found = perturb(tuned, batch_of(kind), truth_of(kind), chosen, lattice=LATTICES["level8"], seeds=[1, 2])
        assert 0 < found.abs().max() <= 4


def test_folding_counts_and_refuses() -> None:
    network = shaken(build_network("torchvision:resnet18", {"num_classes": 3}))
    x = torch.rand(1, 3, 48, 48)
    with torch.no_grad():
        before = network(x)
        assert fold_batch_norm(network, lambda: network(x)) == 20
        assert torch.allclose(network(x), before, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="no batch-norm follows"):
        fold_batch_norm(network, lambda: network(x))


class ReadTwice(nn.Module):
    """The convolution's output is read by batch-norm and by the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm, self.end = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        made = self.convolution(x)
        return self.end((made + self.norm(made)).mean((2, 3)))


def test_an_output_read_twice_is_not_folded() -> None:
    torch.manual_seed(0)
    victim = Classifier(Normalized(Normalize([0.5] * 3, [0.25] * 3), shaken(ReadTwice())), "softmax", 3)
    with pytest.raises(ValueError, match="read elsewhere"):
        with_profile(victim, Profile(folded=True), (3, 16, 16))


def test_the_exact_format_follows_from_the_layers() -> None:
    formats = {kind: exact_profile(victim_of(kind).module, "cpu").channels_last for kind in SHAPES}
    assert formats == {"classifier": True, "unet 2D": True, "unet 3D": False, "sliding": True, "detector": True}
    assert not exact_profile(nn.Sequential(nn.Conv2d(1, 2, 3), nn.InstanceNorm2d(2)), "cpu").channels_last
    assert exact_profile(victim_of("classifier").module, "cuda") == Profile()


def test_names_and_round_trip() -> None:
    profile = Profile(channels_last=True, folded=True, bf16=True)
    assert profile.name == "channels_last+folded+bf16"
    assert Profile.of(profile.facts()) == profile
    assert Profile.of(None) == Profile()
    assert Profile().name == "plain"
