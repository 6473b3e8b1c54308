"""Of an ensemble the worst answer of each sample is stored, who made it, and where it started."""

from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
import pytest
import torch
import yaml
from tests.attacks.attack_cases import classifier, images
from tests.conftest import CLASSIFIER, draw_pictures, quiet, save_victim, tiny_spec
from tests.run.test_tasks import UNET, checked, chest, segmentation_spec
from torch import Tensor

from medadv.attacks.cost import passes
from medadv.batches.attacking import attacked_batch
from medadv.batches.batch import Batch
from medadv.batches.ensemble import NOBODY, START, UNTRIED, worst_of
from medadv.common.errors import SpecError
from medadv.common.hashing import seed_of
from medadv.datasets.labels import Boxes, Prediction
from medadv.evidence.verify import verify
from medadv.prepare.request import Options
from medadv.run.run import run
from medadv.scoring.boxes import false_confidence, false_margin, image_score
from medadv.scoring.metrics import corpus_metrics
from medadv.spec.attack import AttackSettings, in_order
from medadv.victims.victim import Identity, Victim
from medadv_transforms.units import LATTICES

pytestmark = pytest.mark.usefixtures("inline")

SEEDS = list(range(11, 19))
WEAK, STRONG = {"attack": "fgsm", "step": 1}, {"attack": "pgd", "steps": 8, "step": 2}


def ensemble(epsilon: float, *members: dict[str, Any], **changes: Any) -> AttackSettings:
    return AttackSettings.model_validate({"attack": "ensemble", "epsilon": epsilon, "members": list(members), **changes})


def case(count: int = 8) -> tuple[Victim, Batch]:
    model = classifier()
    with torch.no_grad():
        # Truths that the model gives for most, so that there is something to break.
        truths = model.forward(images(count, 3, 16, 16)).argmax(1)
    truths[-1] = (truths[-1] + 1) % 4
    batch = Batch(images(count, 3, 16, 16), [np.asarray(int(t)) for t in truths], [f"{i:064x}" for i in range(count)], LATTICES["level8"])
    return Victim(model, model, Identity("", None, 0)), batch


def wrong(victim: Victim, batch: Batch, delta: Tensor) -> np.ndarray[Any, Any]:
    answers = victim.scored.predict(batch.images + delta)
    return np.array([int(np.asarray(a.answer)) != int(np.asarray(y)) for a, y in zip(answers, batch.labels, strict=True)])


ANSWERS = {0: [0.9, 0.1], 1: [0.9, 0.95], 2: [0.0, 0.3], 3: [0.0, 0.7]}
"""By the largest change, scores of the true box and of a false one: at 2 and 3 the true one is lost, and the false one louder at 3."""


class Seer:
    """A detector that answers so."""

    task = "detection"

    def predict(self, images: Tensor) -> list[Prediction]:
        return [Prediction(Boxes.of([[0, 0, 4, 4], [8, 8, 12, 12]], [1, 1], ANSWERS[int(image.max())])) for image in images]

    def score(self, answer: Prediction, label: Any) -> float:
        assert isinstance(answer.answer, Boxes)
        return 0.0 if answer.answer.scores is not None and answer.answer.scores[0] == 0 else image_score(answer.answer, label)

    def vulnerable(self, answer: Prediction, label: Any) -> bool:
        return True


def test_of_boxes_that_are_as_wrong_the_more_confident_are_kept() -> None:
    batch = Batch(torch.zeros(1, 1, 16, 16), [Boxes.of([[0, 0, 4, 4]], [1])], ["a" * 64], LATTICES["level8"])
    seen = []

    def attack(chosen: Batch, member: AttackSettings, seeds: Any, start: Tensor | None) -> Tensor:
        seen.append(tuple(seeds))
        # Scores 0.5, 0, 0 and 0: the last three tell each other apart by the false box alone.
        return torch.full_like(chosen.images, [1, 2, 3, 2][(len(seen) - 1) % 4]).to(torch.int16)

    for ties, kept in (("confident", (2, 3)), ("margin", (2, 3)), ("first", (1, 2))):
        settings = ensemble(4, *[STRONG] * 4, ties=ties)
        found = worst_of(Seer(), batch, settings, [1], None, attack)  # type: ignore[arg-type]
        assert (int(found.made_by[0]), int(found.delta.max())) == kept
    # Equal members start differently.
    assert len(set(seen)) == 4
    # What was done before there was such a setting stands in no plan.
    assert "ties" not in ensemble(4, WEAK).model_dump()
    with pytest.raises(ValueError, match="ties=confident: only an ensemble"):
        AttackSettings.model_validate({**STRONG, "epsilon": 4, "ties": "confident"})


