"""Input that would take time or memory at will, or that nobody wrote by hand, is refused in one line, at once."""

import json
import os
import time
from pathlib import Path

import pytest
from tests.conftest import CLASSIFIER, draw_pictures, save_victim, tiny_spec

from medadv.common.errors import IntegrityError, SpecError
from medadv.common.record import RecordError, parse
from medadv.corpus.folder import Workspace
from medadv.corpus.private import forgotten_groups
from medadv.datasets.file_hashes import FileHashes
from medadv.datasets.label_files import read_json
from medadv.datasets.templates import filled
from medadv.plan.model import PlannedShard
from medadv.prepare.survey import survey
from medadv.run import lock
from medadv.run.holder import LockRecord, alive_holder
from medadv.spec import safe_yaml
from medadv.spec.reading import load_spec
from medadv.spec.safe_yaml import read_yaml

DEEP = "[" * 200_000


def laughs(levels: int, value: str) -> str:
    lines = [f"a0: &a0 {value}"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines)


BOMBS = {
    "aliases": laughs(9, "[x, x, x, x, x, x, x, x, x]"),
    "merges": "a0: &a0 {x: 1}\n" + "\n".join(f"a{n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)),
    "an alias of itself": "data: &a [*a]",
    "digits": f"name: {'9' * 5000}",
    "hexadecimal digits": f"name: 0x{'f' * 5000}",
    "minutes": f"name: {'1:' * 3000}1",
    "depth": f"name: {DEEP}",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_spec_that_blows_up_is_refused_before_it_does(tmp_path: Path, name: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(BOMBS[name])
    with pytest.raises(SpecError, match="not valid YAML") as caught:
        load_spec(path)
    assert len(str(caught.value).splitlines()) == 1


def test_values_are_counted_as_often_as_they_are_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_yaml, "MOST_NODES", 12)
    # One mapping, two keys, and the list twice: 1 + 2 + 2 * 4 values.
    text = "a: &a [1, 2, 3]\nb: *a"
    assert read_yaml(text) == {"a": [1, 2, 3], "b": [1, 2, 3]}
    assert read_yaml("a: &a {x: 1}\nb:\n  <<: *a") == {"a": {"x": 1}, "b": {"x": 1}}
    monkeypatch.setattr(safe_yaml, "MOST_NODES", 10)
    with pytest.raises(safe_yaml.yaml.YAMLError, match="more than 10 values"):
        read_yaml(text)


@pytest.mark.parametrize("value", ["9" * 5000, "0x" + "f" * 5000, DEEP, "&a [*a]"])
def test_a_setting_of_the_command_line_is_read_alike(folder: Path, value: str) -> None:
    with pytest.raises(SpecError, match="the value is not valid YAML") as caught:
        load_spec(tiny_spec(folder), [f"execution.seed={value}"])
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(("key", "limit"), [("threads", 1024), ("workers", 4096)])
def test_no_machine_has_so_many_threads(folder: Path, key: str, limit: int) -> None:
    with pytest.raises(SpecError, match=rf"execution.{key}.*less than or equal to {limit}"):
        load_spec(tiny_spec(folder), [f"execution.{key}=1000000000"])


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_a_spec_is_a_file(tmp_path: Path, kind: str) -> None:
    path = {"pipe": tmp_path / "pipe", "device": Path("/dev/zero"), "folder": tmp_path}[kind]
    if kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(SpecError, match="no file; a run spec is a YAML file"):
        load_spec(path)


def test_between_braces_stands_a_name() -> None:
    assert filled("images/{id}.png", {"id": 7}) == "images/7.png"
    assert filled("{a b}-{{}}", {"a b": "x"}) == "x-{}"
    for template in ("{file:>1000000000}", "{file.__class__}", "{file[0]}", "{file!r}", "{}", "{0}", "{file:{file}}", "{", "}"):
        with pytest.raises((ValueError, KeyError)):
            filled(template, {"file": "x"})


@pytest.mark.parametrize("template", ["{file:>1000000000}", "{file.__class__}"])
def test_a_template_of_more_than_names_is_refused(folder: Path, template: str) -> None:
    spec = load_spec(tiny_spec(folder, data__image=template))
    with pytest.raises(SpecError, match="between braces stands a name alone"):
        survey(spec, folder, FileHashes(None), b"key")


def test_nested_json_is_damage_wherever_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(DEEP)
    with pytest.raises(SpecError, match="cannot be read as JSON"):
        read_json(path)
    with pytest.raises(RecordError):
        parse(LockRecord, DEEP)
    with pytest.raises(RecordError):
        parse(LockRecord, json.dumps({"token": "x", "deep": None})[:-5] + "[" * 600 + "]" * 600 + "}x")
    assert FileHashes(path).known == {}
    workspace = Workspace(tmp_path / "corpus")
    workspace.forgotten.parent.mkdir(parents=True)
    workspace.forgotten.write_text(DEEP)
    with pytest.raises(IntegrityError, match="is damaged"):
        forgotten_groups(workspace)
    with pytest.raises(RecursionError):
        PlannedShard.of_line(DEEP.encode())


@pytest.mark.parametrize("heartbeat", ["soon", None, [1], True, "1e400", 1e300, "ten years ahead"])
def test_a_heartbeat_that_is_no_time_keeps_nobody_out(tmp_path: Path, heartbeat: object) -> None:
    path = tmp_path / "lock"
    if heartbeat == "ten years ahead":
        heartbeat = time.time() + 10 * 365 * 86400
    held = {"token": "a", "host": "elsewhere", "pid": 1, "started": "x"}
    path.write_text(json.dumps({**held, "heartbeat": heartbeat}))
    assert alive_holder(path) is None
    with lock.held(path) as hold:
        assert alive_holder(path) is not None
        # A holder on this host is known by its process, whatever its heartbeat says.
        said = json.loads(path.read_text())
        path.write_text(json.dumps({**said, "heartbeat": heartbeat}))
        alive = alive_holder(path)
        assert alive is not None
        assert alive.token == hold.token


def test_a_clock_that_is_ahead_is_believed_for_a_day(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text(json.dumps({"token": "a", "host": "elsewhere", "heartbeat": time.time() + 3600}))
    assert alive_holder(path) is not None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bombs")
    draw_pictures(root / "data", 4)
    save_victim(root / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    return root
