"""A victim that cannot be right about the images is refused before a first plan, with the fix; corpora that exist go on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import CLASSIFIER, Said, draw_pictures, plainly, quiet, save_victim, tiny_spec
from torch import Tensor, nn

from medadv.common.errors import SpecError
from medadv.compare.compare import read_samples
from medadv.datasets.reader import Reader
from medadv.datasets.sample import Shape
from medadv.datasets.source import Source
from medadv.plan.model import PlannedSample, PlannedShard
from medadv.prepare import prepare as preparing
from medadv.prepare.describe import describe
from medadv.prepare.plausible import check_head, check_outputs, check_settings
from medadv.prepare.request import Options
from medadv.run.run import run
from medadv.spec.data import DataSettings, PreprocessSettings
from medadv.spec.reading import load_spec
from medadv.spec.run_spec import RunSpec
from medadv.victims.tasks.classification import Classifier
from medadv.victims.tasks.segmentation import Segmenter

HU, GREY, COLOUR = Shape((1, 64, 64), "hu", "xy"), Shape((1, 64, 64), "level8", "yx"), Shape((3, 64, 64), "level8", "yx")
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def spec_of(folder: Path, normalize: dict[str, Any], modality: str = "ct", **victim: Any) -> RunSpec:
    changes = {f"victim__{key}": value for key, value in victim.items()}
    return load_spec(tiny_spec(folder, data__modality=modality, victim__normalize=normalize, **changes))


@pytest.mark.parametrize(
    ("normalize", "shape", "says"),
    [
        ({"mean": [0.3], "std": [0.2]}, HU, r"victim\.normalize: mean=\[0\.3\] .* in HU: give window: \[low, high\]"),
        (IMAGENET, HU, r"give window"),
        ({"window": [-160, 240]}, GREY, r"victim\.normalize\.window=\[-160\.0, 240\.0\] is in HU, but .* 0 to 255"),
        ({"window": [0, 400]}, GREY, r"window: \[0, 255\]"),
        ({"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}, COLOUR, r"divide both by 255, mean: \[0\.485, 0\.456, "),
        ({"mean": [0.5], "std": [0.25]}, COLOUR, r"1 means for a network of 3 channels"),
        ({"mean": [0.5] * 2, "std": [0.25] * 2}, COLOUR, r"3 each"),
    ],
)
def test_a_normalisation_of_another_unit_or_width_is_refused(tmp_path: Path, normalize: dict[str, Any], shape: Shape, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        check_settings(spec_of(tmp_path, normalize), shape)
    good = {"window": [-1000, 400]} if shape is HU else {"mean": [0.5] * shape.shape[0], "std": [0.25] * shape.shape[0]}
    second = {"network": "monai:unet", "weights": "w.safetensors"}
    spec = load_spec(tiny_spec(tmp_path, data__modality="ct", victim__normalize=good, second_victim={**second, "normalize": normalize}))
    with pytest.raises(SpecError, match=says.replace("victim", "second_victim")):
        check_settings(spec, shape)


@pytest.mark.parametrize(
    ("normalize", "shape"),
    [
        ({"window": [-1000, 400]}, HU),
        ({"mean": [0.0], "std": [1.0]}, HU),
        ({"mean": [-0.3], "std": [0.9]}, HU),
        ({"mean": [0.4], "std": [1.0]}, HU),
        ({"window": [0, 255]}, GREY),
        ({"mean": [1.0], "std": [0.5]}, GREY),
        (IMAGENET, GREY),
        (IMAGENET, COLOUR),
    ],
)
def test_what_may_be_right_is_not_refused(tmp_path: Path, normalize: dict[str, Any], shape: Shape) -> None:
    check_settings(spec_of(tmp_path, normalize), shape)


def test_no_field_of_view_is_looked_for_on_ct(tmp_path: Path) -> None:
    for shape, normalize in ((GREY, {"mean": [0.5], "std": [0.25]}), (HU, {"window": [-1000, 400]})):
        for asked in ("crop", "region"):
            spec = load_spec(tiny_spec(tmp_path, data__modality="ct", victim__normalize=normalize, preprocess={asked: True}))
            with pytest.raises(SpecError, match=rf"preprocess\.{asked}: CT images have no field of view"):
                check_settings(spec, shape)
    fundus = load_spec(tiny_spec(tmp_path, preprocess={"size": [32, 32], "crop": True, "region": True}))
    check_settings(fundus, COLOUR)


def test_arguments_beside_a_program_are_refused(tmp_path: Path) -> None:
    for name in ("model.ts", "sub/model.pt2", "net.torchscript"):
        with pytest.raises(SpecError, match=r"victim\.arguments: .* is a program and takes none"):
            check_settings(spec_of(tmp_path, IMAGENET, network=name, arguments={"out_channels": 2}), COLOUR)
        check_settings(spec_of(tmp_path, IMAGENET, network=name, arguments={}), COLOUR)
    check_settings(spec_of(tmp_path, IMAGENET, network="monai:unet.pt"), COLOUR)


def test_softmax_over_one_value_is_refused(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, IMAGENET)
    for judge in (Classifier(nn.Identity(), "softmax", 1), Segmenter(nn.Identity(), "softmax", 1, 2)):
        with pytest.raises(SpecError, match=r"set victim\.head: binary"):
            check_head(spec, plainly(judge))
    check_head(spec, plainly(Classifier(nn.Identity(), "sigmoid", 1)))
    check_head(spec, plainly(Classifier(nn.Identity(), "softmax", 2)))


def test_more_names_than_the_victim_has_classes_are_refused(tmp_path: Path) -> None:
    draw_pictures(tmp_path / "data", 4)
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    with pytest.raises(SpecError, match=r"data: 3 classes are named \(well, ill, other\), and the victim answers 2: name those alone"):
        describe(tiny_spec(tmp_path, data__classes=["well", "ill", "other"]), Options(), quiet)
    for names in (["well"], ["well", "ill"]):
        describe(tiny_spec(tmp_path, data__classes=names), Options(), quiet)


class Answers(nn.Module):
    """One answer an image, in turn."""

    def __init__(self, *answers: Sequence[Any]) -> None:
        super().__init__()
        self.answers, self.asked = list(answers), 0

    def forward(self, images: Tensor) -> Tensor:
        self.asked += 1
        return torch.tensor(self.answers[(self.asked - 1) % len(self.answers)])[None]


@pytest.fixture
def drawn(tmp_path: Path) -> tuple[list[PlannedShard], Reader]:
    """A shard of two batches of two pictures, the first of which is damaged, and their reader."""
    draw_pictures(tmp_path, 4)
    (tmp_path / "000.png").write_bytes(b"no picture")
    samples = [PlannedSample(str(i), "g", "", Source((f"{i:03d}.png",), 0)) for i in range(4)]
    data = DataSettings(modality="fundus", task="classification", layout="csv", path="labels.csv", label="grade")
    shard = PlannedShard(0, (3, 32, 32), tuple(samples), 2)
    return [shard], Reader(tmp_path, data, PreprocessSettings(size=(32, 32)))


def outputs_of(
    drawn: tuple[list[PlannedShard], Reader], *answers: Sequence[Any], head: str = "softmax", first: int = 0
) -> tuple[list[str], int]:
    shards, reader = drawn
    network = Answers(*answers)
    shape = torch.tensor(answers[0]).shape
    judge = Classifier(network, head, shape[0]) if len(shape) == 1 else Segmenter(network, head, shape[0], 2)
    shard = PlannedShard(0, shards[0].shape, shards[0].samples[2 * first :], 2)
    return check_outputs(plainly(judge), [shard], reader), network.asked


def test_outputs_that_sum_to_one_are_probabilities(drawn: tuple[list[PlannedShard], Reader]) -> None:
    for head in ("softmax", "sigmoid"):
        with pytest.raises(SpecError, match=r"answers probabilities \(its 3 outputs .* last softmax out"):
            outputs_of(drawn, [0.2, 0.3, 0.5], [0.0, 0.9996, 0.0], head=head, first=1)
    with pytest.raises(SpecError, match="answers probabilities"):
        outputs_of(drawn, torch.stack([torch.full((2, 2), 0.25), torch.full((2, 2), 0.75)]).tolist())
    # One of them alone is no evidence: both images of the batch are looked at.
    notes, asked = outputs_of(drawn, [0.2, 0.8], [0.2, 0.7], first=1)
    assert (len(notes), asked) == (1, 2)
    assert "lie within 0 and 1" in notes[0]
    # A single output that is a probability sums to nothing.
    assert len(outputs_of(drawn, [1.0], head="sigmoid")[0]) == 1


def test_logits_take_one_look(drawn: tuple[list[PlannedShard], Reader]) -> None:
    assert outputs_of(drawn, [-1.5, 2.5], first=1) == ([], 1)
    # These sum to 1 and are none: probabilities are not negative.
    assert outputs_of(drawn, [-0.5, 1.5]) == ([], 1)


@pytest.mark.usefixtures("inline")
def test_a_corpus_that_exists_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_pictures(tmp_path / "data", 2)
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    spec = tiny_spec(tmp_path, victim__normalize={"mean": [124.0] * 3, "std": [58.0] * 3}, sanity_samples=0)
    for refused in (run, describe):
        with pytest.raises(SpecError, match="divide both by 255"):
            refused(spec, Options(), quiet)
    assert not (tmp_path / "corpus").exists()
    with monkeypatch.context() as before:
        before.setattr("medadv.prepare.fit.check_settings", lambda *_: None)
        assert run(spec, Options(), quiet).manifest.samples == 2
    draw_pictures(tmp_path / "data", 3)
    assert run(spec, Options(), quiet).manifest.samples == 3


@pytest.mark.usefixtures("inline")
def test_what_planning_says_is_in_the_machine_readable_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_pictures(tmp_path / "data", 2)
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    spec, said = tiny_spec(tmp_path, sanity_samples=0), Said()
    monkeypatch.setattr(preparing, "check_outputs", lambda *_: ["odd outputs"])
    facts = describe(spec, Options(), said)
    assert facts["notes"] == ["warning: odd outputs"]
    assert "warning: odd outputs" in said
    assert run(spec, Options(), quiet).as_dict()["notes"] == ["warning: odd outputs"]
    assert run(spec, Options(), quiet).as_dict()["notes"] == []


def test_compare_refuses_the_same(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text("file,grade\na.png,0\n")
    changes: dict[str, Any] = {"data__modality": "ct", "data__path": "labels.csv", "preprocess": {"crop": True}}
    spec = load_spec(tiny_spec(tmp_path, **changes, victim__normalize={"mean": [0.5], "std": [0.25]}))
    with pytest.raises(SpecError, match="leave crop out"):
        read_samples(spec, tmp_path, 1)