def test_many_faint_boxes_cost_less_than_a_sure_one() -> None:
    truth = Boxes.of([[0, 0, 4, 4]], [1])
    places = [[0, 0, 4, 4], *([8, 8 + 4 * at, 12, 12 + 4 * at] for at in range(20))]

    def answer(true: float, false: list[float]) -> Boxes:
        return Boxes.of(places[: 1 + len(false)], [1] * (1 + len(false)), [true, *false])

    faint, sure = answer(0.4, [0.1] * 20), answer(0.4, [0.7])
    assert false_confidence(faint, truth) > false_confidence(sure, truth)
    assert [round(false_margin(each, truth), 6) for each in (faint, sure)] == [-0.3, 0.3]
    assert false_margin(answer(0.2, [0.7]), truth) > false_margin(sure, truth)
    assert false_margin(Boxes.of(np.empty((0, 4)), [], []), truth) == 0
    # Over both images: the sure one stands before both true boxes, the faint ones behind them.
    other = answer(0.6, [])
    precision = [corpus_metrics("detection", [(truth, each, 0.0), (truth, other, 1.0)])["ap50"] for each in (faint, sure)]
    assert precision[0] == pytest.approx(1)
    assert precision[1] < 0.7


def test_of_equal_members_only_the_first_begins_where_the_ensemble_does() -> None:
    victim, batch = case()
    start = torch.ones_like(batch.images).to(torch.int16)
    begun: list[Tensor | None] = []

    def attack(chosen: Batch, member: AttackSettings, seeds: Any, begin: Tensor | None) -> Tensor:
        begun.append(begin)
        return torch.zeros_like(chosen.images).to(torch.int16)

    apgd = {"attack": "apgd", "steps": 4}
    for starts, shared in (("shared", [True, True, True]), ("own", [True, False, True])):
        begun.clear()
        worst_of(victim.scored, batch, ensemble(4, apgd, apgd, STRONG, starts=starts), SEEDS, start, attack)
        assert [begin is not None for begin in begun] == shared
    # APGD draws nothing once it has begun: without starts of their own both would be one attack, paid for twice.
    ends = [
        attacked_batch(victim, batch, ensemble(4, apgd, apgd, starts=starts), SEEDS, start=start).worst for starts in ("shared", "own")
    ]
    both = [end.member_score[end.member_score[:, 1] != UNTRIED] for end in ends if end is not None]
    assert [bool((scores[:, 0] == scores[:, 1]).all()) for scores in both] == [True, False]
    assert "starts" not in ensemble(4, WEAK).model_dump()
    with pytest.raises(ValueError, match="starts=own: only an ensemble"):
        AttackSettings.model_validate({**STRONG, "epsilon": 4, "starts": "own"})


@pytest.mark.parametrize("unit", ["level8", "hu"])
def test_a_start_from_a_larger_ball_is_brought_inside(unit: str) -> None:
    victim, batch = case()
    # The victim takes any numbers; beyond 127 a perturbation of 60 HU is stored in a type that would wrap.
    batch = Batch(batch.images, batch.labels, batch.ids, LATTICES[unit])
    start = torch.where(torch.arange(16) % 2 == 0, 300, -200).to(torch.int16).expand(batch.images.shape)
    for settings in (ensemble(60, WEAK), AttackSettings.model_validate({**STRONG, "epsilon": 2.5, "keep": "best"})):
        delta = attacked_batch(victim, batch, settings, SEEDS, start=start).delta
        assert int(delta.abs().max()) <= int(settings.epsilon)
    kept = attacked_batch(victim, batch, ensemble(60, {"attack": "fgsm", "step": 1}), SEEDS, start=start).worst
    assert kept is not None
    moved = batch.images + kept.delta
    assert bool(((moved >= LATTICES[unit].low) & (moved <= LATTICES[unit].high)).all())


class Labels:
    """A classifier of three labels: what it answers to a change of 1 and of 2."""

    task = "classification"
    probabilities: ClassVar[dict[int, list[float]]] = {0: [0.9, 0.9, 0.9], 1: [0.45, 0.45, 0.9], 2: [0.01, 0.6, 0.6]}

    def predict(self, images: Tensor) -> list[Prediction]:
        found = [np.array(self.probabilities[int(image.max())]) for image in images]
        return [Prediction((each >= 0.5).astype(np.uint8), each) for each in found]

    def score(self, answer: Prediction, label: Any) -> float:
        assert answer.probabilities is not None
        return float(answer.probabilities.mean())

    def vulnerable(self, answer: Prediction, label: Any) -> bool:
        return bool((answer.answer == label).any())


