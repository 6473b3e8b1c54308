"""What 255 in mask pictures means is one thing in a corpus: settled by the first plan, kept by the later ones. Shards are made inline."""

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from PIL import Image
from tests.conftest import Said, draw_pictures, quiet, save_victim, tiny_spec

from medadv.common.errors import SpecError
from medadv.common.record import plain
from medadv.corpus.folder import Workspace
from medadv.datasets.masks import look
from medadv.datasets.reader import Reader
from medadv.datasets.source import Source
from medadv.evidence.reproduce import reproduce
from medadv.evidence.verify import verify
from medadv.plan.frozen import generations, whole
from medadv.plan.meaning import MEANING_VERSION
from medadv.prepare.describe import describe
from medadv.prepare.request import Options
from medadv.run.run import Result, run
from medadv.spec.data import DataSettings, PreprocessSettings

pytestmark = pytest.mark.usefixtures("inline")

UNET = {"spatial_dims": 2, "in_channels": 3, "out_channels": 3, "channels": [4, 8], "strides": [2]}
LEFT = slice(2, 8)
PLACES = {1: (slice(2, 8), LEFT), 2: (slice(10, 16), LEFT), 255: (slice(20, 30), LEFT), 90: (slice(8, 10), slice(2, 5))}


def mask(path: Path, *levels: int, **options: Any) -> None:
    """A mask of 32 x 32 with each level in its place."""
    values = np.zeros((32, 32), np.uint8)
    for level in levels:
        values[PLACES[level]] = level
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)


def project(folder: Path, *masks: tuple[int, ...], **data: Any) -> Path:
    """Pictures 000.png, 001.png, ... with masks of the given levels, and a spec for them."""
    draw_pictures(folder / "data" / "images", len(masks))
    for number, levels in enumerate(masks):
        mask(folder / "data" / "masks" / f"{number:03d}.png", *levels)
    save_victim(folder / "victim.safetensors", "monai:unet", UNET)
    spec = tiny_spec(folder, victim__network="monai:unet", victim__arguments=UNET, sanity_samples=0)
    content = yaml.safe_load(spec.read_text())
    content["data"] = {
        "modality": "fundus",
        "task": "segmentation",
        "layout": "folders",
        "path": "data",
        "image": "images/{id}.png",
        "label": "masks/{id}.png",
        **data,
    }
    content["attacks"] = {"a": {"attack": "fgsm", "epsilon": 4}}
    spec.write_text(yaml.safe_dump(content))
    return spec


def labels(result: Result) -> list[list[int]]:
    """The levels of each stored mask, sorted."""
    found = []
    for path in sorted((result.corpus / "shards").glob("*.h5")):
        with h5py.File(path) as file:
            found += [np.unique(each).tolist() for each in file["label"][...]]
    return sorted(found)


def codes(result: Result) -> list[tuple[str, str]]:
    records = [json.loads(line) for line in (result.corpus / "quarantine.jsonl").read_text().splitlines()]
    return [(record["code"], record["message"]) for record in records]


def test_255_is_foreground_where_no_mask_holds_anything_else(tmp_path: Path) -> None:
    result = run(project(tmp_path, (255,), (), (255,)), Options(), quiet)
    assert (result.exit_code, labels(result)) == (0, [[0], [0, 1], [0, 1]])
    assert result.manifest.data.mask_255 == "foreground"
    assert verify(result.corpus) == []
    again = reproduce(result.corpus, None, data=tmp_path / "data")
    assert (again.origin, again.equal) == ("sources", True)
    # A picture that was added and contradicts the plan is out; one that does not is in.
    draw_pictures(tmp_path / "data" / "images", 5)
    mask(tmp_path / "data/masks/003.png", 1, 255)
    mask(tmp_path / "data/masks/004.png", 255)
    grown = run(tmp_path / "spec.yaml", Options(), quiet)
    assert (grown.exit_code, labels(grown)) == (3, [[0], [0, 1], [0, 1], [0, 1]])
    assert [code for code, _ in codes(grown)] == ["label-values"]
    assert run(tmp_path / "spec.yaml", Options(), quiet).new_shards == 0


def test_one_mask_with_a_class_makes_255_ignored_in_all(tmp_path: Path) -> None:
    result = run(project(tmp_path, (255,), (1, 2, 255), (2,)), Options(), quiet)
    assert (result.exit_code, labels(result)) == (0, [[0, 1, 2, 255], [0, 2], [0, 255]])
    assert result.manifest.data.mask_255 == "ignore"
    assert reproduce(result.corpus, None, data=tmp_path / "data").equal
    draw_pictures(tmp_path / "data" / "images", 4)
    mask(tmp_path / "data/masks/003.png", 255)
    assert labels(run(tmp_path / "spec.yaml", Options(), quiet)) == [[0, 1, 2, 255], [0, 2], [0, 255], [0, 255]]


def test_soft_edges_are_refused_and_decide_nothing(tmp_path: Path) -> None:
    spec = project(tmp_path, (255,), (90, 255), (1, 90))
    result = run(spec, Options(), quiet)
    assert (result.exit_code, labels(result), result.manifest.data.mask_255) == (3, [[0, 1]], "foreground")
    assert [(code, ": 1 in 6 pixels" in message) for code, message in codes(result)] == [("label-values", True)] * 2
    cut = run(spec, Options(out=tmp_path / "cut", overrides=["data.threshold=89"]), quiet)
    assert (cut.exit_code, labels(cut), cut.manifest.data.threshold) == (0, [[0, 1]] * 3, 89)
    assert "mask_255" not in plain(cut.manifest.data)
    mapped = run(spec, Options(out=tmp_path / "mapped", overrides=["data.label_map={edge: [90], lesion: [255]}"]), quiet)
    assert labels(mapped) == [[0, 1], [0, 1, 2], [0, 2]]
    # 1 is a class of the victim, though the map calls it nothing; 90 would be a soft edge again.
    partly = run(spec, Options(out=tmp_path / "partly", overrides=["data.label_map={lesion: [255]}"]), quiet)
    assert (partly.exit_code, labels(partly)) == (3, [[0, 1]])


