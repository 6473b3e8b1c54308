"""Every input step against MONAI's transform of the same kind, its gradient against finite differences, and its way back."""

from collections.abc import Callable
from typing import Any

import monai.transforms as mt
import numpy as np
import pytest
import torch
from monai.data.meta_tensor import MetaTensor
from scipy.ndimage import binary_fill_holes
from torch import Tensor, nn
from torch.nn import functional

from medadv.common.errors import SpecError
from medadv.spec.normalize import hu_window
from medadv.spec.reading import parse_spec
from medadv.spec.victim import VictimSettings
from medadv.victims.inputs.geometry import Crop
from medadv.victims.inputs.normalized import Normalized
from medadv.victims.inputs.pipeline import deployed, normalization
from medadv.victims.inputs.steps import InputSteps

Step = dict[str, Any]


def settings(*steps: Step, **more: Any) -> VictimSettings:
    return VictimSettings.model_validate({"network": "monai:unet", "normalize": list(steps), **more})


def module(*steps: Step) -> InputSteps:
    built = normalization(settings(*steps))
    assert isinstance(built, InputSteps)
    return built


def monais(image: Tensor, *transforms: Callable[..., Any]) -> Tensor:
    """MONAI's transforms, image by image."""
    done = []
    for each in image:
        for transform in transforms:
            each = transform(each)
        done.append(each.as_tensor() if isinstance(each, MetaTensor) else torch.as_tensor(each))
    return torch.stack(done)


