"""What lies around a network: mirrored passes, slices, members, probabilities. Values by hand, gradients against plain autograd in fp64."""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.inferers import sliding_window_inference
from safetensors.torch import save_file
from torch import Tensor, nn

from medadv.common.errors import SpecError
from medadv.spec.victim import VictimSettings
from medadv.victims.inputs.around import Members, networks
from medadv.victims.inputs.deployed import Logits, Mirrored, Slicewise
from medadv.victims.inputs.pipeline import deployed
from medadv.victims.inputs.sliding import SlidingWindow, even_starts
from medadv.victims.loading import VictimRequest
from medadv.victims.sources.registry import build_network
from medadv.victims.tasks.segmentation import Segmenter

CPU = torch.device("cpu")
UNET: dict[str, Any] = {"spatial_dims": 2, "in_channels": 1, "out_channels": 3, "channels": [4, 8], "strides": [2]}


def network(axes: int = 2, classes: int = 3, seed: int = 0) -> nn.Module:
    """Asymmetric, so that a mirrored image is answered differently."""
    torch.manual_seed(seed)
    convolution = nn.Conv3d if axes == 3 else nn.Conv2d
    return nn.Sequential(convolution(1, 4, 3, padding=1), nn.SiLU(), convolution(4, classes, 3, padding=1)).double().eval()


