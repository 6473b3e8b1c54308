"""An evaluation is a corpus of worst answers, and figures that follow from what it stores."""

import csv
import json
import re
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from tests.conftest import CLASSIFIER, InlinePool, draw_pictures, quiet, save_victim, tiny_spec
from tests.run.test_tasks import UNET, chest, segmentation_spec
from typer.testing import CliRunner

from medadv.batches.ensemble import NOBODY, START
from medadv.cli.app import app
from medadv.common.errors import ExitCode, SpecError
from medadv.common.record import parse
from medadv.common.stop import Stop
from medadv.corpus.opening import open_corpus
from medadv.evaluate.curve import CurvePoint
from medadv.evaluate.evaluate import Evaluated, evaluate, evaluate_part
from medadv.evaluate.record import Evaluation
from medadv.evaluate.requirement import Requirement, unmet
from medadv.evaluate.sets import STRONGEST, evaluation_of
from medadv.evaluate.stored import on_corpus, write_leaderboard
from medadv.evidence.reproduce import reproduce
from medadv.evidence.rescore import rescore
from medadv.evidence.verify import verify
from medadv.prepare.request import Options
from medadv.report.columns import read_columns
from medadv.report.estimates import metrics
from medadv.report.record import Figure
from medadv.run import cluster
from medadv.spec.reading import load_spec

pytestmark = pytest.mark.usefixtures("inline")

SET = [{"attack": "pgd", "steps": 3}, {"attack": "fgsm"}]


