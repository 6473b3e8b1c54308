"""Several victims in one corpus: each attack is answered by its own, and what is moved by the mean of their losses by each."""

import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import yaml
from pydantic import ValidationError
from tests.conftest import CLASSIFIER, draw_pictures, quiet, save_victim, tiny_spec
from tests.run.test_tasks import UNET, checked, chest, segmentation_spec

import medadv
from medadv.common.errors import SpecError
from medadv.evaluate.sets import evaluation_of
from medadv.evidence.check_numbers import check_numbers
from medadv.evidence.reproduce import reproduce
from medadv.evidence.verify import verify
from medadv.prepare.request import Options
from medadv.prepare.understood import understood
from medadv.report.page import write_report
from medadv.run.run import run
from medadv.spec.attack import AttackSettings
from medadv.spec.reading import load_spec
from medadv.spec.run_spec import RunSpec
from medadv.store.reader import read_small
from medadv.victims.loading import VictimRequest
from medadv.victims.several import MeanOfLosses, against

pytestmark = pytest.mark.usefixtures("inline")

CPU = torch.device("cpu")
PGD = {"attack": "pgd", "epsilon": 8, "steps": 2}
ATTACKS: dict[str, Any] = {
    "pgd-one": {**PGD, "victim": "one"},
    "pgd-other": {**PGD, "victim": "other"},
    "both": {**PGD, "combine": "losses", "keep": "best"},
}
STORED = ["both.one", "both.other", "pgd-one", "pgd-other"]


def with_two(path: Path, network: str, arguments: dict[str, Any], attacks: dict[str, Any] = ATTACKS) -> Path:
    """The spec against two random victims in place of one. They stand in the file against the order of their names."""
    spec = yaml.safe_load(path.read_text())
    one = spec.pop("victim")
    for seed, name in enumerate(("one", "other"), 3):
        save_victim(path.parent / f"{name}.safetensors", network, arguments, seed=seed)
    spec["victims"] = {name: {**one, "weights": f"{name}.safetensors"} for name in ("other", "one")}
    spec["attacks"] = attacks
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return path


def pictures(folder: Path, attacks: dict[str, Any] = ATTACKS) -> Path:
    draw_pictures(folder / "data", 6)
    return with_two(tiny_spec(folder), "monai:densenet121", CLASSIFIER, attacks)


def alone(path: Path, name: str) -> Path:
    """The same spec against one of the victims, with the attack that names it."""
    spec = yaml.safe_load(path.read_text())
    folder = path.parent / f"alone-{name}"
    folder.mkdir()
    shutil.copytree(path.parent / "data", folder / "data")
    shutil.copy(path.parent / f"{name}.safetensors", folder)
    spec["victim"] = spec.pop("victims")[name]
    spec["attacks"] = {f"pgd-{name}": PGD}
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    return folder / "spec.yaml"


def test_each_attack_is_what_it_is_against_its_victim_alone(tmp_path: Path) -> None:
    path = pictures(tmp_path)
    result = run(path, Options(), quiet)
    manifest = checked(result)
    assert sorted(manifest.attacks) == STORED
    assert sorted(manifest.victims) == ["one", "other"]
    assert manifest.victim == manifest.victims["one"]
    assert len({facts.weights_sha256 for facts in manifest.victims.values()}) == 2
    for name in ("one", "other"):
        single = run(alone(path, name), Options(), quiet)
        with h5py.File(result.corpus / manifest.shards[0].path) as both, h5py.File(single.corpus / single.manifest.shards[0].path) as own:
            for key in ("perturbation", "prediction_clean", "prediction_adversarial", "score_adversarial", "success"):
                np.testing.assert_array_equal(both[f"attacks/pgd-{name}/{key}"][...], own[f"attacks/pgd-{name}/{key}"][...])
        assert manifest.metrics[f"pgd-{name}"] == single.manifest.metrics[f"pgd-{name}"]
    # The plan keeps keys sorted, and is read again as it was written.
    assert run(path, Options(), quiet).new_shards == 0


