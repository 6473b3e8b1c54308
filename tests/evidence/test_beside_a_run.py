"""Verification beside a run at work, empty folders, and a `forget` that was killed before it had removed anything."""

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import Said, quiet

from medadv.cli.app import main
from medadv.common.stop import Stop
from medadv.corpus import private
from medadv.corpus.folder import Workspace
from medadv.evidence.verify import verify
from medadv.plan.frozen import generations, live_lines
from medadv.prepare.request import Options
from medadv.run import forget as forgetting
from medadv.run.forget import forget
from medadv.run.holder import STALE_S
from medadv.run.lock import held
from medadv.run.part import freeze_plan, run_part
from medadv.run.run import run

pytestmark = pytest.mark.usefixtures("inline")


@pytest.fixture
def corpus(tiny_corpus: Path, tmp_path: Path) -> Path:
    """A copy of the finished corpus with its inputs and spec."""
    shutil.copytree(tiny_corpus.parent, tmp_path / "copy")
    return tmp_path / "copy" / "corpus"


def verified(corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `medadv verify`."""
    monkeypatch.setattr("medadv.cli.app.logging.disable", lambda _: None)
    monkeypatch.setattr(sys, "argv", ["medadv", "verify", str(corpus)])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0), *capsys.readouterr()


def test_a_run_at_work_is_named_and_what_it_adds_is_no_intruder(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("shard-00003.h5", "shard-00003.json", ".tmp-shard-00003-ab.h5"):
        (corpus / "shards" / name).write_bytes(b"half made")
    with held(Workspace(corpus).lock):
        code, output, messages = verified(corpus, monkeypatch, capsys)
    assert code == 0
    assert output.endswith(": 0 problems\n")
    assert "a run is at work on" in messages
    # The same files are intruders as soon as nobody is at work.
    code, output, messages = verified(corpus, monkeypatch, capsys)
    assert (code, output.count("not in the manifest"), messages) == (5, 3, "")


def test_what_a_run_at_work_may_explain_is_no_verdict(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A manifest that is there and its hash that is not yet; and a file that no run puts there."""
    for change in (lambda: (corpus / "manifest.json.sha256").write_text("of before"), lambda: (corpus / "notes.txt").write_text("mine")):
        change()
        parts = Workspace(corpus).parts
        parts.mkdir(exist_ok=True)
        with held(parts / "1-of-2.lock", "part"):
            code, output, messages = verified(corpus, monkeypatch, capsys)
        assert (code, output) == (75, "")
        assert messages.count("\n") == 1
        assert "a part is at work" in messages
        assert "verify again when it has ended" in messages
        assert verified(corpus, monkeypatch, capsys)[0] == 5


def test_a_dead_holder_excuses_nothing(corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    record = {"token": "a", "host": "elsewhere", "pid": 1, "started": "x", "heartbeat": time.time() - 2 * STALE_S}
    Workspace(corpus).lock.write_text(json.dumps(record))
    (corpus / "shards" / "shard-00003.json").write_text("{}")
    assert verified(corpus, monkeypatch, capsys)[0] == 5


def test_an_empty_folder_is_no_intruder(corpus: Path) -> None:
    (corpus / "empty" / "in" / "it").mkdir(parents=True)
    (corpus / "shards" / "attacks").mkdir()
    assert verify(corpus) == []
    (corpus / "empty" / "in" / "file").write_text("x")
    assert verify(corpus) == ["empty/in/file: not in the manifest"]


class KilledError(BaseException):
    """Stands for a SIGKILL: nothing that handles errors handles it."""


@pytest.mark.parametrize(
    ("step", "start"),
    [
        ("before anything", lambda spec, said: run(spec, Options(), said)),
        ("after it was noted", lambda spec, said: run(spec, Options(), said)),
        ("before anything", lambda spec, said: run_part(spec, "1/2", Options(), said, Stop())),
        ("after it was noted", lambda spec, said: freeze_plan(spec, Options(), said, Stop())),
    ],
    ids=["run", "run-noted", "part", "freeze"],
)
def test_a_forget_that_was_killed_at_its_first_steps_is_told_of_at_the_next_start(
    step: str, start: Callable[[Path, Said], object], corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, spec = Workspace(corpus), corpus.parent / "spec.yaml"
    group = next(shard.samples[0].group for _, shard in live_lines(generations(workspace.plans)))
    inputs = corpus.parent / "data"
    plan = workspace.plan(0) / "plan.json"
    plan.write_text(plan.read_text().replace(json.loads(plan.read_text())["root"], str(inputs)))
    dead: list[str] = []

    def killed(*_: object, **__: object) -> None:
        dead.append(workspace.lock.read_text())
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(*((forgetting.private, "remember_forgotten") if step == "before anything" else (forgetting, "_replacement")), killed)
        with pytest.raises(KilledError):
            forget(corpus, group, Options(), quiet)
    # As a killed process leaves it: the lock lies there, and its holder is no more.
    workspace.lock.write_text(json.dumps({**json.loads(dead[0]), "started": "another process"}))
    assert (private.forgotten_groups(workspace) == [group]) == (step != "before anything")
    said = Said()
    start(spec, said)
    assert [text for text in said if "is not done" in text] == [
        f"`medadv forget` was begun for group {group} and is not done: the corpus still holds it; run it again"
    ]
    forget(corpus, group, Options(), quiet)
    again = Said()
    run(spec, Options(), again)
    assert not [text for text in again if "forget" in text]
    assert verify(corpus) == []