def pictures(folder: Path, **evaluation: Any) -> Path:
    """A spec of twelve pictures of six patients, whose truth is the victim's own answer."""
    draw_pictures(folder / "data", 12)
    save_victim(folder / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    return with_set(tiny_spec(folder, data__label="none", data__group="patient"), **evaluation)


def with_set(path: Path, **evaluation: Any) -> Path:
    spec = yaml.safe_load(path.read_text())
    spec["evaluation"] = {"attacks": SET, "epsilons": [4, 8], **evaluation}
    path.write_text(yaml.safe_dump(spec))
    return path


def found(path: Path, *required: str, epsilons: list[float] | None = None, out: Path | None = None) -> Evaluated:
    return evaluate(path, Options(out), epsilons, [Requirement.of(text) for text in required], quiet)


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    """An evaluation of a classifier; read only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "connect", lambda *_, **__: nullcontext(InlinePool()))
        return found(pictures(tmp_path_factory.mktemp("classes")))


def stored(found: Evaluated, key: str) -> np.ndarray[Any, Any]:
    """An array of all shards in their order."""
    parts = []
    for entry in found.result.manifest.shards:
        with h5py.File(found.result.corpus / entry.path) as file:
            parts.append(file[key][...])
    return np.concatenate(parts)


def test_figures_are_those_of_what_is_stored(classes: Evaluated) -> None:
    evaluation, truth = classes.evaluation, stored(classes, "label")
    assert [(point.epsilon, point.metric.value) for point in evaluation.curves["accuracy"].points] == [
        (0, 1.0),
        *((epsilon, float((stored(classes, f"attacks/worst-{epsilon}/prediction_adversarial") == truth).mean())) for epsilon in (4, 8)),
    ]
    for at in evaluation.epsilons:
        made, tried = (stored(classes, f"attacks/{at.attack}/{key}") for key in ("made_by", "member_score"))
        assert [each.kept for each in at.found] == [int((made == number).sum()) for number in range(2)]
        wrong = stored(classes, f"attacks/{at.attack}/prediction_adversarial") != truth
        assert [each.broke for each in at.found] == [int(((made == number) & wrong).sum()) for number in range(2)]
        assert [each.tried for each in at.found] == (tried >= 0).sum(0).tolist()
        assert at.kept_from_smaller == int((made == START).sum())
        assert (at.wrong_when_clean, at.unmoved) == (0, int((made == NOBODY).sum()))
    small, large = evaluation.epsilons
    assert small.kept_from_smaller == 0
    broken = stored(classes, "attacks/worst-4/prediction_adversarial") != truth
    assert broken.any()
    assert (stored(classes, "attacks/worst-8/prediction_adversarial") != truth)[broken].all()
    # What is broken at 4 costs nothing at 8.
    assert large.found[0].tried == int((~broken).sum())


def test_intervals_are_over_whole_groups(classes: Evaluated) -> None:
    evaluation = classes.evaluation
    assert (evaluation.samples, evaluation.groups) == (12, 6)
    right = stored(classes, "attacks/worst-4/prediction_adversarial") == stored(classes, "label")
    groups = stored(classes, "group_id")
    by_group = np.array([right[groups == group].mean() for group in np.unique(groups)])
    point = evaluation.curves["accuracy"].points[1].metric
    assert point.low is not None
    assert point.high is not None
    # All groups are of two samples: a resample's accuracy is a mean of six such shares.
    assert by_group.min() <= point.low <= right.mean() <= point.high <= by_group.max()


def test_the_corpus_is_one_like_any_other(classes: Evaluated) -> None:
    corpus = classes.result.corpus
    assert verify(corpus) == []
    assert rescore(corpus, [], False, quiet) == []
    assert reproduce(corpus, None).equal


def test_four_files_say_the_same(classes: Evaluated) -> None:
    paths = {path.suffix: path for path in classes.files}
    assert {path.name for path in paths.values()} == {"evaluation.json", "evaluation.csv", "evaluation.png", "evaluation.html"}
    assert parse(Evaluation, paths[".json"].read_bytes()) == classes.evaluation
    with paths[".csv"].open(newline="") as file:
        rows = list(csv.DictReader(file))
    curve = [(float(row["epsilon"]), float(row["value"])) for row in rows if row["part"] == "curve"]
    assert curve == [(point.epsilon, point.metric.value) for point in classes.evaluation.curves["accuracy"].points]
    specificity = next(row for row in rows if (row["part"], row["epsilon"], row["figure"]) == ("attacked", "8.0", "specificity"))
    assert float(specificity["value"]) == classes.evaluation.epsilons[1].clinical.classes[0].reading("specificity").attacked.value
    page = paths[".html"].read_text()
    assert "<script" not in page
    assert all(text in page for text in ("halves at", classes.evaluation.content_root, "2 fgsm ce", "binarization test"))


def test_again_there_is_nothing_new_and_the_files_are_the_same(classes: Evaluated, tmp_path: Path) -> None:
    spec = classes.result.corpus.parent.parent.parent
    before = {path.name: path.read_bytes() for path in classes.files}
    again = found(spec / "spec.yaml")
    assert again.result.new_shards == 0
    assert {path.name: path.read_bytes() for path in again.files} == before
    with pytest.raises(SpecError, match="worst-2"):
        found(spec / "spec.yaml", epsilons=[2])


def test_parts_make_the_same_corpus(classes: Evaluated, tmp_path: Path) -> None:
    shutil.copytree(classes.result.corpus.parent.parent.parent, tmp_path / "spec", ignore=shutil.ignore_patterns("evaluations"))
    path = tmp_path / "spec" / "spec.yaml"
    for part in ("1/2", "2/2"):
        made = evaluate_part(path, part, Options(tmp_path / "out", command="medadv evaluate"), None, quiet, Stop())
        # `medadv run` of this spec would make another corpus.
        assert made.text.endswith("`medadv evaluate` without --part merges the parts")
    whole = found(path, out=tmp_path / "out")
    assert whole.result.new_shards == 0
    assert whole.evaluation == classes.evaluation


def test_what_is_required_is_held_against_the_lower_end(classes: Evaluated) -> None:
    spec = classes.result.corpus.parent.parent.parent / "spec.yaml"
    at_small = classes.evaluation.curves["accuracy"].points[1].metric
    assert at_small.low is not None
    assert at_small.value is not None
    assert at_small.low < at_small.value
    good, bad = f"accuracy@4>={at_small.low!r}", f"accuracy@4>={at_small.value!r}"
    assert found(spec, good, "accuracy@0>=1").exit_code == ExitCode.DONE
    assert found(spec, bad).exit_code == ExitCode.REQUIREMENT == 6
    assert found(spec, bad).unmet == [
        f"{bad}: accuracy at epsilon 4 is {at_small.value:.3f}, the lower end of its interval {at_small.low:.3f}"
    ]


def test_one_patient_meets_no_requirement(tmp_path: Path) -> None:
    """Its resamples would all be the sample itself, and an interval of no width says what nobody knows; the report says none, too."""
    path = pictures(tmp_path)
    labels = tmp_path / "data" / "labels.csv"
    labels.write_text(re.sub(r"p\d", "p0", labels.read_text()))
    done = found(path, "accuracy@0>=0.5")
    assert (done.evaluation.groups, done.exit_code) == (1, ExitCode.REQUIREMENT)
    assert done.unmet == [
        "accuracy@0>=0.5: accuracy at epsilon 0 is 1.000, the lower end of its interval n/a, for of a single group there is none"
    ]
    corpus = done.result.corpus
    columns = read_columns(corpus, open_corpus(corpus))
    reported = metrics(columns, columns.attacks["worst-8"])["accuracy"]
    clean, _, at_8 = done.evaluation.curves["accuracy"].points
    assert [clean.metric, at_8.metric] == [Figure.of(reported.clean), Figure.of(reported.adversarial)]
    assert clean.metric == Figure(value=1, low=None, high=None)
    drops = [each.difference for one in done.evaluation.epsilons[1].clinical.classes for each in one.readings]
    (own,) = on_corpus([path], corpus, [], False, quiet, Stop()).models
    assert all(each.low is each.high is None for each in (*drops, *own.clean.values(), *own.attacks[1].metrics.values()))
    assert own.attacks[1].metrics["accuracy"] == at_8.metric


def test_what_is_not_defined_meets_no_requirement(classes: Evaluated) -> None:
    """As where one score is NaN: the metric is not defined, though it is on the resamples that the sample is not in."""
    evaluation = classes.evaluation.model_copy(deep=True)
    evaluation.curves["accuracy"].points[1] = CurvePoint(epsilon=4, metric=Figure(value=None, low=0.637, high=0.9))
    asked = Requirement.of("accuracy@4>=0.6")
    done = replace(classes, evaluation=evaluation, unmet=unmet([asked], evaluation))
    assert done.unmet == ["accuracy@4>=0.6: accuracy at epsilon 4 is n/a, the lower end of its interval 0.637"]
    assert done.exit_code == ExitCode.REQUIREMENT


@pytest.mark.parametrize(
    ("text", "said"),
    [("dice>0.5", "write METRIC>=VALUE"), ("dice>=high", "write METRIC>=VALUE"), ("dice>=0.5", "no metric dice of auc, accuracy"),
     ("accuracy@2>=0.5", "not measured at epsilon 2, only at 0, 4, 8"), ("accuracy>=0.5.1", "write METRIC>=VALUE"),
     ("accuracy@4>=60", "no accuracy is above 1; 60 % is written 0.6")],
)  # fmt: skip
def test_what_cannot_be_required_is_said_before_anything_is_made(text: str, said: str, tmp_path: Path) -> None:
    path = with_set(tiny_spec(tmp_path))
    with pytest.raises(SpecError, match=said):
        found(path, text)
    assert not (tmp_path / "evaluations").exists()


def test_a_part_is_asked_for_no_requirement(tmp_path: Path) -> None:
    """It would end with 0 whatever was required: what is measured is the whole."""
    answer = CliRunner().invoke(app, ["evaluate", str(pictures(tmp_path)), "--part", "1/2", "--require", "accuracy>=0.5"])
    assert isinstance(answer.exception, SpecError)
    assert "--require goes with the `medadv evaluate` that merges the parts" in str(answer.exception)
    assert not (tmp_path / "evaluations").exists()


@pytest.mark.parametrize(
    ("evaluation", "said"),
    [
        ({"attacks": [{"attack": "pgd", "epsilon": 2}]}, r"attacks\[0\]: the epsilon is one of `epsilons`"),
        ({"attacks": [{"attack": "pgd"}, {"attack": "bmi"}]}, r"attacks\[1\].attack"),
        ({"attacks": [{"attack": "pgd", "stepz": 2}]}, r"attacks\[0\].stepz"),
        ({"epsilons": [2, 2]}, "names one twice"),
        ({"epsilons": [300]}, "more than the whole range"),
    ],
)
def test_what_cannot_be_evaluated_is_said(evaluation: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=said):
        found(with_set(tiny_spec(tmp_path), **evaluation))


@pytest.mark.parametrize(("asked", "attack"), [([0], 8), ([0, 4], 8), ([0.5], 8), (None, 0)])
def test_below_1_an_epsilon_is_the_clean_images(asked: list[float] | None, attack: float, tmp_path: Path) -> None:
    path = tiny_spec(tmp_path, attacks={"pgd": {"attack": "pgd", "epsilon": attack}})
    with pytest.raises(SpecError, match="name epsilons from 1 on"):
        found(path, epsilons=asked)
    assert not (tmp_path / "evaluations").exists()


def test_a_run_does_not_mind_what_an_evaluation_would_do(tmp_path: Path) -> None:
    plain, asked = load_spec(tiny_spec(tmp_path)), load_spec(with_set(tiny_spec(tmp_path)))
    assert "evaluation" not in plain.model_dump()
    assert asked.model_copy(update={"evaluation": None}) == plain
    made = evaluation_of(plain)
    assert list(made.attacks) == ["worst-8"]
    assert [member.attack for member in made.attacks["worst-8"].members or ()] == [each["attack"] for each in STRONGEST["classification"]]


def test_other_models_on_the_same_samples(classes: Evaluated, tmp_path: Path) -> None:
    folder = classes.result.corpus.parent.parent.parent
    shutil.copytree(folder, tmp_path / "other", ignore=shutil.ignore_patterns("evaluations", "data"))
    save_victim(tmp_path / "other" / "victim.safetensors", "monai:densenet121", CLASSIFIER, seed=5)
    board = on_corpus([folder / "spec.yaml", tmp_path / "other" / "spec.yaml"], classes.result.corpus, [], False, quiet, Stop())
    own, other = board.models
    assert (own.own, other.own) == (True, False)
    points = classes.evaluation.curves["accuracy"].points
    assert {"clean": own.clean["accuracy"].value} | {each.attack: each.metrics["accuracy"].value for each in own.attacks} == {
        "clean": points[0].metric.value,
        "worst-4": points[1].metric.value,
        "worst-8": points[2].metric.value,
    }
    assert own.attacks[1].clinical == classes.evaluation.epsilons[1].clinical
    assert other.clean != own.clean
    paths = write_leaderboard(tmp_path / "board", board)
    assert [path.name for path in paths] == ["leaderboard.json", "leaderboard.csv"]
    assert json.loads(paths[0].read_text())["content_root"] == classes.evaluation.content_root
    assert len(paths[1].read_text().splitlines()) == 1 + 2 * 3


def test_masks_keep_the_lowest_dice_and_say_it_to_a_clinician(tmp_path: Path) -> None:
    chest(tmp_path / "data", (32, 32, 4), count=2)
    save_victim(tmp_path / "victim.safetensors", "monai:unet", {"spatial_dims": 2, **UNET})
    done = found(with_set(segmentation_spec(tmp_path, 2, data__group="patient"), epsilons=[30, 120]))
    evaluation = done.evaluation
    values = [point.metric.value for point in evaluation.curves["dice"].points]
    assert values[1:] == [stored(done, f"attacks/worst-{epsilon}/score_adversarial").mean() for epsilon in (30, 120)]
    lower = stored(done, "attacks/worst-30/score_adversarial") >= stored(done, "attacks/worst-120/score_adversarial")
    assert lower.all()
    assert evaluation.epsilons[0].found[0].tried == evaluation.epsilons[0].found[1].tried == len(lower)
    readings = evaluation.epsilons[1].clinical.classes[0]
    assert readings.reading("hd95").unit == "mm"
    assert readings.reading("dice").attacked.value == pytest.approx(values[2])
    assert evaluation.groups == 2
    assert verify(done.result.corpus) == []


def test_boxes_and_the_flags_of_a_detector(tmp_path: Path) -> None:
    draw_pictures(tmp_path / "data", 3, size=64)
    images = [{"id": i, "file_name": f"{i:03d}.png", "width": 64, "height": 64} for i in range(3)]
    boxes = [{"id": i, "image_id": i, "category_id": 7, "bbox": [8, 8, 20, 30]} for i in range(3)]
    coco = {"images": images, "annotations": boxes, "categories": [{"id": 7, "name": "polyp"}]}
    (tmp_path / "data" / "boxes.json").write_text(json.dumps(coco))
    arguments = {"num_classes": 2, "size": 64}
    save_victim(tmp_path / "victim.safetensors", "torchvision:fcos_resnet18_fpn_gn", arguments)
    spec = tiny_spec(
        tmp_path,
        data={"modality": "endoscopy", "task": "detection", "layout": "coco", "path": "data/boxes.json"},
        preprocess__size=[64, 64],
        victim__network="torchvision:fcos_resnet18_fpn_gn",
        victim__arguments=arguments,
    )
    done = found(with_set(spec, epsilons=[4]))
    assert set(done.evaluation.curves) == {"ap50"}
    assert {flag.name for flag in done.evaluation.flags} >= {"beaten_by_weaker", "passes_differ", "zero_gradients"}
    assert done.evaluation.binarization.not_done is not None
    assert "sensitivity" in {reading.name for reading in done.evaluation.epsilons[0].clinical.classes[0].readings}
    assert reproduce(done.result.corpus, None).equal
    # Five starts are five at every epsilon.
    usual = load_spec(spec).model_copy(update={"evaluation": None})
    larger = evaluation_of(usual, [2, 4]).attacks["worst-4"]
    assert (larger.start, larger.starts, larger.rank) == ("worst-2", "own", "score")


def test_labels_are_ranked_by_how_many_are_right(tmp_path: Path) -> None:
    spec = load_spec(tiny_spec(tmp_path))
    labels = spec.model_copy(update={"victim": spec.victim.model_copy(update={"head": "sigmoid"})})
    assert [evaluation_of(each, [4]).attacks["worst-4"].rank for each in (spec, labels)] == ["score", "labels"]