def test_one_perturbation_on_both_is_stored_with_the_answers_of_each(tmp_path: Path) -> None:
    path = pictures(tmp_path)
    result = run(path, Options(), quiet)
    spec = load_spec(path)
    shape = (3, *spec.preprocess.size)
    victim = VictimRequest.of(spec, tmp_path).load(CPU, shape)
    with h5py.File(result.corpus / result.manifest.shards[0].path) as file:
        moved = {name: file[f"attacks/{name}/perturbation"][...] for name in STORED}
        np.testing.assert_array_equal(moved["both.one"], moved["both.other"])
        assert (moved["both.one"] != moved["pgd-one"]).any()
        assert (moved["both.one"] != moved["pgd-other"]).any()
        images = torch.from_numpy(file["image"][...].astype(np.float32))
        for name in ("one", "other"):
            answers = victim.named[name].scored.predict(images + torch.from_numpy(moved[f"both.{name}"].astype(np.float32)))
            stored = file[f"attacks/both.{name}/prediction_adversarial"][...]
            assert [int(np.asarray(each.answer)) for each in answers] == stored.tolist()


def test_attacks_on_all_that_differ_are_not_one(tmp_path: Path) -> None:
    """Written out for each victim, with another bound for each, and beside an attack that is called as both begin."""
    attacks = {
        "both": {**PGD, "victim": "one"},
        "both.one": {**PGD, "combine": "losses", "victim": "one"},
        "both.other": {**PGD, "epsilon": 2, "combine": "losses", "victim": "other"},
    }
    manifest = checked(result := run(pictures(tmp_path, attacks), Options(), quiet))
    with h5py.File(result.corpus / manifest.shards[0].path) as file:
        largest = {name: int(np.abs(file[f"attacks/{name}/perturbation"][...]).max()) for name in attacks}
        assert largest == {"both": 8, "both.one": 8, "both.other": 2}
        assert (file["attacks/both/perturbation"][...] != file["attacks/both.one/perturbation"][...]).any()


def test_a_stranger_makes_every_sample_again_from_both_weights(tmp_path: Path) -> None:
    result = run(pictures(tmp_path), Options(), quiet)
    away = tmp_path / "away"
    shutil.copytree(result.corpus, away, ignore=shutil.ignore_patterns(".medadv"))
    weights = [tmp_path / "other.safetensors", tmp_path / "one.safetensors"]
    again = reproduce(away, None, weights=weights)
    assert again.equal
    assert len(again.results) == result.manifest.samples * len(STORED)
    with pytest.raises(SpecError, match="weights of the victim are missing"):
        reproduce(away, None, weights=weights[:1])


def test_masks_and_the_report(tmp_path: Path) -> None:
    chest(tmp_path / "data", (32, 32, 4))
    attacks = {name: {**attack, "epsilon": 60} for name, attack in ATTACKS.items()}
    result = run(with_two(segmentation_spec(tmp_path, 2), "monai:unet", {"spatial_dims": 2, **UNET}, attacks), Options(), quiet)
    checked(result)
    page = write_report(result.corpus).read_text()
    for text in ("Model one", "Model other", "against other", "against the mean of the losses of all, answers of one"):
        assert text in page


def test_another_victims_figures_are_found(tmp_path: Path) -> None:
    """Metrics that were swapped between the victims are none that follow from the shards."""
    result = run(pictures(tmp_path), Options(), quiet)
    manifest, metrics = result.manifest, dict(result.manifest.metrics)
    assert metrics["both.one"] != metrics["both.other"]
    metrics["both.one"], metrics["both.other"] = metrics["both.other"], metrics["both.one"]
    small = [read_small(result.corpus / shard.path) for shard in manifest.shards]
    assert list(check_numbers(result.corpus, manifest, small)) == []
    assert list(check_numbers(result.corpus, manifest.model_copy(update={"metrics": metrics}), small))
    assert verify(result.corpus) == []