def test_of_several_labels_the_answer_with_the_fewest_right_is_the_worst() -> None:
    batch = Batch(torch.zeros(1, 1, 16, 16), [np.ones(3, np.uint8)], ["a" * 64], LATTICES["level8"])
    made = iter([1, 2, 1, 2])

    def attack(chosen: Batch, member: AttackSettings, seeds: Any, begin: Tensor | None) -> Tensor:
        return torch.full_like(chosen.images, next(made)).to(torch.int16)

    # By mean probability the second is worse (0.40 for 0.60), with two of three labels right where the first has one.
    for rank, kept in (("score", 1), ("labels", 0)):
        found = worst_of(Labels(), batch, ensemble(4, WEAK, STRONG, rank=rank), [1], None, attack)  # type: ignore[arg-type]
        assert int(found.made_by[0]) == kept


def test_a_broken_sample_is_left_to_who_broke_it_and_a_wrong_one_to_nobody() -> None:
    victim, batch = case()
    settings = ensemble(4, WEAK, STRONG)
    found = attacked_batch(victim, batch, settings, SEEDS[:8]).worst
    assert found is not None
    clean = wrong(victim, batch, torch.zeros_like(found.delta))
    assert clean.tolist() == [False] * 7 + [True]
    first = attacked_batch(victim, batch.chosen(range(7)), settings.each[0], [seed_of("member", s, 0) for s in SEEDS[:7]]).delta
    by_first = wrong(victim, batch.chosen(range(7)), first)
    assert 0 < by_first.sum() < 7
    assert found.made_by[:7][by_first].tolist() == [0] * int(by_first.sum())
    assert torch.equal(found.delta[:7][torch.from_numpy(by_first)], first[torch.from_numpy(by_first)])
    left = np.flatnonzero(~by_first).tolist()
    # The others go on without them, in a smaller batch.
    second = attacked_batch(victim, batch.chosen(left), settings.each[1], [seed_of("member", SEEDS[row], 1) for row in left]).delta
    broken = wrong(victim, batch.chosen(left), second)
    assert broken.any()
    for place, row in enumerate(left):
        if broken[place]:
            assert found.made_by[row] == 1
            assert torch.equal(found.delta[row], second[place])
    assert found.made_by[7] == NOBODY
    assert (found.member_score[7] == UNTRIED).all()
    assert (found.member_score[:7, 0] != UNTRIED).all()
    np.testing.assert_array_equal(found.member_score[:7, 1] == UNTRIED, by_first)
    assert not found.delta[7].any()


def test_a_start_that_is_broken_already_is_kept_and_nothing_else_is_tried() -> None:
    victim, batch = case()
    start = attacked_batch(victim, batch, AttackSettings.model_validate({"epsilon": 4, **STRONG}), SEEDS[:8]).delta
    broken = wrong(victim, batch, start)
    found = attacked_batch(victim, batch, ensemble(6, WEAK, start="other"), SEEDS[:8], start=start).worst
    assert found is not None
    assert broken[:7].sum() >= 3
    for row in np.flatnonzero(broken[:7]):
        assert found.made_by[row] == START
        assert torch.equal(found.delta[row], start[row])
    assert wrong(victim, batch, found.delta)[broken].all()


def test_members_are_counted_with_the_looks_at_their_ends() -> None:
    settings = ensemble(4, WEAK, STRONG)
    assert passes(settings) == (1 + 8 + 3, 1 + 8)


@pytest.mark.parametrize(
    ("attacks", "said"),
    [
        ({"a": {"attack": "ensemble", "epsilon": 2}}, "give both or neither"),
        ({"a": {"attack": "pgd", "epsilon": 2, "members": [WEAK]}}, "give both or neither"),
        ({"a": {"attack": "ensemble", "epsilon": 2, "members": [{**WEAK, "epsilon": 3}]}}, "is not the ensemble's 2"),
        ({"a": {"attack": "pgd", "epsilon": 2, "start": "b"}}, "is none of a"),
        ({"a": {"attack": "pgd", "epsilon": 2, "start": "b"}, "b": {"attack": "pgd", "epsilon": 2, "start": "a"}}, "leads back to itself"),
    ],
)
def test_what_cannot_be_meant_is_said(attacks: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = tiny_spec(tmp_path)
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "attacks": attacks}))
    with pytest.raises(SpecError, match=said):
        run(path, Options(), quiet)


