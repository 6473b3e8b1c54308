"""Checkpoints as people hold them: nested, prefixed, with counters and other things beside, or not the network's at all."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from medadv.common.errors import SpecError
from medadv.common.hashing import hash_file
from medadv.spec.victim import VictimSettings
from medadv.victims.sources import weights
from medadv.victims.sources.matching import match
from medadv.victims.sources.weights import Weights, load_weights


class Head(nn.Module):
    """Names that end like others: `conv.weight` is also the end of `stem.conv.weight`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.stem = nn.ModuleDict({"conv": nn.Conv2d(1, 2, 3)})
        self.norm = nn.BatchNorm2d(2)


def network(seed: int = 0) -> Head:
    torch.manual_seed(seed)
    return Head()


STATE = network(1).state_dict()
AVERAGE = {name: value + 1 if value.is_floating_point() else value for name, value in STATE.items()}


def prefixed(prefix: str, state: dict[str, Tensor] = STATE) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


def loaded(tmp_path: Path, content: Any, **settings: Any) -> tuple[Head, Weights]:
    torch.save(content, tmp_path / "weights.pt")
    given = VictimSettings.model_validate(
        {"network": "monai:unet", "weights": "weights.pt", "normalize": {"mean": [0], "std": [1]}, **settings}
    )
    fresh = network()
    return fresh, load_weights(fresh, given, tmp_path / "weights.pt")


def holds(module: nn.Module, state: dict[str, Tensor]) -> bool:
    own = module.state_dict()
    return all(own[name].equal(value) for name, value in state.items() if "num_batches" not in name)


CHECKPOINTS: dict[str, tuple[Any, str | None]] = {
    "plain": (STATE, None),
    "nested as many do": ({"model_state_dict": STATE, "epoch": 3, "loss": 0.1}, None),
    "DataParallel": (prefixed("module."), "weights taken with the prefix 'module.'"),
    "compiled": (prefixed("_orig_mod."), "weights taken with the prefix '_orig_mod.'"),
    "Lightning": (
        {"state_dict": {**prefixed("model."), "criterion.weight": torch.ones(2)}, "hyper_parameters": {}},
        "weights taken with the prefix 'model.', 1 tensors beside it left out",
    ),
    "wrapped twice": ({"state_dict": prefixed("net._orig_mod.")}, "weights taken with the prefix 'net._orig_mod.'"),
    "of another name": ({"weights": STATE, "optimizer_state": {"m": torch.ones(3)}}, "weights taken from 'weights'"),
    "deeper": ({"run": {"ema": {"module": STATE}}}, "weights taken from 'run.ema.module'"),
    "with its average": ({"state_dict_ema": AVERAGE, "state_dict": STATE}, "weights taken 'state_dict_ema' would fit as well"),
    "with its average under a prefix": (
        {"state_dict": {**prefixed("ema_model.", AVERAGE), **prefixed("model.")}},
        "weights taken with the prefix 'model.', 9 tensors beside it left out, 'state_dict.ema_model' would fit as well",
    ),
    "counted by a profiler": ({**STATE, "total_ops": torch.ones(1), "conv.total_params": torch.ones(1)}, None),
    "without counters": ({name: value for name, value in STATE.items() if "num_batches" not in name}, None),
    "beside other networks": ({"generator": {"a.weight": torch.ones(9)}, "segmenter": STATE}, "weights taken from 'segmenter'"),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_what_fits_best_is_found_and_said(name: str, tmp_path: Path) -> None:
    content, note = CHECKPOINTS[name]
    module, found = loaded(tmp_path, content)
    assert holds(module, STATE)
    assert found.note == note


def test_the_average_can_be_asked_for(tmp_path: Path) -> None:
    module, found = loaded(tmp_path, {"state_dict": STATE, "state_dict_ema": AVERAGE}, weights_key="state_dict_ema")
    assert holds(module, AVERAGE)
    assert found.note == "weights taken from 'state_dict_ema'"
    both = {"state_dict": {**prefixed("ema_model.", AVERAGE), **prefixed("model.")}}
    assert holds(loaded(tmp_path, both, weights_key="state_dict.ema_model")[0], AVERAGE)
    with pytest.raises(SpecError, match=re.escape("no dictionary of tensors called 'ema'; there are state_dict, state_dict_ema")):
        loaded(tmp_path, {"state_dict": STATE, "state_dict_ema": AVERAGE}, weights_key="ema")


@pytest.mark.parametrize("order", [("student", "teacher", "ema"), ("ema", "teacher", "student")])
def test_any_of_several_prefixes_can_be_asked_for(order: tuple[str, ...], tmp_path: Path) -> None:
    states = {name: {key: value + place for key, value in STATE.items()} for place, name in enumerate(("student", "teacher", "ema"))}
    checkpoint = {"state_dict": {f"{name}.{key}": value for name in order for key, value in states[name].items()}}
    for name, state in states.items():
        module, found = loaded(tmp_path, checkpoint, weights_key=f"state_dict.{name}")
        assert holds(module, state)
        assert found.note is not None
        assert f"with the prefix '{name}.'" in found.note
    module, found = loaded(tmp_path, checkpoint)
    assert holds(module, states["student"]), "no moving average unless it is asked for"
    assert found.note is not None
    assert found.note.endswith("'state_dict.teacher', 'state_dict.ema' would fit as well")


def quantized(value: Tensor) -> Tensor:
    return torch.quantize_per_tensor(value, 0.1, 0, torch.qint8)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("how", [lambda value: (value * 10).to(torch.int8), quantized], ids=["whole numbers", "with scales"])
def test_quantized_weights_are_refused(how: Callable[[Tensor], Tensor], tmp_path: Path) -> None:
    content = {name: how(value) if name == "stem.conv.weight" else value for name, value in STATE.items()}
    with pytest.raises(SpecError, match=r"whole numbers \(torch\.q?int8\) in stem\.conv\.weight, as of quantized weights"):
        loaded(tmp_path, content)


@pytest.mark.parametrize("prefix", ["", "module.", "net.inner."])
def test_weights_of_what_a_network_wraps_are_its_own(prefix: str) -> None:
    """As VISTA3D's are, whose bundle saves the network without its prompts."""
    wrapped = nn.Sequential(nn.Conv2d(1, 2, 3))
    network = nn.ModuleDict({"inner": wrapped})
    saved = {f"{prefix}{name}": value + 1 for name, value in wrapped.state_dict().items()}
    found = match(network.state_dict(), {"state_dict": saved})
    assert found.tensors.keys() == network.state_dict().keys()
    assert all(value.equal(network.state_dict()[name] + 1) for name, value in found.tensors.items())
    with pytest.raises(ValueError, match="2 missing \\(inner"):
        match(network.state_dict(), {"other": torch.zeros(1)})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_fp32(dtype: torch.dtype, tmp_path: Path) -> None:
    stored = {name: value.to(dtype) if value.is_floating_point() else value for name, value in STATE.items()}
    module, _ = loaded(tmp_path, stored)
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}
    assert holds(module, {name: value.float() for name, value in stored.items()})


