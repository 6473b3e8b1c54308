"""The comparison: its columns hold what their names say, and the command writes them."""

import csv
import io
import json
import sys
from argparse import Namespace
from collections.abc import Hashable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from scipy import ndimage, stats
from skimage.metrics import structural_similarity
from tests.conftest import CLASSIFIER, draw_pictures, load_script, plainly, save_victim, tiny_spec
from torch import Tensor, nn
from typer.testing import CliRunner

from medadv.attacks.cost import passes
from medadv.batches.batch import Batch
from medadv.cli.app import app, main
from medadv.common.errors import SpecError
from medadv.compare.curves import curve
from medadv.compare.degrade import blur, degradations, jpeg, resample
from medadv.compare.scores import Scores, paired_difference
from medadv.compare.table import Bench, table
from medadv.compare.write import as_records, as_text
from medadv.datasets.labels import Boxes, Prediction
from medadv.scoring.success import SuccessRule
from medadv.spec.attack import AttackSettings
from medadv.victims.inputs.normalized import Normalized
from medadv.victims.tasks.classification import Classifier
from medadv.victims.tasks.segmentation import Segmenter
from medadv_transforms.normalize import Normalize, Window
from medadv_transforms.units import LATTICES


def area(truth: list[int], scores: list[float]) -> float:
    """Area under the ROC curve by its meaning: how often a positive scores above a negative."""
    pairs = list(zip(truth, scores, strict=True))
    positive, negative = [s for y, s in pairs if y], [s for y, s in pairs if not y]
    return float(stats.mannwhitneyu(positive, negative).statistic) / (len(positive) * len(negative))


def pictures(n: int = 4, side: int = 16, channels: int = 3) -> Tensor:
    return torch.randint(0, 256, (n, channels, side, side), generator=torch.Generator().manual_seed(0)).float()


def settings(attack: str, **changes: object) -> AttackSettings:
    return AttackSettings.model_validate({"attack": attack, "epsilon": 6, "step": 2, "steps": 3, **changes})


def classifier(seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 2))
    return Classifier(Normalized(Normalize([0.5] * 3, [0.1] * 3), network), "softmax", 2)


def bench(second: bool = True) -> Bench:
    images = pictures(6)
    labels = [np.asarray(i % 2) for i in range(6)]
    batches = [Batch(images[s], labels[s], [f"s{i}" for i in range(6)][s], LATTICES["level8"]) for s in (slice(0, 4), slice(4, 6))]
    return Bench(plainly(classifier()), classifier(1) if second else None, batches)


def test_degradations_are_what_they_say() -> None:
    x = pictures(2)
    expected = ndimage.gaussian_filter(x.numpy(), (0, 0, 0.8, 0.8), mode="mirror", radius=(0, 0, 1, 1))
    assert np.abs(blur(x).numpy() - expected).max() < 1e-3
    buffer = io.BytesIO()
    Image.fromarray(x[1].numpy().astype(np.uint8).transpose(1, 2, 0)).save(buffer, "JPEG", quality=75)
    assert np.array_equal(jpeg(x)[1].numpy().transpose(1, 2, 0), np.asarray(Image.open(buffer)))
    assert jpeg(x[:, :1]).shape == (2, 1, 16, 16)
    ramp = torch.arange(40.0).expand(1, 1, 40, 40)
    assert (resample(ramp, 0.95) - ramp)[..., 3:-3].abs().max() < 1e-3  # linear interpolation keeps a slope
    assert resample(torch.rand(1, 1, 10, 11, 12), 1.05).shape == (1, 1, 10, 11, 12)
    assert list(degradations(LATTICES["level8"])) == ["as_is", "blur", "jpeg75"]
    hu = degradations(LATTICES["hu"])
    assert list(hu) == ["as_is", "blur", "resampled_95", "resampled_105"]
    volume = torch.randint(-1024, 3072, (1, 1, 12, 12, 12), generator=torch.Generator().manual_seed(0)).float()
    for degrade in (*hu.values(), *degradations(LATTICES["level8"]).values()):
        low, high, data = (0, 255, x) if degrade not in hu.values() else (-1024, 3071, volume)
        changed = degrade(data)
        assert torch.equal(changed, changed.round())
        assert low <= changed.min() <= changed.max() <= high


