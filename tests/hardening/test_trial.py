"""What cannot be trained is found before the first corpus, and what diverges before it is kept."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tests.conftest import quiet
from tests.hardening.hardening_cases import classification, detection, segmentation
from torch import Tensor

from medadv.common.errors import SpecError
from medadv.common.log import Log
from medadv.common.stop import Stop
from medadv.hardening import measuring, training
from medadv.hardening.folder import Home
from medadv.hardening.harden import harden
from medadv.hardening.losses import batch_loss
from medadv.hardening.specs import settings_of
from medadv.hardening.trial import refuse_untrainable
from medadv.hardening.work import Work
from medadv.prepare.request import Options
from medadv.spec.reading import load_spec
from medadv.victims.sources.registry import build_network

DEEP = {
    "spatial_dims": 2, "in_channels": 1, "out_channels": 2, "kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2],
    "filters": [4, 8, 8], "deep_supervision": True, "deep_supr_num": 1,
}  # fmt: skip
ONCE = [{"attack": "fgsm"}]


def with_network(path: Path, network: str, arguments: dict[str, object]) -> Path:
    # No safetensors: some of its tensors are one.
    torch.save(build_network(network, arguments).state_dict(), path.parent / "victim.pt")
    spec = yaml.safe_load(path.read_text())
    spec["victim"] |= {"network": network, "arguments": arguments, "weights": "victim.pt"}
    path.write_text(yaml.safe_dump(spec))
    return path


def test_a_network_that_answers_otherwise_in_training_is_told_before_any_corpus(tmp_path: Path) -> None:
    path = with_network(segmentation(tmp_path), "monai:DynUNet", DEEP)
    with pytest.raises(SpecError, match=r"victim.network=monai:DynUNet cannot be trained by hardening.loss=adversarial \("):
        harden(path, Options(), 1, quiet, Stop())
    home = Home(tmp_path / "hardenings" / yaml.safe_load(path.read_text())["name"])
    assert not home.generation(1).exists()
    # Another spec may begin in its place.
    assert not home.spec.exists()


@pytest.mark.parametrize(
    ("case", "loss"), [(classification, "adversarial"), (segmentation, "trades"), (detection, "adversarial"), (detection, "trades")]
)
def test_what_can_be_trained_passes_and_nothing_is_drawn(case: object, loss: str, tmp_path: Path) -> None:
    path = case(tmp_path, loss=loss)  # type: ignore[operator]
    spec = load_spec(path)
    work = Work(path, spec, settings_of(spec), Home(tmp_path), Options(), quiet, Stop(), Log(tmp_path / "log"))
    before = torch.random.get_rng_state()
    refuse_untrainable(work)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.usefixtures("inline")
def test_an_epoch_that_diverges_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "resamples_for", lambda *_: 30)
    path = classification(
        tmp_path, 8, 2, epochs=2, rate=10, optimizer="sgd", batch_size=2, validation_attacks=ONCE, final_attacks=ONCE, weight_decay=1
    )
    with pytest.raises(SpecError, match=r"training diverged: epoch . of the hardened model .* smaller hardening\.rate"):
        harden(path, Options(), 1, quiet, Stop())


@pytest.mark.usefixtures("inline")
def test_the_epoch_before_one_that_diverges_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "resamples_for", lambda *_: 30)
    path = classification(tmp_path, 8, 2, epochs=2, batch_size=6, validation_attacks=ONCE, final_attacks=ONCE)
    calls = iter(range(100))

    def overflowing(*given: Any) -> Tensor:
        # The trial, and of the first epoch a step and the question after it.
        return batch_loss(*given) * (1 if next(calls) < 3 else math.inf)

    monkeypatch.setattr(training, "batch_loss", overflowing)
    with pytest.raises(SpecError, match="epoch 2 of the hardened model"):
        harden(path, Options(), 1, quiet, Stop())
    assert torch.load(Home(tmp_path / "hardenings" / "tiny").state("hardened"), weights_only=True)["epochs"] == 1
