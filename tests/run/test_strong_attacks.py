"""APGD and Square through a whole run of each task: verified, scored again, and made again bit for bit."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.attacks.attack_cases import classifier
from tests.conftest import CLASSIFIER, Said, draw_pictures, quiet, save_victim, tiny_spec
from tests.run.test_tasks import UNET, checked, chest, polyps, segmentation_spec

from medadv.common.errors import SpecError
from medadv.prepare.describe import describe
from medadv.prepare.losses import fitted
from medadv.prepare.request import Options
from medadv.run.run import run
from medadv.spec.attack import AttackSettings

pytestmark = pytest.mark.usefixtures("inline")

ATTACKS: dict[str, dict[str, Any]] = {
    "apgd": {"attack": "apgd", "epsilon": 8, "steps": 3},
    "square": {"attack": "square", "epsilon": 8, "steps": 6},
}


def with_attacks(path: Path, attacks: dict[str, dict[str, Any]]) -> Path:
    spec = yaml.safe_load(path.read_text())
    spec["attacks"] = attacks
    path.write_text(yaml.safe_dump(spec))
    return path


def spec_of(task: str, folder: Path, attacks: dict[str, dict[str, Any]]) -> Path:
    if task == "detection":
        return with_attacks(polyps(folder), attacks)
    if task == "segmentation":
        chest(folder / "data", (32, 32, 8), count=1)
        save_victim(folder / "victim.safetensors", "monai:unet", {"spatial_dims": 3, **UNET})
        return with_attacks(segmentation_spec(folder, 3), attacks)
    draw_pictures(folder / "data", 4)
    save_victim(folder / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    return with_attacks(tiny_spec(folder), attacks)


@pytest.mark.parametrize("task", ["classification", "segmentation", "detection"])
def test_each_task(task: str, tmp_path: Path) -> None:
    path = spec_of(task, tmp_path, ATTACKS)
    manifest = checked(run(path, Options(), quiet))
    assert [manifest.attacks[name].keep for name in ATTACKS] == ["best", "best"]
    told = describe(path, Options(), quiet)
    assert (told["forward_passes_per_sample"], told["backward_passes_per_sample"]) == (3 + 3 + 6 + 1, 3)


def test_what_two_classes_do_not_have_is_replaced_and_said_so(tmp_path: Path) -> None:
    """Nine wrong classes and a ratio of three logits, in an ensemble too; the spec may be run again."""
    asked = {"attack": "apgd", "epsilon": 8, "steps": 2, "loss": "dlr", "target_classes": 9}
    both = {"attack": "ensemble", "epsilon": 8, "members": [{**asked}, {"attack": "apgd", "steps": 2, "loss": "dlr"}]}
    said = Said()
    path = spec_of("classification", tmp_path, {"alone": asked, "both": both})
    result = run(path, Options(), said)
    assert [text for text in said if "is taken" in text] == [
        "attacks.alone.target_classes=9: 1 is taken, since of the victim's 2 classes one is right",
        "attacks.alone.loss=dlr: margin is taken, since the ratio needs a softmax over 4 classes",
        "attacks.both.target_classes=9: 1 is taken, since of the victim's 2 classes one is right",
        "attacks.both.loss=dlr: margin is taken, since the ratio needs a softmax over 4 classes",
        "attacks.both.loss=dlr: margin is taken, since the ratio needs a softmax over 3 classes",
    ]
    manifest = checked(result)
    for made in (manifest.attacks["alone"], *manifest.attacks["both"].each):
        assert (made.loss, made.restarts) == ("margin", 1)
    assert [made.target_classes for made in manifest.attacks["both"].each] == [1, 0]
    assert run(path, Options(), quiet).new_shards == 0
    told = describe(path, Options(), quiet)
    assert (told["forward_passes_per_sample"], told["backward_passes_per_sample"]) == (5 + (5 + 4 + 3), 2 + 4)


def test_labels_of_a_sigmoid_head_have_no_classes_to_choose_from() -> None:
    victim = classifier(classes=3, head="sigmoid")
    asked = {"a": AttackSettings.model_validate({"attack": "apgd", "epsilon": 8, "loss": "dlr", "target_classes": 2, "restarts": 5})}
    made, notes = fitted(asked, victim)
    assert (made["a"].loss, made["a"].target_classes, made["a"].restarts) == ("margin", 0, 5)
    assert notes == [
        "attacks.a.target_classes=2: 0 is taken, since labels that are answered one by one exclude none",
        "attacks.a.loss=dlr: margin is taken, since the ratio needs a softmax over 3 classes",
    ]
    assert fitted(asked, classifier(classes=4)) == (asked, [])


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        ("segmentation", {"target_classes": 2}, r"attacks\.a\.target_classes=2: only classifiers have classes"),
        ("segmentation", {"loss": "dlr"}, r"attacks\.a\.loss=dlr: masks have no ratio"),
        ("detection", {"loss": "margin"}, r"attacks\.a\.loss=margin: a detector has a loss of its own"),
    ],
)
def test_losses_that_the_victim_does_not_have(task: str, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = spec_of(task, tmp_path, {"a": {"attack": "apgd", "epsilon": 8, "steps": 2, **changes}})
    with pytest.raises(SpecError, match=message):
        run(path, Options(), quiet)