@pytest.mark.parametrize(
    ("attack", "changes", "expected"),
    [
        ("pgd", {}, (3, 3)),
        ("mifgsm", {}, (3, 3)),
        ("smia", {}, (6, 6)),
        ("smia", {"weight": 0}, (3, 3)),
        ("smia", {"stop_gradient": True}, (6, 3)),
        ("smia-listing", {}, (5, 3)),
        ("fgsm", {"steps": 1}, (1, 1)),
        ("pgd", {"keep": "best"}, (4, 3)),
        ("pgd", {"restarts": 2}, (8, 6)),
        ("pgd", {"keep": "best", "step": 1.5}, (6, 3)),
        ("smia", {"keep": "best", "restarts": 2}, (14, 12)),
        ("pgd", {"target_classes": 1}, (4, 3)),
        ("apgd", {}, (6, 3)),
        ("apgd", {"keep": "last"}, (3, 3)),
        ("apgd", {"loss": "dlr", "target_classes": 1}, (7, 3)),
        ("apgd", {"restarts": 2, "weight": 0.5}, (18, 12)),
        ("apgd", {"stop_gradient": True, "weight": 0.5}, (9, 3)),
        ("square", {}, (4, 0)),
        ("square", {"restarts": 3}, (15, 0)),
        ("square", {"epsilon": 2.5}, (4, 0)),
        ("difgsm", {}, (3, 3)),
        ("difgsm", {"keep": "best"}, (7, 3)),
        ("smia", {"diversity": 1.0}, (6, 6)),
        ("nifgsm", {"keep": "best"}, (6, 3)),
        ("nifgsm", {"restarts": 2, "random_start": True}, (8, 6)),
    ],
)
def test_passes_are_those_that_the_victim_sees(attack: str, changes: dict[str, object], expected: tuple[int, int]) -> None:
    made, tested = settings(attack, **changes), bench(second=False)
    seen = [0, 0]

    def count(_: nn.Module, inputs: tuple[Tensor], outputs: Tensor) -> None:
        seen[0] += len(inputs[0])
        if outputs.requires_grad:
            outputs.register_hook(lambda g: seen.__setitem__(1, seen[1] + len(g)))

    tested.victim.attacked.module.register_forward_hook(count)
    tested.attack("a", made)
    assert passes(made) == expected == (seen[0] / 6, seen[1] / 6)


def test_table_of_a_classifier() -> None:
    tested = bench()
    made = {"pgd": settings("pgd"), "bim": settings("bim"), "smia": settings("smia")}
    rows = table(tested, made)
    assert [row.attack for row in rows] == ["clean", *made]
    clean, pgd, bim = rows[:3]
    assert list(pgd.metrics) == ["as_is", "blur", "jpeg75", "second_victim"]
    truth = [int(y) for y in tested.labels]
    images = torch.cat([b.images for b in tested.batches])
    delta = torch.cat(tested.attack("pgd", made["pgd"]))
    judge = tested.victim.scored
    for condition, shown in (("as_is", images + delta), ("jpeg75", jpeg(images + delta))):
        scores = [p.probabilities[1] for p in judge.predict(shown)]
        assert pgd.metrics[condition].value == pytest.approx(area(truth, scores))
    transferred = [p.probabilities[1] for p in tested.second.predict(images + delta)]
    assert pgd.metrics["second_victim"].value == pytest.approx(area(truth, transferred))
    assert pgd.metrics["as_is"].value < clean.metrics["as_is"].value
    assert clean.sizes == {}
    assert pgd.sizes["linf"].value == 6
    assert pgd.sizes["l2"].value == pytest.approx(float(delta.double().flatten(1).norm(dim=1).mean()))
    # PGD starts at random, BIM does not; both are held against two random starts.
    first, second = (torch.cat(tested.attack("bim", made["bim"].model_copy(update={"random_start": True}), k)).double() for k in (0, 1))
    cosine = nn.functional.cosine_similarity(first.flatten(1), second.flatten(1)).mean()
    assert bim.sizes["cosine"].value == pytest.approx(float(cosine))
    assert bim.sizes["variance"].value == pytest.approx(float(torch.stack([first, second]).var(0).mean()))
    assert bim.sizes["variance"].value > 0


def test_ssim_is_that_of_the_field() -> None:
    tested = bench(second=False)
    made = settings("pgd")
    row = tested.row("pgd", made)
    delta = torch.cat(tested.attack("pgd", made))
    images = torch.cat([b.images for b in tested.batches])
    options = {"data_range": 255, "channel_axis": 0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "win_size": 11}
    expected = [structural_similarity(a.numpy(), b.numpy(), **options) for a, b in zip(images, images + delta, strict=True)]
    assert row.sizes["ssim"].value == pytest.approx(np.mean(expected), abs=0.02)


def test_paired_difference_sees_what_separate_intervals_hide() -> None:
    victim = Segmenter(nn.Identity(), "softmax", 2, 1)
    generator = np.random.default_rng(0)
    labels = [np.ones(100, np.uint8)] * 40
    kept = generator.integers(20, 80, 40)
    better = [Prediction((np.arange(100) < k - 2).astype(np.uint8)) for k in kept]
    worse = [Prediction((np.arange(100) < k).astype(np.uint8)) for k in kept]
    a, b = Scores(victim, better, labels, range(40)), Scores(victim, worse, labels, range(40))
    difference, share = paired_difference(a, b)
    assert difference.high < 0
    assert share == 0
    assert a.interval().high > b.interval().low
    assert paired_difference(b, a)[1] == 1
    assert paired_difference(a, a, one_sided=False)[1] == 1