def image(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def gradients(module: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    at = at.clone().requires_grad_()
    return torch.autograd.grad(module(at).pow(3).sum(), at)[0]


def test_mirrored_is_the_mean_over_all_combinations_of_axes() -> None:
    inner = network(3)
    at = image(2, 1, 4, 6, 5)

    def reference(x: Tensor) -> Tensor:
        answers = []
        for chosen in product([False, True], repeat=2):
            axes = [axis for axis, flipped in zip((2, 4), chosen, strict=True) if flipped]
            answers.append(inner(x.flip(axes)).flip(axes))
        return torch.stack(answers).mean(0)

    torch.testing.assert_close(Mirrored(inner, (0, 2))(at), reference(at))
    torch.testing.assert_close(gradients(Mirrored(inner, (0, 2)), at), gradients(reference, at))


def test_a_mirrored_gradient_keeps_no_more_than_one_pass() -> None:
    """Everything between the layers of one pass, not of eight: counted as what autograd packs away."""
    inner, kept = network(3), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        Mirrored(inner, (0, 1, 2))(image(1, 1, 8, 8, 8).requires_grad_())
    eight = sum(kept)
    kept.clear()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        inner(image(1, 1, 8, 8, 8).requires_grad_())
    assert eight < 2 * sum(kept)


@pytest.mark.parametrize("window", [None, (6, 4)])
def test_slicewise_is_every_slice_by_itself(window: tuple[int, int] | None) -> None:
    inner, at = network(), image(2, 1, 5, 8, 7)
    one = inner if window is None else SlidingWindow(inner, window, 0.25, "gaussian", 3)

    def reference(x: Tensor) -> Tensor:
        def answer(y: Tensor) -> Tensor:
            return inner(y) if window is None else sliding_window_inference(y, window, 3, inner, overlap=0.25, mode="gaussian")

        return torch.stack([answer(x[:, :, index]) for index in range(x.shape[2])], 2)

    torch.testing.assert_close(Slicewise(one, 2)(at), reference(at))
    torch.testing.assert_close(gradients(Slicewise(one, 2), at), gradients(reference, at))


@pytest.mark.parametrize("padding", ["constant", "replicate"])
def test_images_smaller_than_the_window_are_padded_as_monai_pads(padding: str) -> None:
    inner, at = network(3), image(1, 1, 5, 9, 4)
    ours = SlidingWindow(inner, (8, 8, 7), 0.5, "constant", 2, padding)
    expected = sliding_window_inference(at, (8, 8, 7), 2, inner, overlap=0.5, padding_mode=padding)
    torch.testing.assert_close(ours(at), expected)
    torch.testing.assert_close(
        gradients(ours, at), gradients(lambda x: sliding_window_inference(x, (8, 8, 7), 2, inner, 0.5, padding_mode=padding), at)
    )


@pytest.mark.parametrize(
    ("length", "window", "starts"),
    [(10, 10, [0]), (10, 8, [0, 2]), (32, 8, [0, 4, 8, 12, 16, 20, 24]), (33, 8, [0, 4, 7, 11, 14, 18, 21, 25]), (13, 8, [0, 2, 5])],
)
def test_even_windows_reach_from_end_to_end(length: int, window: int, starts: list[int]) -> None:
    """At most half a window apart, as few as that takes, evenly spread; 13 by 8: three, 2.5 apart, rounded to even."""
    assert even_starts(length, window, 0.5) == starts


def test_members_answer_the_mean_of_their_logits() -> None:
    parts, at = [network(seed=seed) for seed in range(3)], image(2, 1, 6, 6)
    expected = sum(part(at) for part in parts) / 3
    torch.testing.assert_close(Members(parts)(at), expected)
    settings = VictimSettings.model_validate(
        {"network": "x", "normalize": [{"identity": True}], "window": [4, 4], "window_batch": 1, "mirror": [1], "weights": ["a", "b", "c"]}
    )
    whole = deployed(parts, settings)
    assert networks(whole.network) == parts
    each = [sliding_window_inference(at, (4, 4), 1, Mirrored(part, [1]), 0.25) for part in parts]
    torch.testing.assert_close(whole(at), torch.stack(each).mean(0))


def test_probabilities_of_a_softmax_are_taken_back_to_their_logarithm() -> None:
    logits = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 4
    taken_back = Logits("softmax", binary=False)(logits.softmax(1))
    torch.testing.assert_close(taken_back.softmax(1), logits.softmax(1))
    assert taken_back.argmax(1).equal(logits.argmax(1))
    torch.testing.assert_close(taken_back, logits.log_softmax(1))


def test_probabilities_of_a_sigmoid_are_taken_back_to_their_logits() -> None:
    logits = torch.linspace(-9, 9, 41, dtype=torch.float64).view(1, 1, 41)
    torch.testing.assert_close(Logits("sigmoid", binary=False)(logits.sigmoid()), logits)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_certainty_is_kept_finite_and_counted(activation: Any) -> None:
    ending = Logits(activation, binary=False)
    probabilities = torch.tensor([0.0, 1.0, 0.25, 0.75], requires_grad=True)
    answer = ending(probabilities)
    assert answer.isfinite().all()
    (gradient,) = torch.autograd.grad(answer.sum(), probabilities)
    assert gradient.isfinite().all()
    # At the clamp nothing can be followed; elsewhere it is the slope of the logarithm, or of the logit.
    slopes = {"softmax": [4.0, 4 / 3], "sigmoid": [16 / 3, 16 / 3]}
    assert gradient.tolist() == pytest.approx([0.0, 0.0, *slopes[activation]])
    assert float(ending.clamped(probabilities)) == 0.5


@pytest.mark.parametrize("activation", ["none", "sigmoid"])
def test_one_value_stands_for_two_classes(activation: Any) -> None:
    values = torch.linspace(-3, 3, 7, dtype=torch.float64).view(7, 1)
    given = values.sigmoid() if activation == "sigmoid" else values
    two = Logits(activation, binary=True)(given)
    torch.testing.assert_close(two.softmax(1)[:, 1:], values.sigmoid())
    with pytest.raises(ValueError, match="takes one value, and the network answers 2"):
        Logits(activation, binary=True)(two)


def victim(folder: Path, count: int, classes: int = 3, **settings: Any) -> Segmenter:
    """Of so many members, random ones."""
    names = []
    for seed in range(max(2, count)):
        torch.manual_seed(seed)
        built = build_network("monai:unet", {**UNET, "out_channels": classes})
        save_file(built.state_dict(), folder / f"{seed}.safetensors")
        names.append(f"{seed}.safetensors")
    names = names[:count]
    given = {"network": "monai:unet", "arguments": {**UNET, "out_channels": classes}, "normalize": {"mean": [0.5], "std": [0.25]}}
    request = VictimRequest(VictimSettings.model_validate({**given, "weights": names, **settings}), "segmentation", folder)
    loaded = request.load(CPU, (1, 8, 8))
    assert len(loaded.identity.members) == (count if count > 1 else 0)
    assert isinstance(loaded.scored, Segmenter)
    return loaded.scored


def test_members_are_loaded_each_from_its_file(tmp_path: Path) -> None:
    at = image(2, 1, 8, 8).float() * 255
    both = victim(tmp_path, 2)
    first, second = (victim(tmp_path, 1, weights=f"{seed}.safetensors").forward(at) for seed in range(2))
    torch.testing.assert_close(both.forward(at), (first + second) / 2)
    assert not first.equal(second)


def test_a_binary_head_answers_masks_of_0_and_1(tmp_path: Path) -> None:
    judge = victim(tmp_path, 1, classes=1, head="binary")
    assert (judge.head, judge.classes) == ("softmax", 2)
    at = image(1, 1, 8, 8).float() * 255
    raw = judge.module.answers(at)
    assert (judge.predict(at)[0].answer == (raw[0, 0] > 0).numpy()).all()
    with pytest.raises(SpecError, match=r"victim\.head=binary is for networks of one value, and this one answers 3"):
        victim(tmp_path, 1, head="binary")


@pytest.mark.parametrize(
    ("task", "settings", "said"),
    [
        ("detection", {"head": "binary"}, r"victim\.head=binary: a detector answers boxes"),
        ("detection", {"head": "sigmoid", "activation": "sigmoid"}, r"victim\.activation=sigmoid: a detector answers boxes"),
        ("detection", {"mirror": [0]}, r"victim\.mirror is for voxel-wise answers"),
        ("classification", {"slicewise": True}, r"victim\.slicewise is for voxel-wise answers"),
        ("classification", {"window": [8, 8]}, r"victim\.window: sliding windows stitch"),
        ("classification", {"normalize": [{"crop": "nonzero"}]}, r"victim\.normalize: crop is for voxel-wise answers"),
    ],
)
def test_what_a_task_cannot_answer_through_is_refused(task: str, settings: dict[str, Any], said: str, tmp_path: Path) -> None:
    given = {"network": "monai:unet", "weights": "w.pt", "normalize": {"window": [0, 80]}, **settings}
    with pytest.raises(SpecError, match=said):
        VictimRequest(VictimSettings.model_validate(given), task, tmp_path).load(CPU, (1, 16, 16))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"head": "sigmoid", "activation": "softmax"}, "activation: softmax belongs to head: softmax"),
        ({"head": "softmax", "activation": "sigmoid"}, "activation: sigmoid belongs to head: sigmoid or binary"),
        ({"window_padding": "replicate"}, "give window"),
        ({"weights": ["a.pt", "a.pt"]}, "names a file twice"),
        ({"mirror": []}, "at least 1"),
        ({"mirror": [0, 0]}, "names an axis twice"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        VictimSettings.model_validate({"network": "x", "weights": "w", "normalize": {"window": [0, 80]}, **settings})