def hounsfield(channels: int = 1, *spatial: int) -> Tensor:
    """Two images with what makes trouble: many voxels at exactly 0 and at -1024, and the ends of the range."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(-900, 1500, (2, channels, *(spatial or (5, 6, 4))), generator=generator).float()
    image[:, :, :2] = 0
    image[:, :, -1] = -1024
    image[0, 0, 2, 2] = 3071
    return image


AS_MONAI: dict[str, tuple[list[Step], list[Callable[..., Any]], int]] = {
    "window": ([{"window": [-57, 164]}], [mt.ScaleIntensityRange(-57, 164, 0, 1, clip=True)], 1),
    "scale": ([{"scale": [-1000, 400, -1, 1]}], [mt.ScaleIntensityRange(-1000, 400, -1, 1)], 2),
    "scale, clipped": ([{"scale": [-500, 400, 0, 255], "clip": True}], [mt.ScaleIntensityRange(-500, 400, 0, 255, clip=True)], 1),
    "clip": ([{"clip": [-100, 240]}], [mt.Lambda(lambda x: x.clip(-100, 240))], 1),
    "constants": ([{"zscore": {"mean": [90.5], "std": [41.0]}}], [mt.NormalizeIntensity(90.5, 41.0)], 2),
    "constants a channel": (
        [{"zscore": {"mean": [1.0, -20.0], "std": [2.0, 30.0]}}],
        [mt.NormalizeIntensity([1.0, -20.0], [2.0, 30.0], channel_wise=True)],
        2,
    ),
    "constants, nonzero": (
        [{"zscore": {"mean": [5.0], "std": [2.0]}, "nonzero": True}],
        [mt.NormalizeIntensity(5.0, 2.0, nonzero=True)],
        1,
    ),
    "zscore": ([{"zscore": "image"}], [mt.NormalizeIntensity()], 2),
    "zscore, nonzero": ([{"zscore": "image", "nonzero": True}], [mt.NormalizeIntensity(nonzero=True)], 2),
    "zscore a channel": ([{"zscore": "image", "per_channel": True}], [mt.NormalizeIntensity(channel_wise=True)], 2),
    "zscore a channel, nonzero": (
        [{"zscore": "image", "nonzero": True, "per_channel": True}],
        [mt.NormalizeIntensity(nonzero=True, channel_wise=True)],
        2,
    ),
    "minmax": ([{"minmax": [-1, 2]}], [mt.ScaleIntensity(-1, 2)], 2),
    "minmax a channel": ([{"minmax": [0, 1], "per_channel": True}], [mt.ScaleIntensity(0, 1, channel_wise=True)], 2),
    "repeat": ([{"channels": {"repeat": 3}}], [mt.RepeatChannel(3)], 2),
    "order": ([{"channels": {"order": [1, 0]}}], [mt.Lambda(lambda x: x[[1, 0]])], 2),
    "transpose": ([{"transpose": [2, 0, 1]}], [mt.Transpose((0, 3, 1, 2))], 1),
    "flip": ([{"flip": [0, 2]}], [mt.Flip([0, 2])], 1),
    "resize": ([{"resize": [7, 5, 9], "mode": "linear"}], [mt.Resize((7, 5, 9), mode="trilinear")], 1),
    "resize, corners": (
        [{"resize": [7, 5, 9], "align_corners": True}],
        [mt.Resize((7, 5, 9), mode="trilinear", align_corners=True)],
        1,
    ),
    "resize, area": ([{"resize": [3, 3, 2], "mode": "area"}], [mt.Resize((3, 3, 2))], 1),
    "resize, nearest": ([{"resize": [3, 9, 2], "mode": "nearest"}], [mt.Resize((3, 9, 2), mode="nearest")], 1),
    "several": (
        [{"clip": [-200, 300]}, {"zscore": "image", "nonzero": True}, {"minmax": [0, 1]}],
        [mt.Lambda(lambda x: x.clip(-200, 300)), mt.NormalizeIntensity(nonzero=True), mt.ScaleIntensity()],
        1,
    ),
    "identity": ([{"identity": True}], [], 2),
}


@pytest.mark.parametrize("name", AS_MONAI)
def test_a_step_is_monais_transform(name: str) -> None:
    steps, transforms, channels = AS_MONAI[name]
    image = hounsfield(channels)
    ours, reference = module(*steps)(image), monais(image, *transforms)
    torch.testing.assert_close(ours, reference.to(ours.dtype), rtol=1e-6, atol=1e-5 * max(1.0, float(reference.abs().max())))


@pytest.mark.parametrize("image", [torch.zeros(1, 1, 4, 4), torch.full((1, 1, 4, 4), -1024.0)], ids=["zeros", "one value"])
@pytest.mark.parametrize("name", ["zscore", "zscore, nonzero", "zscore a channel, nonzero", "minmax"])
def test_an_image_of_one_value_is_what_monai_makes_of_it(name: str, image: Tensor) -> None:
    steps, transforms, _ = AS_MONAI[name]
    moved = image.clone().requires_grad_()
    answer = module(*steps)(moved)
    torch.testing.assert_close(answer.detach(), monais(image, *transforms))
    (gradient,) = torch.autograd.grad(answer.square().sum(), moved)
    assert gradient.isfinite().all()


def test_several_windows_become_channels() -> None:
    image = hounsfield()
    bounds = [[-160, 240], [-1000, 400], [0, 80]]
    expected = torch.cat([monais(image, mt.ScaleIntensityRange(low, high, 0, 1, clip=True)) for low, high in bounds], 1)
    torch.testing.assert_close(module({"windows": bounds})(image), expected)


def test_a_slab_holds_the_neighbours_and_repeats_the_ends() -> None:
    image = torch.arange(4.0).view(1, 1, 4, 1, 1).expand(1, 1, 4, 2, 2)
    slabs = module({"channels": {"slab": 3}})(image)
    assert slabs[0, :, :, 0, 0].tolist() == [[0, 0, 1, 2], [0, 1, 2, 3], [1, 2, 3, 3]]


def test_empty_channels_come_last() -> None:
    image = hounsfield(2)
    answer = module({"channels": {"zeros": 2}})(image)
    assert answer[:, :2].equal(image)
    assert not answer[:, 2:].any()


def test_the_filled_mask_is_that_of_all_channels_with_their_holes() -> None:
    image = torch.zeros(1, 2, 9, 9)
    image[0, 0, 2:7, 2:7] = torch.arange(25.0).view(5, 5) + 1
    image[0, 0, 4, 4] = 0  # a hole: counted, with the value 0
    image[0, 1, 1, 1] = 8
    mask = torch.from_numpy(binary_fill_holes((image[0] != 0).any(0).numpy()))
    assert bool(mask[4, 4])
    answer = module({"zscore": "image", "nonzero": "filled", "per_channel": True})(image)
    for channel in range(2):
        values = image[0, channel][mask].double()
        expected = (values - values.mean()) / values.std(unbiased=False)
        torch.testing.assert_close(answer[0, channel][mask].double(), expected)
        assert answer[0, channel][~mask].equal(image[0, channel][~mask])


SMOOTH = torch.rand(1, 2, 4, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 200 - 60
"""No ties, nothing at 0 or at a bound."""


@pytest.mark.parametrize(
    "steps",
    [
        [{"window": [-57.5, 120.5]}],
        [{"scale": [-100, 240, -1, 1]}],
        [{"zscore": {"mean": [9.0], "std": [4.0]}}],
        [{"zscore": "image"}],
        [{"zscore": "image", "nonzero": True, "per_channel": True}],
        [{"zscore": "image", "nonzero": "filled"}],
        [{"minmax": [0, 1]}],
        [{"minmax": [-1, 1], "per_channel": True}],
        [{"resize": [7, 3]}],
        [{"resize": [3, 4], "antialias": True}],
        [{"resize": [2, 3], "mode": "area"}],
        [{"channels": {"repeat": 2}}, {"channels": {"order": [3, 0, 0]}}],
        [{"transpose": [1, 0]}, {"flip": [0]}],
        [{"channels": {"slab": 3}}, {"channels": {"zeros": 1}}],
        [{"clip": [-59.9, 139.9]}, {"zscore": "image"}, {"minmax": [0, 1]}, {"resize": [5, 5]}],
    ],
    ids=lambda steps: " + ".join(next(iter(step)) for step in steps),
)
def test_gradients_are_those_of_finite_differences(steps: list[Step]) -> None:
    built = module(*steps).double()
    assert torch.autograd.gradcheck(built, (SMOOTH.clone().requires_grad_(),), eps=1e-4, atol=1e-6, rtol=1e-4)


def test_voxels_that_share_an_extreme_share_its_gradient() -> None:
    image = torch.tensor([-1024.0, -1024.0, -1024.0, 0.0, 500.0], dtype=torch.float64).view(1, 1, 5).requires_grad_()
    (gradient,) = torch.autograd.grad(module({"minmax": [0, 1]})(image)[0, 0, 3], image)
    assert gradient[0, 0, :3].unique().numel() == 1
    # d/dleast of (0 - least) / (greatest - least), in thirds.
    least, greatest = -1024.0, 500.0
    assert float(gradient[0, 0, 0]) == pytest.approx(((0 - least) - (greatest - least)) / (greatest - least) ** 2 / 3)


def test_the_gradient_goes_to_what_is_nonzero_alone() -> None:
    image = hounsfield().double().requires_grad_()
    answer = module({"zscore": "image", "nonzero": True})(image)
    (gradient,) = torch.autograd.grad(answer.pow(3).sum(), image)
    # A voxel at 0 passes straight through, and 0 cubed has no slope.
    assert not gradient[image == 0].any()
    assert gradient[image == -1024].all()


class Ramp(nn.Module):
    """A network whose logits name the place on its own grid: what comes back shows where each voxel went."""

    def forward(self, images: Tensor) -> Tensor:
        grid = torch.arange(images[0, 0].numel(), dtype=images.dtype).view(1, 1, *images.shape[2:])
        return torch.cat([images[:, :1], grid.expand(len(images), -1, *images.shape[2:])], 1)


@pytest.mark.parametrize("steps", [[{"transpose": [2, 0, 1]}], [{"flip": [1]}], [{"flip": [0, 2]}, {"transpose": [1, 2, 0]}]])
def test_answers_come_back_to_the_stored_grid(steps: list[Step]) -> None:
    image = hounsfield()
    answer = deployed([Ramp()], settings(*steps))(image)
    assert answer[:, 0].equal(image[:, 0])
    places = torch.arange(image[0, 0].numel(), dtype=torch.float32).view(1, 1, *image.shape[2:])
    there = module(*steps)(places)
    # The same moves, applied to a grid of numbers, put number `there` at network place k.
    assert answer[0, 1].flatten()[there.flatten().long()].equal(torch.arange(there.numel(), dtype=torch.float32))


def test_logits_of_another_size_come_back_linearly() -> None:
    image = hounsfield(1, 8, 6)
    answer = deployed([Ramp()], settings({"resize": [4, 4]}))(image)
    small = functional.interpolate(image, (4, 4), mode="bilinear", align_corners=False)
    assert answer[:, :1].equal(functional.interpolate(small, (8, 6), mode="bilinear", align_corners=False))


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_outside_the_crop_the_answer_is_background(head: str) -> None:
    image = torch.zeros(2, 1, 6, 7)
    image[0, 0, 1:4, 2:6] = 5
    image[1, 0, 3:, :2] = 7  # another box: images go through one at a time
    victim = deployed([Ramp()], settings({"crop": "nonzero"}, head=head))
    answer = victim(image)
    for one, logits in zip(image, answer, strict=True):
        inside = one[0] != 0
        probabilities = (logits.softmax(0) if head == "softmax" else logits.sigmoid())[:, ~inside]
        background = probabilities[0] if head == "softmax" else 1 - probabilities.amax(0)
        assert float(background.min()) > 1 - 1e-8
        assert logits[0][inside].equal(one[0][inside])
    assert torch.autograd.grad(victim(image.requires_grad_()).sum(), image)[0].isfinite().all()
    with pytest.raises(ValueError, match="one at a time"):
        Crop()(image)


def test_boxes_go_there_and_come_back() -> None:
    steps = module({"resize": [32, 16]}, {"transpose": [1, 0]}, {"flip": [1]})
    boxes = torch.tensor([[2.0, 3.0, 6.0, 10.0]])  # rows 2 to 6 of 16, columns 3 to 10 of 12
    there = steps.boxes_there(boxes, (16, 12))
    # Twice as many rows, 16 / 12 as many columns; columns come first; rows run the other way.
    torch.testing.assert_close(there, torch.tensor([[4.0, 32 - 12.0, 40 / 3, 32 - 4.0]]))
    torch.testing.assert_close(steps.boxes_home(there, (16, 12)), boxes)


WRONG = {
    "no step": ([{"blur": 3}], "a step is a mapping with one of"),
    "no steps": ([], "at least 1"),
    "falling window": ([{"window": [400, -160]}], "must rise"),
    "flat scale": ([{"scale": [3, 3, 0, 1]}], "the first two values are equal"),
    "std 0": ([{"zscore": {"mean": [0], "std": [0]}}], "std above 0"),
    "no permutation": ([{"transpose": [0, 0]}], "is no order of the spatial axes"),
    "even slab": ([{"channels": {"slab": 4}}], "must be odd"),
    "two kinds": ([{"channels": {"repeat": 3, "zeros": 1}}], "takes one of"),
    "another key": ([{"window": [0, 80], "clip": True}], "clip"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_steps_are_refused_in_one_line(name: str) -> None:
    steps, said = WRONG[name]
    spec = {
        "name": "x",
        "data": {"modality": "ct", "task": "segmentation", "layout": "nnunet", "path": "."},
        "victim": {"network": "monai:unet", "weights": "w.pt", "normalize": steps},
        "attacks": {"pgd": {"attack": "pgd", "epsilon": 8}},
    }
    with pytest.raises(SpecError, match=said) as raised:
        parse_spec(spec, "spec.yaml")
    assert "victim.normalize" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("steps", "window"),
    [
        ([{"transpose": [1, 0]}, {"window": [-160, 240]}], (-160, 240)),
        ([{"scale": [-57, 164, 0, 1], "clip": True}], (-57, 164)),
        ([{"clip": [-100, 300]}, {"zscore": "image"}], (-100, 300)),
        ([{"zscore": "image"}, {"clip": [-3, 3]}], None),
    ],
)
def test_the_window_that_a_report_shows_is_the_first_in_stored_units(steps: list[Step], window: tuple[float, float] | None) -> None:
    assert hu_window(settings(*steps).normalize) == window


def test_a_dump_says_no_more_than_was_said() -> None:
    steps: list[Step] = [{"window": [0.0, 80.0]}, {"channels": {"repeat": 3}}, {"zscore": "image"}, {"resize": [8, 8]}]
    assert settings(*steps).model_dump(mode="json")["normalize"] == steps
    assert np.array_equal(Normalized(module(*steps), nn.Identity()).piece((1, 5, 5)), (1, 5, 5))