def dice_of_copies(kept: np.ndarray[Any, Any], copies: int, groups: Sequence[Hashable]) -> Scores:
    """Answers that keep so many of 100 voxels, each image several times."""
    answers = [Prediction((np.arange(100) < k).astype(np.uint8)) for k in np.repeat(kept, copies)]
    victim = Segmenter(nn.Identity(), "softmax", 2, 1)
    return Scores(victim, answers, [np.ones(100, np.uint8)] * len(answers), groups)


def test_intervals_are_over_groups() -> None:
    """Four slices that are the same of each patient say no more than one of each."""
    kept = np.random.default_rng(0).integers(20, 80, 30)
    once = dice_of_copies(kept, 1, range(30))
    fourfold, singly = dice_of_copies(kept, 4, np.repeat(range(30), 4).tolist()), dice_of_copies(kept, 4, range(120))
    wide, narrow = once.interval(), singly.interval()
    assert fourfold.interval() == pytest.approx(wide)
    assert narrow.high - narrow.low == pytest.approx((wide.high - wide.low) / 2, rel=0.15)  # four times as many to draw
    other = dice_of_copies(kept[::-1], 4, np.repeat(range(30), 4).tolist())
    apart = paired_difference(fourfold, other)
    assert apart[0] == pytest.approx(paired_difference(once, dice_of_copies(kept[::-1], 1, range(30)))[0])
    assert 0 < apart[1] < 1


def test_a_single_group_has_no_interval() -> None:
    kept = np.array([20, 40, 60])
    scores, other = dice_of_copies(kept, 1, "aaa"), dice_of_copies(kept + 5, 1, "aaa")
    difference, share = paired_difference(scores, other)
    assert difference.value < 0
    assert np.isnan([scores.interval().low, scores.interval().high, difference.low, difference.high, share]).all()
    images, labels = pictures(3), [np.asarray(i % 2) for i in range(3)]
    batch = Batch(images, labels, ["a", "b", "c"], LATTICES["level8"])
    row = Bench(plainly(classifier()), None, [batch], groups=dict.fromkeys("abc", "one patient")).row("pgd", settings("pgd"))
    (record,) = as_records([row])
    assert record["as_is"] == row.metrics["as_is"].value
    assert [record[f"{name}_{end}"] for name in ("as_is", "l2", "variance") for end in ("low", "high")] == [None] * 6
    json.dumps(record, allow_nan=False)


def test_scores_of_detection() -> None:
    class Stub:
        task = "detection"

        def success_rule(self) -> SuccessRule:
            return SuccessRule(metric="true boxes matched", condition="", score_threshold=0.5)

        def score(self, prediction: Prediction, label: Boxes) -> float:
            return 0.0

    truths = [Boxes.of([[0, 0, 10, 10]], [1]), Boxes.of([[5, 5, 30, 30]], [1])]
    answers = [Prediction(Boxes.of([[0, 0, 10, 10]], [1], [0.9])), Prediction(Boxes.of([[50, 50, 60, 60]], [1], [0.8]))]
    scores = Scores(Stub(), answers, truths, range(2))
    assert scores.name == "ap50"
    assert scores.value([0]) == pytest.approx(1)
    assert scores.value([1]) == 0
    assert scores.further(Stub()) == {"ap50": pytest.approx(51 / 101), "ap": pytest.approx(51 / 101), "missed": 0.5, "invented": 0.5}


def test_curves_start_at_the_clean_sample() -> None:
    tested = bench(second=False)
    found = curve(tested, "smia", settings("smia", random_start=False))
    assert len(found.deviation) == len(found.divergence) == len(found.flipped) == 4
    assert found.divergence[0] == pytest.approx(0, abs=1e-9)
    assert found.flipped[0] == 0
    assert found.deviation[-1] > found.deviation[0]
    assert found.divergence[-1] > 0


def attacks_script() -> ModuleType:
    return load_script("bench/attacks.py")


