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

SMIA = AttackSettings(attack="smia", epsilon=8, step=2, steps=3)
CPU = torch.device("cpu")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.SiLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(4 * 36, 2)).eval()


def save(path: Path) -> None:
    example = (torch.randn(2, 3, 8, 8),)
    if path.suffix == ".pt2":
        batch = torch.export.Dim("batch", min=1, max=64)
        torch.export.save(torch.export.export(network(), example, dynamic_shapes=({0: batch},)), path)
    else:
        torch.jit.trace(network(), example).save(str(path))


def victim_settings(name: str) -> VictimSettings:
    return VictimSettings.model_validate({"network": name, "normalize": {"mean": [0.5] * 3, "std": [0.25] * 3}})


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
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
