"""Victims that come as files: TorchScript and exported programs are attacked like the network they were made from."""

from pathlib import Path

import pytest
import torch
from torch import nn

from medadv.attacks.engine import perturb
from medadv.common.errors import SpecError
from medadv.spec.attack import AttackSettings
from medadv.spec.victim import VictimSettings
from medadv.victims.inputs.normalized import Normalized
from medadv.victims.loading import VictimRequest
from medadv.victims.tasks.classification import Classifier
from medadv_transforms.normalize import Normalize
from medadv_transforms.units import LATTICES

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
SMIA = AttackSettings(attack="smia", epsilon=8, step=2, steps=3)
CPU = torch.device("cpu")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.SiLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(4 * 36, 2)).eval()


def save(path: Path, module: nn.Module | None = None) -> None:
    module, example = module or network(), (torch.randn(2, 3, 8, 8),)
    if path.suffix == ".pt2":
        batch = torch.export.Dim("batch", min=1, max=64)
        torch.export.save(torch.export.export(module, example, dynamic_shapes=({0: batch},)), path)
    else:
        torch.jit.trace(module, example, check_trace=False).save(str(path))


def victim_settings(name: str) -> VictimSettings:
    return VictimSettings.model_validate({"network": name, "normalize": {"mean": [0.5] * 3, "std": [0.25] * 3}})


@pytest.mark.parametrize("name", ["victim.pt2", "victim.ts"])
def test_program_is_attacked_like_its_network(tmp_path: Path, name: str) -> None:
    save(tmp_path / name)
    loaded = VictimRequest(victim_settings(name), "classification", tmp_path).load(CPU, (3, 8, 8))
    assert loaded.identity.program_sha256 == loaded.identity.weights_sha256
    plain = Classifier(Normalized(Normalize([0.5] * 3, [0.25] * 3), network()), "softmax", 2)
    images = torch.randint(0, 256, (3, 3, 8, 8), generator=torch.Generator().manual_seed(0)).float()
    truth = torch.tensor([0, 1, 1])
    found, expected = (perturb(v, images, truth, SMIA, lattice=LATTICES["level8"], seeds=[1, 2, 3]) for v in (loaded.attacked, plain))
    # Another graph may sum in another order: fp32 signs next to zero are free.
    assert (found != expected).double().mean() < 0.02
    assert found.abs().max() == 8


def test_a_file_that_is_no_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "victim.pt2").write_bytes(b"nothing")
    with pytest.raises(SpecError, match="neither TorchScript nor an exported program"):
        VictimRequest(victim_settings("victim.pt2"), "classification", tmp_path).load(CPU, (3, 8, 8))


TRAINED: dict[str, tuple[type[nn.Module], str]] = {
    "dropout": (nn.Dropout, r"answers one image in two ways.*\(dropout\); call \.eval\(\) on the network before"),
    "batch norm": (nn.BatchNorm2d, r"when another lies beside it.*\(batch norm\); call \.eval\(\) on the network before"),
}


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("ending", ["pt2", "ts"])
@pytest.mark.parametrize("part", TRAINED)
def test_a_program_of_a_network_in_training_mode_is_refused(part: str, ending: str, tmp_path: Path) -> None:
    kind, said = TRAINED[part]
    module = network()
    for each in module.modules():
        each.training = isinstance(each, kind)
    save(tmp_path / f"victim.{ending}", module)
    with pytest.raises(SpecError, match=said):
        VictimRequest(victim_settings(f"victim.{ending}"), "classification", tmp_path).load(CPU, (3, 8, 8))


@pytest.mark.parametrize(("size", "said"), [(1, "was exported for a batch of 1: "), (2, "for a batch of another size than 1: ")])
def test_a_program_of_a_fixed_batch_is_refused_with_what_frees_it(size: int, said: str, tmp_path: Path) -> None:
    torch.export.save(torch.export.export(network(), (torch.randn(size, 3, 8, 8),)), tmp_path / "victim.pt2")
    with pytest.raises(SpecError, match=f"{said}.*dynamic_shapes=.*Dim.AUTO"):
        VictimRequest(victim_settings("victim.pt2"), "classification", tmp_path).load(CPU, (3, 8, 8))
    # As the message says it.
    images = torch.randn(2, 3, 8, 8)
    freed = torch.export.export(network(), (images,), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    torch.export.save(freed, tmp_path / "freed.pt2")
    victim = VictimRequest(victim_settings("freed.pt2"), "classification", tmp_path).load(CPU, (3, 8, 8))
    assert len(victim.scored.predict(images.repeat(2, 1, 1, 1))) == 4


def test_a_batch_of_one_is_enough_for_windows_one_at_a_time(tmp_path: Path) -> None:
    module = nn.Conv2d(3, 2, 3, padding=1).eval()
    torch.export.save(torch.export.export(module, (torch.randn(1, 3, 8, 8),)), tmp_path / "victim.pt2")
    windows = victim_settings("victim.pt2").model_copy(update={"window": (8, 8), "window_batch": 1})
    victim = VictimRequest(windows, "segmentation", tmp_path).load(CPU, (3, 12, 12))
    assert len(victim.scored.predict(torch.rand(2, 3, 12, 12))) == 2
    with pytest.raises(SpecError, match="was exported for a batch of 1: "):
        VictimRequest(windows.model_copy(update={"window_batch": 2}), "segmentation", tmp_path).load(CPU, (3, 12, 12))