ASKED = {"task": "lung", "passes": 4, "seed": 0, "epsilon": 4.0, "second": None, "only": ["pgd"]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"passes": 6}, "passes 4, not 6"),
        ({"seed": 1}, "seed 0, not 1"),
        ({"epsilon": 8.0}, "epsilon 4.0, not 8.0"),
        ({"second": "second.json"}, "second None, not [0-9a-f]{64}"),
    ],
)
def test_a_table_of_variants_has_one_budget(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    """The script goes on where it stopped, and keeps no row of another budget under a header that it writes anew."""
    script, tested, out = attacks_script(), bench(second=False), tmp_path / "attacks-lung.json"
    (tmp_path / "second.safetensors").write_bytes(b"weights")
    changed = {**ASKED, **changes}
    changed["second"] = changed["second"] and tmp_path / changed["second"]
    script.choose(tested, Namespace(**ASKED), out)
    first = out.read_bytes()
    with pytest.raises(SpecError, match=said):
        script.choose(tested, Namespace(**changed), out)
    script.choose(tested, Namespace(**ASKED), out)
    assert out.read_bytes() == first
    # A file of before says nothing of a second victim: what it does not say stands against nothing.
    older = json.loads(first)
    del older["second"], older["rows"][1]
    out.write_text(json.dumps(older))
    script.choose(tested, Namespace(**ASKED), out)
    assert [row["attack"] for row in json.loads(out.read_text())["rows"]] == ["clean", "pgd"]


def test_volumes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    victim = Segmenter(Normalized(Window(-1000, 400), nn.Conv3d(1, 2, 3, padding=1)), "softmax", 2, 3)
    images = torch.randint(-1000, 400, (1, 1, 12, 12, 9), generator=torch.Generator().manual_seed(0)).float()
    labels = [(images[0, 0].numpy() > -300).astype(np.uint8)]
    rows = table(Bench(plainly(victim), None, [Batch(images, labels, ["a"], LATTICES["hu"])]), {"smia": settings("smia")})
    records = as_records(rows)
    assert {"as_is", "blur", "resampled_95", "resampled_105", "ssim", "variance"} <= records[1].keys()
    assert "smia" in as_text(rows)


@pytest.mark.parametrize(
    ("head", "classes", "said"),
    [
        ("sigmoid", 2, "second_victim.head=sigmoid: labels of a sigmoid head have another form"),
        ("softmax", 3, "second_victim: it answers 3 classes, and the attacked model 2: both are scored against the same labels"),
        ("softmax", 1, "second_victim: victim.head=softmax: the network answers one value an image"),
    ],
)
@pytest.mark.parametrize("verb", ["compare", "plan"])
def test_a_second_victim_of_other_labels_is_refused_before_any_attack(
    verb: str, head: str, classes: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    draw_pictures(tmp_path / "data", 8)
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    arguments = {**CLASSIFIER, "out_channels": classes}
    save_victim(tmp_path / "second.safetensors", "monai:densenet121", arguments)
    victim = yaml.safe_load(tiny_spec(tmp_path).read_text())["victim"]
    path = tiny_spec(tmp_path, second_victim={**victim, "arguments": arguments, "weights": "second.safetensors", "head": head})
    monkeypatch.setattr("medadv.compare.compare.table", lambda *_: pytest.fail("attacked"))
    monkeypatch.setattr(sys, "argv", ["medadv", verb, str(path)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert said in capfd.readouterr().err


def test_command(tmp_path: Path) -> None:
    draw_pictures(tmp_path / "data", 8)
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    save_victim(tmp_path / "second.safetensors", "monai:densenet121", CLASSIFIER, seed=1)
    path = tiny_spec(tmp_path, data__group="patient")
    spec = yaml.safe_load(path.read_text())
    spec["second_victim"] = {**spec["victim"], "weights": "second.safetensors"}
    path.write_text(yaml.safe_dump(spec))
    outcome = CliRunner().invoke(app, ["compare", str(path), "--out", str(tmp_path / "out"), "--limit", "6", "--json"])
    assert outcome.exit_code == 0, outcome.output
    (answer,) = json.loads(outcome.stdout)
    assert [line["attack"] for line in answer["attacks"]] == ["clean", "pgd-8", "smia-8"]
    lines = list(csv.DictReader((tmp_path / "out" / "tiny.csv").read_text().splitlines()))
    wanted = ["forwards", "backwards", "as_is", "blur", "jpeg75", "second_victim", "linf", "l2", "ssim", "cosine", "variance", "success"]
    assert all(lines[2][column] for column in wanted)
    assert all(lines[2][f"{column}_low"] for column in wanted[2:])
    stored = json.loads((tmp_path / "out" / "tiny.json").read_text())
    assert stored["samples"] == 6
    # Two pictures a patient: of eight pictures six are of three or four.
    assert 3 <= stored["groups"] <= 4
    assert len(stored["curves"][1]["divergence"]) == 4
    with Image.open(tmp_path / "out" / "tiny.png") as figure:
        assert figure.size[0] > 1000
    assert not (tmp_path / "corpus").exists()
    wrong = CliRunner().invoke(app, ["compare", str(path), "--set", "second_victim.network=monai:nothing"])
    assert wrong.exit_code != 0
