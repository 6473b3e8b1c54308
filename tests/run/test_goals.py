"""Goals through whole runs: a victim that goes by brightness alone, so that it is known which samples can be driven where."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file
from tests.conftest import quiet
from tests.run.bright_boxes import detector
from tests.run.goal_cases import (
    CLASS_NAMES,
    MASKS_EXPECTED,
    MASKS_REACHED,
    SIDE,
    checked,
    corpus_of_masks,
    names_of,
    picture,
    save_levels,
    stored,
    write_spec,
)

from medadv.common.errors import SpecError
from medadv.compare.compare import compare
from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import read_manifest
from medadv.evidence.reproduce import reproduce
from medadv.evidence.rescore import rescore
from medadv.evidence.verify import verify
from medadv.prepare.request import Options
from medadv.report.page import write_report
from medadv.run.run import run
from medadv.spec.reading import load_spec

pytestmark = pytest.mark.usefixtures("inline")


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished corpus of masks; read only."""
    return corpus_of_masks(tmp_path_factory.mktemp("masks"))


def test_masks_vanish_turn_and_are_invented_where_brightness_allows_it(masks: Path) -> None:
    manifest = checked(masks)
    able, reached = stored(masks, "attackable"), stored(masks, "success")
    assert able.keys() == {"vanish", "invent", "turn"}
    assert names_of(masks, able) == {name: sorted(which) for name, which in MASKS_EXPECTED.items()}
    assert {k: v for k, v in names_of(masks, reached).items() if k != "away"} == {n: sorted(w) for n, w in MASKS_REACHED.items()}
    counted = {name: (m.attackable, m.success) for name, m in manifest.metrics.items() if name != "away"}
    assert counted == {"vanish": (3, 2 / 3), "invent": (4, 3 / 4), "turn": (2, 1.0)}
    with h5py.File(masks / "shards" / "shard-00000.h5") as file:
        row = file["image"][:, 0, 12, 12].tolist().index(125)
        assert not file["attacks/vanish/prediction_adversarial"][row].any(), "the mask is really empty"
        assert set(np.unique(file["attacks/turn/prediction_adversarial"][row])) == {0, 2}
        rule = json.loads(file["attacks/turn"].attrs["success_rule"])
        assert (rule["metric"], rule["index"], rule["share"]) == ("foreground", 2, 0.1)
        assert json.loads(file["attacks/turn"].attrs["parameters"])["goal"] == {"class": "cyst", "index": 2}
        assert "goal" not in json.loads(file["attacks/away"].attrs["parameters"])


def test_what_a_goal_means_is_said_in_words(masks: Path) -> None:
    manifest = read_manifest(Workspace(masks))
    assert {name: m.goal for name, m in manifest.metrics.items()} == {
        "away": None,
        "vanish": "the foreground vanishes",
        "invent": "foreground is invented",
        "turn": "the foreground becomes cyst",
    }
    page = write_report(masks, masks.parent / "report.html").read_text()
    for words in ("the foreground vanishes", "so that the foreground becomes cyst", "away: condition: score_clean", "not at the goal yet"):
        assert words in page
    fields = [field["name"] for field in json.loads((masks / "croissant.json").read_bytes())["recordSet"][0]["field"]]
    assert "vanish.attackable" in fields
    assert "away.attackable" not in fields


def test_a_goal_is_frozen_with_its_index_and_not_changed(masks: Path) -> None:
    head = json.loads((masks / ".medadv" / "plans" / "0000" / "plan.json").read_bytes())
    assert head["settings"]["attacks"]["turn"]["goal"] == {"class": "cyst", "index": 2}
    assert head["spec"]["attacks"]["turn"]["goal"] == {"class": "cyst"}
    spec = masks.parent / "spec.yaml"
    assert run(spec, Options(), quiet).new_shards == 0
    with pytest.raises(SpecError, match=r'attacks.vanish.goal: "vanish" -> "fabricate"'):
        run(spec, Options(overrides=["attacks.vanish.goal=fabricate"]), quiet)
    with pytest.raises(SpecError, match=r"attacks.turn.goal.class: \"cyst\" -> \"lesion\""):
        run(spec, Options(overrides=["attacks.turn.goal={class: lesion}"]), quiet)


