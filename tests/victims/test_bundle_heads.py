"""Whether a bundle's outputs exclude one another is told by its postprocessing, by their number or names, or by the spec."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tests.victims import small_bundles as small

from medadv.common.errors import SpecError
from medadv.victims.importers.bundle import import_bundle
from medadv.victims.importers.imported import Imported
from medadv.victims.importers.resolve import read_spec
from medadv.victims.tasks.segmentation import Segmenter

pytestmark = pytest.mark.filterwarnings("ignore")

HEADS: dict[str, tuple[list[small.Config], int, small.Config]] = {
    "softmax": (small.ARGMAX, 2, {"head": "softmax"}),
    "regions": ([{"_target_": "Activationsd", "keys": "pred", "sigmoid": True}], 3, {"head": "sigmoid"}),
    "one value": ([{"_target_": "Activationsd", "keys": "pred", "sigmoid": True}], 1, {"head": "binary"}),
    "probabilities": ([{"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5}], 1, {"head": "binary", "activation": "sigmoid"}),
}


@pytest.mark.parametrize("name", HEADS)
def test_postprocessing_tells_the_head(name: str, tmp_path: Path) -> None:
    after, classes, expected = HEADS[name]
    config = {**small.spleen(), "network_def": small.unet(3, 1, classes), "postprocessing": small.compose(*after)}
    victim = import_bundle(small.write_bundle(tmp_path, config), False).victim
    assert {key: victim[key] for key in ("head", "activation") if key in victim} == expected


def on_answer(name: str, **arguments: Any) -> small.Config:
    return {"_target_": name, "keys": "pred", **arguments}


THRESHOLD = on_answer("AsDiscreted", threshold=0.5)
OF_LABELS = {"_target_": "AsDiscreted", "keys": "label", "argmax": True}
BY_KEY = {"keys": ["label", "pred"], "softmax": [True, False], "sigmoid": [False, True]}
TOLD: dict[str, tuple[list[small.Config], small.Config]] = {
    "labels": ([OF_LABELS, THRESHOLD], {"head": "sigmoid", "activation": "sigmoid"}),
    "an argument a key": ([{"_target_": "Activationsd", **BY_KEY}], {"head": "sigmoid"}),
    "back to the file": ([on_answer("EnsureTyped"), on_answer("Invertd", transform="$lambda x: x"), THRESHOLD], {"head": "sigmoid"}),
    "afterwards": ([on_answer("Activationsd", softmax=True, other=None), on_answer("Lambdad", func="$lambda x: x")], {"head": "softmax"}),
}


@pytest.mark.parametrize("name", TOLD)
def test_what_is_done_to_the_answer_tells_the_head(name: str, tmp_path: Path) -> None:
    after, expected = TOLD[name]
    config = {**small.spleen(), "network_def": small.unet(3, 1, 3), "postprocessing": small.compose(*after)}
    victim = import_bundle(small.write_bundle(tmp_path, config), False).victim
    assert {key: victim[key] for key in expected} == expected


UNTOLD: dict[str, tuple[Any, str]] = {
    "nothing": (None, "no postprocessing says softmax or sigmoid"),
    "own function": (small.compose(on_answer("Activationsd", other="$torch.sigmoid")), "Activationsd with other=torch.sigmoid"),
    "own function, then classes": (
        small.compose(on_answer("Activationsd", other="$lambda x: -x"), on_answer("AsDiscreted", argmax=True)),
        "Activationsd with other=what cannot be read (holds a function of its own)",
    ),
    "own function by key": (small.compose(on_answer("Activationsd", other=["$torch.sigmoid"])), "with other=torch.sigmoid"),
    "own code": (small.compose(on_answer("scripts.post.Activationsd", softmax=True)), "(postprocessing::transforms::0 is scripts.post.Act"),
    "all unreadable": ("$[each for each in @after]", "that can be read (postprocessing: holds a list that is computed)"),
    "one unreadable": (small.compose("$sigmoid('pred')"), "that can be read (postprocessing::transforms::0: uses sigmoid)"),
    "before a threshold": (
        small.compose(on_answer("Lambdad", func="$torch.sigmoid"), THRESHOLD),
        "what answers are before postprocessing compares them with a threshold is not known (postprocessing::transforms::0 is Lambdad)",
    ),
    "both": (small.compose(on_answer("Activationsd", sigmoid=True), on_answer("Activationsd", softmax=True)), "both sigmoid and softmax"),
    "labels alone": (small.compose(OF_LABELS), "postprocessing says neither softmax nor sigmoid, and"),
}


def untold(after: Any, classes: int, folder: Path, names: list[str] | None = None) -> Path:
    """A bundle of so many outputs; its metadata names fewer where no names are given."""
    config: small.Config = {**small.spleen(), "network_def": small.unet(3, 1, classes), "postprocessing": after}
    if after is None:
        del config["postprocessing"]
    return small.write_bundle(folder, config, small.metadata(small.CT, "segmentation", names or ["organ", "tumour"]))


@pytest.mark.parametrize("name", UNTOLD)
def test_a_head_that_nothing_tells_is_asked_for(name: str, tmp_path: Path) -> None:
    """Answers of several classes at once would be attacked as if one excluded the others."""
    after, said = UNTOLD[name]
    bundle = untold(after, 3, tmp_path)
    for trust in (False, True):
        with pytest.raises(SpecError) as caught:
            import_bundle(bundle, trust)
        assert said in str(caught.value)
        assert "write victim.head in the spec (softmax or sigmoid)" in str(caught.value)
    found = import_bundle(bundle, False, None, "sigmoid")
    assert found.victim["head"] == "sigmoid"
    assert any(said.partition(", and")[0] in note and "victim.head is taken, sigmoid" in note for note in found.notes)


@pytest.mark.parametrize("argument", ["sigmoid", "softmax"])
def test_an_activation_that_cannot_be_read_may_be_on(argument: str, tmp_path: Path) -> None:
    bundle = untold(small.compose(on_answer("Activationsd", **{argument: "$[each for each in [True]]"})), 3, tmp_path)
    with pytest.raises(SpecError, match=rf"postprocessing::transforms::0::{argument}: holds a list that is computed"):
        import_bundle(bundle, False)
    assert import_bundle(bundle, True).victim["head"] == argument


@pytest.mark.parametrize(
    "after", [None, small.compose("$sigmoid('pred')"), small.compose(on_answer("Activationsd", other="$torch.sigmoid"))]
)
def test_number_and_names_of_outputs_tell_the_head_where_they_can(after: Any, tmp_path: Path) -> None:
    one = import_bundle(untold(after, 1, tmp_path / "one"), False)
    several = import_bundle(untold(after, 3, tmp_path / "several", ["background", "organ", "tumour"]), False)
    assert [found.victim["head"] for found in (one, several)] == ["binary", "softmax"]
    assert any("is taken for the logit of a sigmoid" in note for note in one.notes)
    assert any("names background among the outputs" in note for note in several.notes)
    assert several.data["label_map"] == {"organ": [1], "tumour": [2]}


def test_names_do_not_outvote_a_threshold(tmp_path: Path) -> None:
    after = small.compose(on_answer("Lambdad", func="$torch.sigmoid"), THRESHOLD)
    with pytest.raises(SpecError, match=r"compares them with a threshold is not known"):
        import_bundle(untold(after, 2, tmp_path, ["background", "organ"]), False)


def test_the_head_of_a_spec_stands_in_for_the_bundles(tmp_path: Path) -> None:
    untold(None, 3, tmp_path / "model")
    attacks = {"pgd": {"attack": "pgd", "epsilon": 8}}
    spec: small.Config = {"name": "x", "data": {"layout": "nnunet", "path": "."}, "victim": {"bundle": "model"}, "attacks": attacks}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
    with pytest.raises(SpecError, match=r"victim\.bundle: inference\.json: no postprocessing says .*write victim\.head"):
        read_spec(tmp_path / "spec.yaml")
    read, notes = read_spec(tmp_path / "spec.yaml", ["victim.head=sigmoid"])
    assert read.victim.head == "sigmoid"
    assert any("victim.head is taken, sigmoid" in note for note in notes)


SIGMOID = small.compose({"_target_": "Activationsd", "keys": "pred", "sigmoid": True})


def with_outputs(names: list[str], classes: int, folder: Path) -> Imported:
    """A sigmoid for each of so many outputs, whose metadata has these names."""
    config = {**small.spleen(), "network_def": small.unet(3, 1, classes), "postprocessing": SIGMOID}
    return import_bundle(small.write_bundle(folder, config, small.metadata(small.CT, "segmentation", names)), False)


def test_a_sigmoid_for_background_is_refused(tmp_path: Path) -> None:
    """A mask's 1 is the first output's class, and so a perfect network would be scored against its background."""
    with pytest.raises(SpecError, match=r"names one of them background \(background, spleen\).*softmax and argmax.*victim\.configuration"):
        with_outputs(["background", "spleen"], 2, tmp_path)


def test_a_note_says_which_mask_value_is_which_output(tmp_path: Path) -> None:
    found = with_outputs(["tumour", "organ"], 2, tmp_path)
    (told,) = [note for note in found.notes if note.startswith("mask values")]
    assert "1 tumour, 2 organ;" in told
    # What the note says is what the victim does.
    masks = Segmenter(torch.nn.Identity(), "sigmoid", 2, 3).as_label(np.array([[[0, 1, 2]]]))
    assert masks.tolist() == [[[[0, 1, 0]]], [[[0, 0, 1]]]]


def test_a_single_output_beside_background_is_the_class(tmp_path: Path) -> None:
    assert with_outputs(["background", "spleen"], 1, tmp_path).victim["head"] == "binary"
