"""File names that are no text survive from the plan to the commit, and through a second look."""

import json
import os
from pathlib import Path

from tests.conftest import CLASSIFIER, draw_pictures, quiet, save_victim, tiny_spec

from medadv.common.hashing import canonical_json
from medadv.common.stop import Stop
from medadv.corpus.folder import Workspace
from medadv.plan.frozen import thaw
from medadv.prepare.request import Options
from medadv.run import worker
from medadv.run.job import Job
from medadv.run.lock import held
from medadv.run.part import freeze_plan


def test_file_names_that_are_no_text_survive(tmp_path: Path) -> None:
    data = draw_pictures(tmp_path / "data", 4)
    for index in range(4):
        place = data / os.fsdecode(b"gr\xe9ade" + str(index % 2).encode())
        place.mkdir(exist_ok=True)
        (data / f"{index:03d}.png").rename(place / os.fsdecode(b"\xff%d.png" % index))
    (data / "labels.csv").unlink()
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    spec = tiny_spec(tmp_path, data={"modality": "fundus", "task": "classification", "layout": "folders", "path": "data"})
    freeze_plan(spec, Options(), quiet, Stop())
    workspace = Workspace(tmp_path / "corpus")
    with held(workspace.lock) as hold:
        lines = list(thaw(workspace.plan(0)).lines())
        made = [worker.make(Job(str(workspace.root), 0, line, False, str(hold.path), hold.token)) for line in lines]
    assert [result.samples for result in made] == [4]
    assert all((data / sample.source.images[0]).is_file() for line in lines for sample in line.samples)
    # Files for others are UTF-8, and say what the bytes of a name were.
    assert thaw(workspace.plan(0)).settings.data.classes == ["gr\\xe9ade0", "gr\\xe9ade1"]
    assert len(json.loads(workspace.file_cache.read_bytes().decode())) == 4


def test_only_what_is_no_text_is_written_otherwise() -> None:
    assert canonical_json({"a": "é\\"}) == '{"a":"é\\\\"}'.encode()
    assert canonical_json(os.fsdecode(b"\xff")) == b'"\\udcff"'
    assert json.loads(canonical_json(os.fsdecode(b"\xff"))) == os.fsdecode(b"\xff")