@pytest.mark.parametrize(
    ("goal", "said"),
    [
        ("{class: tumour}", "attacks.turn.goal.class='tumour': the data know no such class; they name lesion, cyst"),
        ("{class: background}", "attacks.turn.goal.class='background': the background is no class to become; take goal: vanish"),
        ("{class: 0}", "attacks.turn.goal: class: 0 is the background"),
        ("{class: 3}", "attacks.turn.goal.class=3: the victim answers classes 1 to 2, and this is class 3"),
        ("{class: cyst, index: 1}", "attacks.turn.goal.class='cyst': is class 2, not index 1: leave index out"),
    ],
)
def test_a_class_that_is_not_there_is_told_with_those_that_are(masks: Path, goal: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        run(masks.parent / "spec.yaml", Options(out=masks.parent / "other", overrides=[f"attacks.turn.goal={goal}"]), quiet)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("goal", "said"),
    [
        ("nothing", "attacks.turn.goal='nothing': is no goal: take untruth, vanish, fabricate, or {class: NAME}"),
        ("{klass: cyst}", "attacks.turn.goal: is no goal: take"),
        ("{class: no}", "attacks.turn.goal: class: False is neither a name nor an index; put a name that YAML reads as something else"),
        ("{class: 2, index: 1}", "attacks.turn.goal: index=1 is not that of class 2"),
        ("{class: -1}", "attacks.turn.goal: class: there is no class -1"),
    ],
)
def test_what_is_no_goal_is_told_in_one_line(masks: Path, goal: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(masks.parent / "spec.yaml", [f"attacks.turn.goal={goal}"])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_compare_counts_goals(masks: Path, tmp_path: Path) -> None:
    rows = compare(masks.parent / "spec.yaml", tmp_path, 4, [], False, quiet).rows
    counted = {row.attack: (row.attackable, row.sizes["success"].value) for row in rows[1:] if row.sizes["success"]}
    assert counted["vanish"] == (3, 2 / 3)
    assert counted["invent"] == (4, 3 / 4)
    assert counted["turn"] == (2, 1.0)


def test_classes_become_the_one_named(tmp_path: Path) -> None:
    """Wholes of one level: 80 comes to 110 at most, 125 and 128 come above 150; who is there, or belongs there, is not counted."""
    rows = ["file,grade"]
    for number, (level, grade) in enumerate([(80, "low"), (125, "mid"), (170, "high"), (130, "high"), (128, "low")]):
        image = np.full((SIDE, SIDE), level)
        image[0, : number + 1] += 1
        picture(tmp_path / "data" / f"{number}.png", image)
        rows.append(f"{number}.png,{grade}")
    (tmp_path / "data" / "labels.csv").write_text("\n".join(rows) + "\n")
    save_levels(tmp_path / "levels.pt2", of_image=True)
    data = {"layout": "csv", "path": "data/labels.csv", "label": "grade", "classes": CLASS_NAMES}
    goals = {"to-high": {"class": "high"}, "to-2": {"class": 2}}
    spec = write_spec(tmp_path, "classification", data, {"network": "levels.pt2"}, goals, keep="best")
    corpus = run(spec, Options(), quiet).corpus
    manifest = checked(corpus)
    assert [(m.attackable, m.success) for m in manifest.metrics.values()] == [(3, 2 / 3)] * 2
    assert [settings.goal.index for settings in manifest.attacks.values()] == [2, 2]
    for goal, said in (("vanish", "vanish is for masks and boxes"), ("{class: none}", "they name low, mid, high")):
        with pytest.raises(SpecError, match=said):
            run(spec, Options(out=tmp_path / "other", overrides=[f"attacks.to-high.goal={goal}"]), quiet)
    with pytest.raises(SpecError, match=r"attacks.to-high.goal: class: labels of a sigmoid head are answered one by one"):
        load_spec(spec, ["victim.head=sigmoid"])


FRAMES: dict[str, tuple[int, tuple[int, int] | None]] = {
    "polyp": (80, (125, 80)),
    "bright": (81, (170, 81)),
    "ulcer": (82, (82, 125)),
    "nothing": (83, None),
    "dark": (60, (124, 60)),
}
"""Level of the tissue, and red and green of the cell in which something is."""
BOXES_EXPECTED = {
    # A bright polyp is 70 levels from none, dark tissue 40 from an ulcer and from any box.
    "vanish": ({"polyp", "bright", "ulcer", "dark"}, {"polyp", "ulcer", "dark"}),
    "invent": ({"polyp", "bright", "ulcer", "nothing", "dark"}, {"polyp", "bright", "ulcer", "nothing"}),
    "turn": ({"polyp", "bright", "dark"}, {"polyp"}),
}


def test_boxes_vanish_turn_and_are_invented_where_brightness_allows_it(tmp_path: Path) -> None:
    images, annotations = [], []
    (tmp_path / "data").mkdir()
    for number, (name, (tissue, cell)) in enumerate(FRAMES.items()):
        image = np.full((SIDE, SIDE, 3), tissue, np.uint8)
        if cell is not None:
            image[8:16, 16:24, :2] = cell
            category = 7 if cell[0] > 100 else 9
            annotations.append({"id": number, "image_id": number, "category_id": category, "bbox": [16, 8, 8, 8]})
        Image.fromarray(image).save(tmp_path / "data" / f"{name}.png")
        images.append({"id": number, "file_name": f"{name}.png", "width": SIDE, "height": SIDE})
    categories = [{"id": 7, "name": "polyp"}, {"id": 9, "name": "ulcer"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "data" / "boxes.json").write_text(json.dumps(content))
    save_file(detector().state_dict(), tmp_path / "victim.safetensors")
    victim = {"network": "python:tests.run.bright_boxes:detector", "weights": "victim.safetensors"}
    goals = {"vanish": "vanish", "invent": "fabricate", "turn": {"class": "ulcer"}}
    spec = write_spec(tmp_path, "detection", {"layout": "coco", "path": "data/boxes.json"}, victim, goals)
    corpus = run(spec, Options(trust_code=True), quiet).corpus
    assert verify(corpus) == []
    assert rescore(corpus, [], True, quiet) == []
    assert reproduce(corpus, None, data=tmp_path / "data", trust_code=True).equal
    manifest = read_manifest(Workspace(corpus))
    known = {tissue: name for name, (tissue, _) in FRAMES.items()}
    order = []
    for path in sorted((corpus / "shards").glob("*.h5")):
        with h5py.File(path) as file:
            order += [known[level] for level in file["image"][:, 2, 0, 0].tolist()]
    able, success = stored(corpus, "attackable"), stored(corpus, "success")
    for name, (expected, reached) in BOXES_EXPECTED.items():
        assert {frame for frame, value in zip(order, able[name], strict=True) if value} == expected
        assert {frame for frame, value in zip(order, success[name], strict=True) if value} == reached
        metrics = manifest.metrics[name]
        assert (metrics.attackable, metrics.success) == (len(expected), len(reached) / len(expected))
    assert manifest.attacks["turn"].model_dump()["goal"] == {"class": "ulcer", "index": 2}
    assert manifest.metrics["turn"].goal == "the true boxes become ulcer"
