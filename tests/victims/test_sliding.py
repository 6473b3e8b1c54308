"""The two-pass gradient against autograd through MONAI's own sliding-window inference, in fp64."""

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.data.utils import compute_importance_map
from monai.inferers import sliding_window_inference
from safetensors.torch import save_file
from torch import Tensor, nn

from medadv.attacks.engine import perturb
from medadv.attacks.smoothing import axis_kernels
from medadv.attacks.terms import loss_terms
from medadv.common.errors import SpecError
from medadv.spec.attack import AttackSettings
from medadv.spec.victim import VictimSettings
from medadv.victims.inputs import sliding
from medadv.victims.inputs.normalized import Normalized
from medadv.victims.inputs.sliding import SlidingWindow
from medadv.victims.loading import VictimRequest
from medadv.victims.sources.registry import build_network
from medadv.victims.tasks.segmentation import Segmenter
from medadv_transforms.normalize import Window
from medadv_transforms.units import LATTICES

HU = LATTICES["hu"]
SMIA = AttackSettings(attack="smia", epsilon=20, step=5, steps=2, weight=0.7, loss="dice_ce", sigma=1.5, kernel_size=5)


def network(axes: int = 3, channels: int = 1) -> nn.Module:
    """Instance norm: each window's answer depends on the whole window, so that windows cannot be cut or merged unnoticed."""
    torch.manual_seed(0)
    convolution, norm = (nn.Conv3d, nn.InstanceNorm3d) if axes == 3 else (nn.Conv2d, nn.InstanceNorm2d)
    layers = (convolution(channels, 4, 3, padding=1), norm(4), nn.SiLU(), convolution(4, 3, 3, padding=1))
    return nn.Sequential(*layers).double().eval()


class Monais(nn.Module):
    """The reference: autograd through MONAI."""

    def __init__(self, inner: nn.Module, window: tuple[int, ...], overlap: float, mode: str) -> None:
        super().__init__()
        self.inner, self.options = inner, {"roi_size": window, "sw_batch_size": 4, "overlap": overlap, "mode": mode}

    def forward(self, x: Tensor) -> Tensor:
        return sliding_window_inference(x, predictor=self.inner, **self.options)


