"""What is done about shards on which workers died, whoever makes them. With processes that are really killed: test_cluster.py."""

import json
import threading
from pathlib import Path

import pytest
from tests.conftest import CLASSIFIER, draw_pictures, quiet, save_victim, tiny_spec

from medadv.common.errors import RunError
from medadv.common.log import Log
from medadv.common.stop import Stop
from medadv.corpus import private
from medadv.corpus.folder import Workspace
from medadv.plan.frozen import generations
from medadv.plan.model import PlannedShard
from medadv.prepare.request import Options
from medadv.run import journal, part
from medadv.run.deaths import suspect, without
from medadv.run.job import Diagnosis, Job
from medadv.run.watch import Watch


def logged(workspace: Workspace, event: str) -> list[dict[str, object]]:
    lines = map(json.loads, workspace.log.read_text().splitlines())
    return [line for line in lines if line["event"] == event]


def test_a_part_that_died_again_and_again_goes_on_without_the_sample_that_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_pictures(tmp_path / "data", 4)
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    spec, options, workspace = tiny_spec(tmp_path), Options(), Workspace(tmp_path / "corpus")
    part.freeze_plan(spec, options, quiet, Stop())
    (plan,) = generations(workspace.plans)
    victim = next(plan.lines()).samples[1].id
    for _ in range(journal.TOLERATED + 1):
        journal.begin(workspace, "shard-00000", "part")
    monkeypatch.setattr(part, "diagnose", lambda job: Diagnosis((victim,)))
    done = part.run_part(spec, "1/1", options, quiet, Stop())
    assert (done.shards, done.samples, done.quarantined, done.exit_code) == (1, 3, 1, 3)
    assert [event["deaths"] for event in logged(workspace, "deaths")] == [journal.TOLERATED + 1]
    assert [event["poison"] for event in logged(workspace, "diagnosed")] == [[victim]]
    assert json.loads(workspace.poison.read_text()) == [victim]


def test_parts_that_remember_at_once_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, others, write = Workspace(tmp_path), [], private.write_file
    workspace.make()

    def blame(shard: int, sample: str) -> None:
        job = Job(str(tmp_path), 0, PlannedShard(shard, (1, 1), (), 1), False, "lock", "token", diary="part")
        without(job, Diagnosis((sample,)), workspace, Watch(quiet, Log(workspace.log), 1, 1))

    def slowly(path: Path, data: bytes) -> None:
        if not others:
            # The other part comes between what this one read and what it writes, where it can.
            others.append(threading.Thread(target=blame, args=(1, "b")))
            others[0].start()
            others[0].join(0.5)
        write(path, data)

    monkeypatch.setattr(private, "write_file", slowly)
    blame(0, "a")
    others[0].join()
    assert private.poison(workspace) == ["a", "b"]


def test_without_a_sample_to_blame_the_shard_is_tried_once_more(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.make()
    watch = Watch(quiet, Log(workspace.log), 1, 1)
    job = Job(str(tmp_path), 0, PlannedShard(0, (1, 1), (), 1), False, "lock", "token")
    suspect(job, 5, watch)
    last = without(job, Diagnosis(()), workspace, watch)
    assert (last.tolerated, last.excluded) == (1, ())
    with pytest.raises(RunError, match="no sample of it kills one alone"):
        suspect(last, 1, watch)
