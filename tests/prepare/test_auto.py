"""`auto` is resolved once, while the plan is made, and read ever after."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import CLASSIFIER, draw_pictures, quiet, save_victim, tiny_spec
from tests.products import Products

from medadv.batches import attacking, trial
from medadv.batches.judging import batch_of
from medadv.batches.loading import Loaded
from medadv.common.progress import Silent
from medadv.datasets.sample import Sample
from medadv.datasets.source import Source
from medadv.evidence.reproduce import reproduce
from medadv.plan.frozen import thaw
from medadv.plan.model import PlannedSample
from medadv.prepare import auto as resolve
from medadv.prepare.request import Options
from medadv.run.run import run
from medadv.spec.attack import AttackSettings
from medadv.victims.speed.profiles import Profile

pytestmark = pytest.mark.usefixtures("inline")


def spec_in(folder: Path, count: int = 6, **changes: Any) -> Path:
    draw_pictures(folder / "data", count)
    save_victim(folder / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    return tiny_spec(folder, **changes)


def test_the_choice_is_frozen_published_and_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, play: Callable[..., None]
) -> None:
    play("avx512_bf16")
    spec = spec_in(tmp_path, execution__precision="auto")
    manifest = run(spec, Options(), quiet).manifest
    assert manifest.execution.precision == "auto"
    chosen = Profile.of(manifest.execution.profile)
    verdicts = {record.profile: record.verdict for record in manifest.tuning}
    assert verdicts[chosen.name] == "chosen"
    assert len(verdicts) == 7
    plan = thaw(tmp_path / "corpus" / ".medadv" / "plans" / "0000")
    assert Profile.of(plan.settings.execution.profile) == chosen
    assert list(plan.tuning) == manifest.tuning

    def refused(*_: Any, **__: Any) -> Any:
        raise AssertionError("measured again")

    monkeypatch.setattr(resolve, "choose_profile", refused)
    draw_pictures(tmp_path / "data", 8)
    assert run(spec, Options(), quiet).manifest.samples == 8
    if manifest.determinism.level == "bitwise":
        assert reproduce(tmp_path / "corpus", None).equal


def test_a_half_precision_plan_is_made_and_reproduced_in_half_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half = Profile(channels_last=True, bf16=True)
    monkeypatch.setattr(resolve, "choose_profile", lambda *_: (half, []))
    made = run(spec_in(tmp_path, execution__precision="auto"), Options(), quiet).manifest
    (tmp_path / "fp32").mkdir()
    exact = run(spec_in(tmp_path / "fp32"), Options(), quiet).manifest
    assert made.execution.profile == half.facts()
    assert exact.execution.profile == Profile(channels_last=True).facts()
    assert exact.tuning == []
    roots = [[json.loads(path.read_text())["arrays"] for path in sorted(folder.glob("*.json"))] for folder in
             (tmp_path / "corpus" / "shards", tmp_path / "fp32" / "corpus" / "shards")]
    assert roots[0] != roots[1]  # half precision was really used
    assert reproduce(tmp_path / "corpus", None).equal


@pytest.mark.parametrize(("variables", "tried"), [(True, 3), (False, 7)])
def test_a_small_processor_tries_nothing_in_fewer_than_32_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, play: Callable[..., None], variables: bool, tried: int
) -> None:
    """A whole run on a large processor, which plays the small one or does not."""
    play("avx512_bf16", "avx512_vnni", "avx512_fp16", "amx_int8")
    if variables:
        monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    with Products() as products:
        manifest = run(spec_in(tmp_path, execution__precision="auto"), Options(), quiet).manifest
    assert len(manifest.tuning) == tried
    assert products.count["fp32"] > 1000
    assert (set(products.count) == {"fp32"}) == variables


def test_a_failing_and_a_weak_profile_are_dropped_with_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, play: Callable[..., None]
) -> None:
    """Folding breaks, and whatever is half precision is fast but attacks nothing."""
    play("avx512_bf16")
    step, strength = trial.Trial.step_seconds, trial.Trial.strength

    def timed(self: trial.Trial, victim: Any) -> float:
        half = any(p.dtype == torch.bfloat16 for p in victim.attacked.module.parameters())
        return step(self, victim) * (1e-3 if half else 1)

    def weak(self: trial.Trial, victim: Any) -> Any:
        half = any(p.dtype == torch.bfloat16 for p in victim.attacked.module.parameters())
        return [(s - 0.5 * half, score + 0.5 * half) for s, score in strength(self, victim)]

    def broken(*_: Any) -> int:
        raise RuntimeError("unsupported operation\nsecond line")

    monkeypatch.setattr(trial.Trial, "step_seconds", timed)
    monkeypatch.setattr(trial.Trial, "strength", weak)
    monkeypatch.setattr("medadv.victims.speed.profiles.fold_batch_norm", broken)
    told: list[str] = []

    class Told(Silent):
        def message(self, text: str) -> None:
            told.append(text)

    spec = spec_in(tmp_path, execution__precision="auto")
    manifest = run(spec, Options(), Told()).manifest
    assert not manifest.execution.profile.bf16
    assert not manifest.execution.profile.folded
    verdicts = {record.profile: record.verdict for record in manifest.tuning}
    assert verdicts["bf16"] == verdicts["channels_last+bf16"] == "weaker"
    assert verdicts["channels_last+folded"] == "failed: RuntimeError"
    assert any("channels_last+folded is left out: unsupported operation" in text for text in told)
    assert any("bf16 is left out: its attacks are weaker" in text for text in told)


@pytest.mark.parametrize(("memory", "expected"), [(64.0, 8), (1.0001, 1)])
def test_the_largest_batch_that_fits_is_frozen(tmp_path: Path, memory: float, expected: int) -> None:
    """A tiny network: everything fits 64 GiB, and next to nothing what the process itself leaves of 1.0001."""
    execution = {"batch_size": "auto", "shard_size": 8, "workers": 1, "memory_gib": memory}
    spec = spec_in(tmp_path, 9, execution=execution)
    manifest = run(spec, Options(), quiet).manifest
    assert manifest.execution.batch_size == expected
    receipt = json.loads((tmp_path / "corpus" / "shards" / "shard-00000.json").read_text())
    assert {len(batch) for batch in receipt["batches"]} == {expected}
    draw_pictures(tmp_path / "data", 10)
    assert run(spec, Options(), quiet).manifest.samples == 10


def test_trials_attack_only_the_region(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    judge: Any = SimpleNamespace(targets=lambda *_: None)
    monkeypatch.setattr(attacking, "perturb", lambda *_, region=None, **__: seen.append(region))
    inside = np.zeros((4, 4), bool)
    inside[1:3] = True
    for region in (inside, None):
        sample = Sample(np.zeros((3, 4, 4), np.uint8), "level8", "yx", None, None, None, region, {})
        loaded = Loaded(PlannedSample("a", "", "", Source((), None)), sample, np.int64(0), (0, 0))
        tried = trial.Trial(batch_of([loaded], judge, torch.device("cpu")), {}, 0)
        tried.attack(SimpleNamespace(attacked=judge), "pgd", AttackSettings(attack="pgd", epsilon=1, step=1))
    assert np.array_equal(seen[0].numpy(), inside[None, None])
    assert seen[1] is None