def test_safetensors_with_a_prefix(tmp_path: Path) -> None:
    save_file(prefixed("module."), tmp_path / "weights.safetensors")
    settings = {"network": "monai:unet", "weights": "weights.safetensors", "normalize": {"mean": [0], "std": [1]}}
    module = network()
    loaded_weights = load_weights(module, VictimSettings.model_validate(settings), tmp_path / "weights.safetensors")
    assert loaded_weights.note == "weights taken with the prefix 'module.'"
    assert holds(module, STATE)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("whole", [weights.WHOLE, 8])
def test_what_is_loaded_is_what_was_hashed(suffix: str, whole: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is rewritten while it is read: too large to hold, it is refused."""
    path = tmp_path / f"weights{suffix}"
    save = torch.save if suffix == ".pt" else save_file
    save(STATE, path)
    digest, plain = hash_file(path), weights.read_checkpoint

    def rewritten(*arguments: Any) -> Any:
        save(AVERAGE, path)
        return plain(*arguments)

    monkeypatch.setattr(weights, "read_checkpoint", rewritten)
    monkeypatch.setattr(weights, "WHOLE", whole)
    given = VictimSettings.model_validate({"network": "monai:unet", "weights": path.name, "normalize": {"mean": [0], "std": [1]}})
    module = network()
    if whole == 8:
        with pytest.raises(SpecError, match="changed while it was read"):
            load_weights(module, given, path)
    else:
        assert load_weights(module, given, path).sha256 == digest
        assert holds(module, STATE)


RENAMED = {name.replace("stem.conv", "stem.convolution"): value for name, value in STATE.items()}

REFUSED: dict[str, tuple[Any, str]] = {
    "another name": (
        RENAMED,
        "2 missing (stem.conv.bias, stem.conv.weight); 2 not known to the network (stem.convolution.bias, "
        "stem.convolution.weight); stem.conv.bias is near stem.convolution.bias",
    ),
    "something missing": (prefixed("module.", {k: v for k, v in STATE.items() if k != "conv.bias"}), "1 missing (conv.bias)"),
    "something more, under the prefix": (
        prefixed("module.", {**STATE, "head.weight": torch.ones(2)}),
        "1 not known to the network (head.weight)",
    ),
    "another shape": ({**STATE, "conv.bias": torch.ones(5)}, "1 of another shape (conv.bias [5] for [2])"),
    "no tensors": ({"epoch": 3}, "it holds no tensors"),
    "no dictionary": ([STATE], "it holds no tensors"),
    "no numbers": ({**STATE, "conv.bias": torch.tensor([1.0, float("nan")])}, "holds values that are no numbers, in conv.bias"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_left_over_is_refused_with_the_nearest_names(name: str, tmp_path: Path) -> None:
    content, message = REFUSED[name]
    with pytest.raises(SpecError, match=re.escape(message)):
        loaded(tmp_path, content)


def test_a_pickled_module_is_told_how_to_save_its_state(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"holds Python objects beside its tensors.*state_dict\(\)"):
        loaded(tmp_path, network())
    (tmp_path / "weights.pt").write_bytes(b"no checkpoint at all")
    settings = {"network": "monai:unet", "weights": "weights.pt", "normalize": {"mean": [0], "std": [1]}}
    with pytest.raises(SpecError, match="cannot be read as weights"):
        load_weights(network(), VictimSettings.model_validate(settings), tmp_path / "weights.pt")