def test_a_corpus_of_soft_masks_alone_is_a_wrong_spec(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"label-values: levels .* 1 in 6 pixels"):
        run(project(tmp_path, (90,), (90, 255)), Options(), quiet)


def test_jpeg_has_no_say(tmp_path: Path) -> None:
    spec = project(tmp_path, (255,), (255,))
    table = "file,mask\nimages/000.png,masks/000.png\nimages/001.png,masks/001.jpg\n"
    (tmp_path / "data/t.csv").write_text(table)
    mask(tmp_path / "data/masks/001.jpg", 255, quality=95)
    settings = ["data.layout=csv", "data.path=data/t.csv", "data.label=mask", "data.image=file"]
    result = run(spec, Options(overrides=settings), quiet)
    assert (labels(result), result.manifest.data.mask_255) == ([[0, 1], [0, 1]], "foreground")


def test_one_file_a_class_through_a_run(tmp_path: Path) -> None:
    spec = project(tmp_path, (255,), (255,), label=["masks/{id}.png", "more/{id}.png"])
    mask(tmp_path / "data/more/000.png", 1)
    assert describe(spec, Options(), quiet)["samples"] == 1
    result = run(spec, Options(), quiet)
    # The second photograph has no file for the second class, which does not say that nothing is there.
    assert [code for code, _ in codes(result)] == ["not-found"]
    # A file of 0 and 1 beside files of 0 and 255: then 255 is no class.
    assert labels(result) == [[0, 2, 255]]


def test_masks_of_another_size_decide_nothing(tmp_path: Path) -> None:
    project(tmp_path, (255,), (1, 2))
    Image.new("L", (16, 32), 1).save(tmp_path / "data/masks/001.png")
    data = DataSettings.model_validate({"modality": "fundus", "task": "segmentation", "layout": "folders", "path": "."})
    reader = Reader(tmp_path / "data", data, PreprocessSettings(size=(32, 32)))
    sources = [Source((f"images/{n}.png",), {"mask": [f"masks/{n}.png"]}) for n in ("000", "001")]
    found = look(sources, reader, 2)
    assert ([s.label["white"] for s in found.sources], found.white) == ([1], "foreground")
    assert [p.code for p in found.problems] == ["size-differs"]


def as_of_version_4(corpus: Path) -> None:
    """The corpus as an earlier version left it: the plan's and the manifest's names for things stay as they are."""
    head = Workspace(corpus).plan(0) / "plan.json"
    content = json.loads(head.read_text())
    content["settings"]["meaning"] = 4
    head.write_text(json.dumps(content))


def test_a_corpus_of_an_older_meaning_stays_as_it_is(tmp_path: Path) -> None:
    spec = project(tmp_path, (255,), (255,), (255,))
    result = run(spec, Options(), quiet)
    as_of_version_4(result.corpus)
    before = {path: path.read_bytes() for path in sorted(result.corpus.rglob("*")) if path.is_file() and "shards" in path.parts}
    said = Said()
    again = run(spec, Options(), said)
    assert (again.exit_code, again.new_shards, again.manifest) == (0, 0, result.manifest)
    assert any(f"meaning version 4, now {MEANING_VERSION}" in words for words in said)
    assert verify(result.corpus) == []
    assert reproduce(result.corpus, None).equal
    sentence = f"meaning version 4, and this medadv has {MEANING_VERSION}.*Make another corpus with --out"
    # Another setting, other weights, a new picture, a missing shard: each asks for more than it holds.
    with pytest.raises(SpecError, match=sentence):
        run(spec, Options(overrides=["attacks.a.epsilon=5"]), quiet)
    with pytest.raises(SpecError, match=sentence):
        describe(spec, Options(), quiet)
    save_victim(tmp_path / "victim.safetensors", "monai:unet", UNET, seed=1)
    with pytest.raises(SpecError, match=sentence):
        run(spec, Options(), quiet)
    save_victim(tmp_path / "victim.safetensors", "monai:unet", UNET)
    shutil.copytree(tmp_path, tmp_path.parent / "grown")
    draw_pictures(tmp_path.parent / "grown/data/images", 4)
    mask(tmp_path.parent / "grown/data/masks/003.png", 255)
    with pytest.raises(SpecError, match=sentence):
        run(tmp_path.parent / "grown/spec.yaml", Options(), quiet)
    assert run(spec, Options(), quiet).new_shards == 0
    assert {path: path.read_bytes() for path in before} == before
    for path in (result.corpus / "shards").glob("*.json"):
        path.unlink()
    with pytest.raises(SpecError, match=sentence):
        run(spec, Options(), quiet)


def test_keys_that_came_later_are_written_down_only_where_they_say_something(tmp_path: Path) -> None:
    spec = project(tmp_path, (255,), (255,))
    result = run(spec, Options(), quiet)
    (plan,) = generations(Workspace(result.corpus).plans)
    later = {"root", "threshold", "mask_geometry", "offset"}
    assert not later & whole(plan.spec)["data"].keys()
    assert not later & plain(plan.settings.data).keys()
    cut = run(spec, Options(out=tmp_path / "cut", overrides=["data.threshold=10"]), quiet)
    (plan,) = generations(Workspace(cut.corpus).plans)
    assert later & plain(plan.settings.data).keys() == {"threshold"}
    with pytest.raises(SpecError, match="threshold"):
        run(spec, Options(out=tmp_path / "cut"), quiet)
