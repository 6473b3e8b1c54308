"""Networks and checkpoints of nnU-Net: built by name from a short list, read without running anything."""

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.victims.nnunet_folders import Training
from torch import nn

from medadv.common.errors import SpecError
from medadv.victims.sources.checkpoint import read_checkpoint
from medadv.victims.sources.registry import build_network

unet = pytest.importorskip("dynamic_network_architectures.architectures.unet", reason="pip install 'medadv[nnunet]'")


@pytest.mark.parametrize("name", ["PlainConvUNet", "residualencoderunet"])
def test_networks_are_those_of_the_package(name: str) -> None:
    training = Training(network=unet.PlainConvUNet.__name__ if name == "PlainConvUNet" else unet.ResidualEncoderUNet.__name__)
    own = build_network(f"nnunet:{name}", {"input_channels": 1, "num_classes": 3, **training.arch, "deep_supervision": True}).eval()
    classes = {"conv_op": nn.Conv3d, "norm_op": nn.InstanceNorm3d, "nonlin": nn.LeakyReLU}
    direct = getattr(unet, training.network)(input_channels=1, num_classes=3, **{**training.arch, **classes}, deep_supervision=False).eval()
    direct.load_state_dict(own.state_dict())
    volume = torch.randn(1, 1, 4, 8, 8)
    with torch.no_grad():
        assert torch.equal(own(volume), direct(volume))


@pytest.mark.parametrize(
    ("argument", "path"),
    [
        ("conv_op", "torch.nn.Linear"),
        ("conv_op", "os.Conv3d"),
        ("nonlin", "torchevil.nn.ReLU"),
        ("norm_op", "torch.nn"),
        ("nonlin", "subprocess.Popen"),
        ("block", "torch.nn.BottleneckD"),
    ],
)
def test_classes_are_taken_from_a_short_list_and_nothing_is_imported(argument: str, path: str) -> None:
    arguments = {"input_channels": 1, "num_classes": 2, **Training(network="ResidualEncoderUNet").arch, argument: path}
    with pytest.raises(SpecError, match=re.escape(f"{argument}={path!r} is none of")):
        build_network("nnunet:ResidualEncoderUNet", arguments)


@pytest.mark.parametrize("arguments", [{"n_conv_per_stage": [[], 2, 2]}, {"features_per_stage": None}, {"strides": "x"}, {"odd": 1}])
def test_arguments_that_the_package_trips_over_are_refused_in_one_line(arguments: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="does not take the arguments") as caught:
        build_network("nnunet:PlainConvUNet", {"input_channels": 1, "num_classes": 2, **Training().arch, **arguments})
    assert "\n" not in str(caught.value)


def test_checkpoints_with_numbers_of_numpy_load_without_code(tmp_path: Path) -> None:
    Training().written(tmp_path)
    before = set(torch.serialization.get_safe_globals())
    found = read_checkpoint(next(tmp_path.glob("*/fold_0/checkpoint_final.pth")))
    assert (found["_best_ema"], found["current_epoch"], found["logging"]["mean_fg_dice"]) == (0.75, 1000, [0.5, 0.25])
    assert set(torch.serialization.get_safe_globals()) == before


def test_so_do_those_of_numpy_1(tmp_path: Path) -> None:
    torch.save({"best": np.float32(0.5), "state": {"a": torch.ones(2)}}, tmp_path / "new.pth", pickle_protocol=2)
    with zipfile.ZipFile(tmp_path / "new.pth") as new, zipfile.ZipFile(tmp_path / "old.pth", "w") as old:
        for item in new.infolist():
            data = new.read(item)
            changed = data.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
            assert (data != changed) == item.filename.endswith("data.pkl")
            old.writestr(item.filename, changed)
    assert read_checkpoint(tmp_path / "old.pth")["best"] == 0.5


class Opens:
    """What pickles to a call."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> Any:
        return self.call, self.arguments


@pytest.mark.parametrize(
    "content",
    [
        Opens(Path.touch, Path("made")),
        Opens(pickle.loads, b"N."),
        Opens(np.load, "file.npy"),
        np.array([1, 2]),
        np.array([None, 1], dtype=object),
        np.str_("text"),
        nn.Linear(1, 1),
    ],
    ids=["call", "pickle", "file", "array", "objects", "text", "module"],
)
def test_nothing_else_is_read(content: Any, tmp_path: Path) -> None:
    torch.save({"best": content, "state": {"a": torch.ones(2)}}, tmp_path / "weights.pth")
    with pytest.raises(SpecError, match="holds Python objects beside its tensors"):
        read_checkpoint(tmp_path / "weights.pth")