def test_attacks_are_made_behind_those_they_start_from() -> None:
    pgd = {"attack": "pgd", "epsilon": 2}
    attacks = {"a": {**pgd, "start": "c"}, "b": pgd, "c": {**pgd, "start": "b"}}
    assert in_order({name: AttackSettings.model_validate(each) for name, each in attacks.items()}) == ["b", "c", "a"]


def pictures(folder: Path, attacks: dict[str, Any]) -> Path:
    """A spec of ten pictures whose truth is the victim's own answer, so that there is something to break."""
    draw_pictures(folder / "data", 10)
    save_victim(folder / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    return tiny_spec(folder, data__label="none", attacks=attacks)


def test_a_corpus_of_ensembles_that_start_from_one_another(tmp_path: Path) -> None:
    """Classes: what is broken in the smaller ball is the same in the larger one. Names are not in the order of the alphabet."""
    attacks = {
        "z-2": {"attack": "ensemble", "epsilon": 2, "members": [WEAK, STRONG]},
        "a-8": {"attack": "ensemble", "epsilon": 8, "members": [WEAK, STRONG], "start": "z-2"},
    }
    result = run(pictures(tmp_path, attacks), Options(), quiet)
    manifest = checked(result)
    made: list[tuple[int, int]] = []
    for entry in manifest.shards:
        with h5py.File(result.corpus / entry.path) as file:
            small, large = file["attacks/z-2"], file["attacks/a-8"]
            truth = file["label"][...]
            broken = small["prediction_adversarial"][...] != truth
            assert (large["prediction_adversarial"][...] != truth)[broken].all()
            kept = large["made_by"][...] == START
            np.testing.assert_array_equal(large["perturbation"][...][kept], small["perturbation"][...][kept])
            made += list(zip(small["made_by"][...].tolist(), large["made_by"][...].tolist(), strict=True))
    assert len({large for _, large in made}) > 1


def test_masks_keep_the_lowest_dice_of_all_members(tmp_path: Path) -> None:
    chest(tmp_path / "data", (32, 32, 4), count=1)
    save_victim(tmp_path / "victim.safetensors", "monai:unet", {"spatial_dims": 2, **UNET})
    path = segmentation_spec(tmp_path, 2)
    spec = yaml.safe_load(path.read_text())
    members = [{"attack": "pgd", "steps": 2}, {"attack": "bim", "steps": 3}]
    spec["attacks"] = {"worst": {"attack": "ensemble", "epsilon": 60, "members": members}}
    path.write_text(yaml.safe_dump(spec))
    result = run(path, Options(), quiet)
    manifest = checked(result)
    for entry in manifest.shards:
        with h5py.File(result.corpus / entry.path) as file:
            group = file["attacks/worst"]
            assert set(group["made_by"][...]) <= {0, 1, NOBODY}
            tried = np.column_stack([group["score_clean"][...], group["member_score"][...]])
            np.testing.assert_array_equal(group["score_adversarial"][...], tried.min(1))
            kept = group["made_by"][...]
            np.testing.assert_array_equal(np.where(kept == NOBODY, 0, kept.astype(int) + 1), tried.argmin(1))


def test_the_sanity_checks_of_an_ensemble_climb_with_its_first_member(tmp_path: Path) -> None:
    """What that member does by itself is not stored, so that nothing stored contradicts it."""
    attacks = {"worst": {"attack": "ensemble", "epsilon": 8, "members": [STRONG, WEAK]}}
    result = run(pictures(tmp_path, attacks), Options(), quiet)
    sanity = result.manifest.sanity
    assert sanity is not None
    assert (sanity.attack, sanity.noise is not None and sanity.noise.white_box > 0) == ("worst: pgd", True)
    assert sanity.worst_case is not None
    assert sanity.worst_case.attacks == ["worst"]
    assert verify(result.corpus) == []


def test_who_made_it_is_part_of_what_is_verified(tmp_path: Path) -> None:
    attacks = {"worst": {"attack": "ensemble", "epsilon": 4, "members": [WEAK, STRONG]}}
    result = run(pictures(tmp_path, attacks), Options(), quiet)
    with h5py.File(result.corpus / result.manifest.shards[0].path, "r+") as file:
        file["attacks/worst/made_by"][0] = 7
    assert any("made_by" in str(finding) for finding in verify(result.corpus))