def gradient(module: nn.Module, images: Tensor, delta: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Value and gradient of the full objective, Dice + CE with both branches of the stabilization term."""
    victim = Segmenter(Normalized(Window(-1000, 400), module), "softmax", 3, images.ndim - 2)
    delta = delta.clone().requires_grad_()
    kernels = axis_kernels(SMIA.sigma, SMIA.kernel_size, None, images.ndim - 2)
    deviation, divergence, _ = loss_terms(victim, images, delta, truth, SMIA, HU, kernels, None)
    assert divergence is not None
    value = (deviation - SMIA.weight * divergence).sum()
    return value.detach(), torch.autograd.grad(value, delta)[0]


def case(n: int, spatial: tuple[int, ...], channels: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(-900, 300, (n, channels, *spatial), generator=generator).double()
    delta = torch.randn(images.shape, generator=generator, dtype=torch.float64) * 15
    return images, delta, torch.randint(0, 3, (n, *spatial), generator=generator)


CASES = [
    # spatial, window, overlap, windows
    ((16, 15, 14), (8, 8, 8), 0.5, 27),
    ((17, 12, 11), (8, 6, 5), 0.4, 27),
    ((6, 20, 9), (8, 8, 8), 0.5, 8),  # smaller than the window along x: padded
    ((8, 8, 8), (8, 8, 8), 0.25, 1),
    ((5, 5, 5), (8, 8, 8), 0.25, 1),
]


@pytest.mark.parametrize(("spatial", "window", "overlap", "windows"), CASES)
@pytest.mark.parametrize("mode", ["constant", "gaussian"])
@pytest.mark.parametrize("batch", [1, 4])
def test_equals_autograd_through_monai(
    spatial: tuple[int, ...], window: tuple[int, ...], overlap: float, windows: int, mode: str, batch: int
) -> None:
    images, delta, truth = case(2, spatial)
    ours = SlidingWindow(network(), window, overlap, mode, batch)
    assert len(ours.places([max(a, b) for a, b in zip(spatial, window, strict=True)])) >= windows
    reference = Monais(network(), window, overlap, mode)
    assert torch.allclose(ours(images / 500), reference(images / 500), rtol=1e-12, atol=1e-13)
    value, found = gradient(ours, images, delta, truth)
    expected_value, expected = gradient(reference, images, delta, truth)
    assert value == pytest.approx(float(expected_value), rel=1e-12)
    assert float((found - expected).norm() / expected.norm()) < 1e-10


def test_equals_autograd_in_two_dimensions_with_three_channels() -> None:
    images, delta, truth = case(3, (21, 18), channels=3)
    ours, reference = SlidingWindow(network(2, 3), (8, 7), 0.3, "gaussian", 5), Monais(network(2, 3), (8, 7), 0.3, "gaussian")
    found, expected = gradient(ours, images, delta, truth)[1], gradient(reference, images, delta, truth)[1]
    assert float((found - expected).norm() / expected.norm()) < 1e-10


def test_in_training_the_gradient_of_the_weights_is_that_through_monai() -> None:
    """A hardening trains networks that answer through windows; images need no gradient there."""
    images, _, truth = case(2, (16, 15, 14))
    found = []
    for module in (SlidingWindow(network(), (8, 8, 8), 0.5, "gaussian", 3), Monais(network(), (8, 8, 8), 0.5, "gaussian")):
        loss = nn.functional.cross_entropy(module.train()(images / 500), truth)
        found.append(torch.cat([each.flatten() for each in torch.autograd.grad(loss, list(module.parameters()))]))
    assert float((found[0] - found[1]).norm() / found[1].norm()) < 1e-10


def test_attack_is_the_same_through_both() -> None:
    images, _, truth = case(1, (14, 13, 12))
    ours = Segmenter(Normalized(Window(-1000, 400), SlidingWindow(network(), (8, 8, 8), 0.5, "gaussian", 3)), "softmax", 3, 3)
    reference = Segmenter(Normalized(Window(-1000, 400), Monais(network(), (8, 8, 8), 0.5, "gaussian")), "softmax", 3, 3)
    found, expected = (perturb(v, images, truth, SMIA, lattice=HU, seeds=[3]) for v in (ours, reference))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("mode", ["constant", "gaussian"])
@pytest.mark.parametrize("window", [(8, 7), (9, 8, 6)])
def test_blending_weights_are_monais_and_made_once(window: tuple[int, ...], mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For each window, mode, device and type, whatever the number of victims and passes."""
    made: list[tuple[Any, ...]] = []

    def counted(*arguments: Any, **keywords: Any) -> Tensor:
        made.append((*arguments, keywords["mode"], keywords["dtype"]))
        return compute_importance_map(*arguments, **keywords)

    monkeypatch.setattr(sliding, "compute_importance_map", counted)
    sliding._importance.cache_clear()
    axes = len(window)
    for dtype in (torch.float32, torch.float64):
        expected = compute_importance_map(window, mode=mode, sigma_scale=sliding.SIGMA_SCALE, dtype=dtype)
        for victim in (SlidingWindow(network(axes).to(dtype), window, 0.5, mode, 4) for _ in range(2)):
            images = case(1, (12, 11, 10)[:axes])[0].to(dtype).requires_grad_()
            # Made where no gradient is wanted, they serve where one is.
            with torch.inference_mode():
                victim(images)
            victim(images).sum().backward()
            assert torch.equal(victim.importance(images), expected)
            assert victim.importance(images).dtype == dtype
    assert made == [(window, mode, torch.float32), (window, mode, torch.float64)]


def test_memory_holds_one_window_batch_at_a_time() -> None:
    """No graph from forward, and never more windows in the network than asked for."""
    seen: list[tuple[int, bool]] = []
    inner = network()
    inner.register_forward_hook(lambda _, inputs, outputs: seen.append((len(inputs[0]), outputs.requires_grad)))
    for parameter in inner.parameters():
        parameter.requires_grad_(False)
    sliding = SlidingWindow(inner, (8, 8, 8), 0.5, "constant", 4)
    images = case(1, (16, 16, 16))[0].requires_grad_()
    outputs = sliding(images)
    passes = [(4, False)] * 6 + [(3, False)]
    assert seen == passes
    outputs.sum().backward()
    assert seen == passes + [(n, True) for n, _ in passes]


@pytest.mark.parametrize(
    ("module", "images", "message"),
    [
        (SlidingWindow(nn.Identity(), (8, 8), 0.25, "constant", 1), torch.zeros(1, 1, 8, 8, 8), "2 lengths for images of 3 axes"),
        (SlidingWindow(nn.MaxPool2d(2), (8, 8), 0.25, "constant", 1), torch.zeros(1, 1, 8, 8), "both must be equal"),
    ],
)
def test_windows_that_do_not_fit_are_refused(module: nn.Module, images: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        module(images)


def test_loading_with_a_window(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2]}
    save_file(build_network("monai:unet", arguments).state_dict(), tmp_path / "w.safetensors")
    spec = {"network": "monai:unet", "arguments": arguments, "weights": "w.safetensors", "normalize": {"window": [-1000, 400]}}
    settings = VictimSettings.model_validate({**spec, "window": [8, 8, 8]})
    cpu = torch.device("cpu")
    # 13 is odd: the network could not answer this grid in one piece.
    victim = VictimRequest(settings, "segmentation", tmp_path).load(cpu, (1, 13, 12, 9)).scored
    assert victim.predict(torch.zeros(1, 1, 13, 12, 9))[0].answer.shape == (13, 12, 9)
    flat = VictimSettings.model_validate({**spec, "window": [8, 8]})
    with pytest.raises(SpecError, match="2 lengths for images of 3 axes"):
        VictimRequest(flat, "segmentation", tmp_path).load(cpu, (1, 13, 12, 9))
    with pytest.raises(SpecError, match="task classification takes whole images"):
        VictimRequest(settings, "classification", tmp_path).load(cpu, (1, 13, 12, 9))
