"""Attacks in memory, which renewed corpora are held against, are trained on by the same loop."""

import sys
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tests.conftest import InlinePool, load_script, quiet
from tests.hardening.hardening_cases import classification, with_hardening

from medadv.common.stop import Stop
from medadv.hardening.harden import harden
from medadv.prepare.request import Options
from medadv.run import cluster
from medadv.spec.attack import AttackSettings

EPOCHS = 4


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("bench/in_memory.py")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Spec of a hardening of one generation, beside what it made."""
    path = classification(tmp_path_factory.mktemp("memory"), generations=1, epochs=EPOCHS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "connect", lambda *_, **__: nullcontext(InlinePool()))
        harden(path, Options(), None, quiet, Stop())
    return path


def trained(script: ModuleType, spec: Path, mode: str, out: Path, patch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    corpus, weights = spec.parent / "hardenings" / "tiny" / "generation-001" / "corpus", spec.parent / "victim.safetensors"
    named = {"spec": spec, "corpus": corpus, "weights": weights, "out": out, "mode": mode, "epochs": EPOCHS}
    patch.setattr(sys, "argv", ["in_memory.py", *(f"--{key}={value}" for key, value in named.items())])
    script.main()
    return load_file(out)


def test_on_clean_images_it_is_the_control(script: ModuleType, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    control = load_file(done.parent / "hardenings" / "tiny" / "control" / "generation-001" / "weights.safetensors")
    found = trained(script, done, "clean", tmp_path / "clean.safetensors", monkeypatch)
    assert found.keys() == control.keys()
    assert all(torch.equal(found[name], control[name]) for name in control)


def test_every_batch_is_attacked_by_what_rises(script: ModuleType, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, float]] = []
    attack = script.attack

    def watched(model: Any, batch: Mapping[str, Any], settings: AttackSettings, *, unit: str) -> torch.Tensor:
        found = attack(model, batch, settings, unit=unit)
        seen.append((settings.epsilon, float((found - batch["image"]).abs().max())))
        return found

    monkeypatch.setattr(script, "attack", watched)
    attacked = trained(script, done, "adversarial", tmp_path / "attacked.safetensors", monkeypatch)
    clean = trained(script, done, "clean", tmp_path / "clean.safetensors", monkeypatch)
    # Three batches of four of the 14 images an epoch; the spec's epsilon of 4 from the second of four epochs on.
    assert [epsilon for epsilon, _ in seen] == [2.0] * 3 + [4.0] * 9
    assert all(moved == epsilon for epsilon, moved in seen)
    assert any(not torch.equal(attacked[name], clean[name]) for name in clean)


@pytest.mark.parametrize(
    ("changes", "said"), [({"share": 0.5}, "leave hardening.loss and hardening.share out"), (None, "the spec has no section hardening")]
)
def test_what_it_does_not_do_is_refused(
    changes: dict[str, Any] | None,
    said: str,
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = classification(tmp_path, 2, 2)
    if changes is None:
        spec = yaml.safe_load(path.read_text())
        del spec["hardening"]
        path.write_text(yaml.safe_dump(spec))
    else:
        with_hardening(path, **changes)
    with pytest.raises(SystemExit) as ended:
        trained(script, path, "adversarial", tmp_path / "out.safetensors", monkeypatch)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