def test_training_draws_among_the_victims(tmp_path: Path) -> None:
    corpus = run(pictures(tmp_path), Options(), quiet).corpus
    dataset = medadv.CorpusDataset(corpus)
    # Of each victim its own: what attacks both is one perturbation, though its two names come first.
    assert dataset.attacks == ["pgd-one", "pgd-other"]
    drawn = set()
    for epoch in range(8):
        dataset.set_epoch(epoch)
        drawn |= {dataset[index]["attack"] for index in range(len(dataset))}
    assert drawn == {"pgd-one", "pgd-other"}
    medadv.CorpusDataset(corpus, weights=tmp_path / "other.safetensors")


@pytest.mark.parametrize(("left_out", "read"), [("pgd-other", ["both.other", "pgd-one"]), ("pgd-", ["both.one"])])
def test_training_reads_the_joint_attack_once_for_victims_without_one_of_their_own(left_out: str, read: list[str], tmp_path: Path) -> None:
    attacks = {name: settings for name, settings in ATTACKS.items() if not name.startswith(left_out)}
    corpus = run(pictures(tmp_path, attacks), Options(), quiet).corpus
    assert medadv.CorpusDataset(corpus).attacks == read


def test_the_mean_of_losses_has_the_mean_gradient(tmp_path: Path) -> None:
    path = pictures(tmp_path)
    spec = load_spec(path)
    shape = (3, *spec.preprocess.size)
    victim = VictimRequest.of(spec, tmp_path).load(CPU, shape)
    joint = against(victim, spec.attacks["both.other"])
    assert isinstance(joint.attacked, MeanOfLosses)
    assert joint.scored is victim.named["other"].scored
    settings = AttackSettings.model_validate(PGD)
    images = torch.rand(2, *shape) * 255
    labels = [np.asarray(0), np.asarray(1)]

    def gradient(aim: Any) -> torch.Tensor:
        x = images.clone().requires_grad_()
        loss = aim.deviation(aim.forward(x), aim.targets(labels, CPU), settings)
        assert loss.shape == (2,)
        return torch.autograd.grad(loss.sum(), x)[0]

    each = [gradient(own.attacked) for own in victim.named.values()]
    torch.testing.assert_close(gradient(joint.attacked), (each[0] + each[1]) / 2)


WRONG = [
    ({"attacks": {"pgd": PGD}}, "says not which victim it attacks: give victim"),
    ({"attacks": {"pgd": {**PGD, "victim": "third"}}}, "victim=third is none of them"),
    ({"attacks": {"both.one": {**PGD, "victim": "one"}, "both": {**PGD, "combine": "losses"}}}, "take another name"),
    ({"attacks": {"all": {**PGD, "attack": "ensemble", "members": [{"attack": "pgd"}], "combine": "losses"}}}, "worst for one victim"),
    ({"victim": {"network": "monai:unet", "normalize": {"mean": [0.5], "std": [0.5]}}}, "two ways to say what is attacked"),
    ({"data": {"label": "none"}}, "none says what the truth is"),
]


@pytest.mark.parametrize(("change", "why"), WRONG)
def test_what_cannot_be_meant_is_refused(change: dict[str, Any], why: str, tmp_path: Path) -> None:
    spec = yaml.safe_load(pictures(tmp_path).read_text())
    changed = {**spec, **{key: {**spec[key], **value} if key == "data" else value for key, value in change.items()}}
    with pytest.raises(ValidationError, match=why):
        RunSpec.model_validate(changed)


def test_verbs_of_one_model_say_so(tmp_path: Path) -> None:
    path = pictures(tmp_path)
    with pytest.raises(SpecError, match="`medadv evaluate` asks one model"):
        evaluation_of(load_spec(path))
    told = understood(path)
    assert {key.partition(": ")[0] for key in told.facts} == {"victims.one", "victims.other"}


def test_one_victim_knows_no_choice(tmp_path: Path) -> None:
    draw_pictures(tmp_path / "data", 2)
    spec = yaml.safe_load(tiny_spec(tmp_path).read_text())
    with pytest.raises(ValidationError, match="choose among several victims, and there is one"):
        RunSpec.model_validate({**spec, "attacks": {"pgd": {**PGD, "victim": "one"}}})
    with pytest.raises(ValidationError, match="victims names one model"):
        RunSpec.model_validate({**spec, "victims": {"one": spec.pop("victim")}, "attacks": {"pgd": {**PGD, "victim": "one"}}})
