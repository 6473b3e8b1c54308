"""Records are read as models, and written again as the bytes that they were read from, whatever optional keys they hold."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medadv.common.errors import IntegrityError
from medadv.common.hashing import canonical_json
from medadv.common.record import NoJsonError, RecordError, parse, plain
from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import Manifest, manifest_bytes, read_manifest
from medadv.corpus.quarantine import quarantine_line, read_quarantine
from medadv.corpus.receipt import Receipt, committed, content_root, read_receipt, receipt_bytes
from medadv.plan.frozen import PlanHead, head_bytes, thaw
from medadv.plan.model import PlannedShard, plan_hash
from medadv.run.holder import read_lock
from medadv.run.lock import held

BY_PATH = {"source": "0" * 32, "code": "not-ct", "message": "…", "advice": "…"}
BY_SAMPLE = {"sample": "1" * 32, "code": "changed-input", "message": "…", "advice": "…"}


@pytest.fixture
def workspace(tiny_corpus: Path) -> Workspace:
    return Workspace(tiny_corpus)


def names(workspace: Workspace) -> list[str]:
    found = sorted(path.stem for path in workspace.shards.glob("*.json"))
    assert found
    return found


def test_receipts(workspace: Workspace) -> None:
    for name in names(workspace):
        receipt = read_receipt(workspace, name)
        assert receipt_bytes(receipt) == workspace.receipt(name).read_bytes()
        assert content_root(receipt.arrays, receipt.records) == receipt.content_root


def test_manifest(workspace: Workspace) -> None:
    assert manifest_bytes(read_manifest(workspace)) == workspace.manifest.read_bytes()


def test_quarantine(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert read_quarantine(workspace) == []
    workspace.quarantine.write_bytes(b"".join(canonical_json(record) + b"\n" for record in (BY_PATH, BY_SAMPLE)))
    records = read_quarantine(workspace)
    assert b"".join(quarantine_line(record) + b"\n" for record in records) == workspace.quarantine.read_bytes()
    assert [record.public_name for record in records] == ["0" * 32, "1" * 32]


def test_plans(workspace: Workspace) -> None:
    plan = thaw(workspace.plan(0))
    assert head_bytes(plan) == (plan.folder / "plan.json").read_bytes()
    lines = (plan.folder / "shards.jsonl").read_bytes().splitlines()
    assert [shard.line() for shard in plan.lines()] == lines
    assert plan_hash(plan.settings, [PlannedShard.of_line(line).digest for line in lines]) == plan.hash
    # The hash rests on the canonical form, whatever the models make of it.
    settings = json.loads((plan.folder / "plan.json").read_bytes())["settings"]
    assert canonical_json(plain(plan.settings)) == canonical_json(settings)


def test_locks(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert read_lock(path) is None
    with held(path) as hold:
        record = read_lock(path)
        assert record is not None
        assert (record.token, record.state) == (hold.token, "working")
        assert json.dumps(plain(record)) == path.read_text()
    # What another version added is kept, and what it left out has a meaning.
    path.write_text('{"token": "x", "queue": 3}')
    record = read_lock(path)
    assert record is not None
    assert (plain(record), record.purpose, record.heartbeat) == ({"token": "x", "queue": 3}, "run", 0.0)
    for damaged in ("", "{", "[]", '{"pid": "many"}'):
        path.write_text(damaged)
        assert read_lock(path) is None


def without(values: Any, *paths: str) -> Any:
    """A copy of JSON values in which keys are not there; `*` goes through a list or a mapping."""
    copy = json.loads(json.dumps(values))
    for path in paths:
        *parents, last = path.split(".")
        places = [copy]
        for parent in parents:
            places = [v for p in places for v in (list(p.values() if isinstance(p, dict) else p) if parent == "*" else [p[parent]])]
        for place in places:
            del place[last]
    return copy


def test_records_from_before_a_key_was_there(workspace: Workspace) -> None:
    receipt = without(json.loads(workspace.receipt("shard-00000").read_bytes()), "repeat", "extents")
    old = parse(Receipt, canonical_json(receipt))
    assert (old.repeat, old.extents, plain(old)) == (None, {}, receipt)
    newer = ("tuning", "sanity", "execution.profile.int8", "generations.*.replaces", "privacy.group_key_id")
    manifest = without(json.loads(workspace.manifest.read_bytes()), *newer)
    older = parse(Manifest, canonical_json(manifest))
    assert (older.sanity, older.tuning, older.privacy.group_key_id, plain(older)) == (None, [], None, manifest)
    head = without(json.loads((workspace.plan(0) / "plan.json").read_bytes()), "replaces", "tuning", "settings.execution.profile")
    oldest = parse(PlanHead, canonical_json(head))
    assert (oldest.replaces, oldest.tuning, oldest.settings.execution.profile, plain(oldest)) == ((), (), None, head)


DAMAGE = (b"", b"{", b"\xff\xfe", b"[1]", b"null", b'{"format": "other"}', b"[" * 5000)


@pytest.mark.parametrize("damage", DAMAGE, ids=range(len(DAMAGE)))
def test_a_damaged_record_is_one_clear_error(tmp_path: Path, damage: bytes) -> None:
    workspace = Workspace(tmp_path)
    workspace.make()
    workspace.plan(0).mkdir(parents=True)
    readers: list[tuple[Path, Callable[[], object]]] = [
        (workspace.receipt("shard-00000"), lambda: read_receipt(workspace, "shard-00000")),
        (workspace.receipt("shard-00000"), lambda: committed(workspace, "shard-00000", "0" * 64)),
        (workspace.manifest, lambda: read_manifest(workspace)),
        (workspace.plan(0) / "plan.json", lambda: thaw(workspace.plan(0))),
    ]
    if damage:  # an empty list of quarantined inputs is a whole one
        readers.append((workspace.quarantine, lambda: read_quarantine(workspace)))
    for path, read in readers:
        path.write_bytes(damage)
        with pytest.raises(IntegrityError) as caught:
            read()
        assert "\n" not in str(caught.value)


def test_a_damaged_line_of_a_plan_is_one_clear_error(workspace: Workspace, tmp_path: Path) -> None:
    plan = thaw(workspace.plan(0)).model_copy(update={"folder": tmp_path})
    for damage in (b"{", b"[]", b"{}", b'{"samples": [{}]}'):
        (tmp_path / "shards.jsonl").write_bytes(damage)
        with pytest.raises(IntegrityError, match="line 1 is damaged"):
            list(plan.lines())


def test_no_json_and_no_record_are_told_apart() -> None:
    with pytest.raises(NoJsonError, match="is no JSON"):
        parse(Receipt, b"{")
    with pytest.raises(RecordError, match=r"format: Field required \(and \d+ more\)") as caught:
        parse(Receipt, b"{}")
    assert not isinstance(caught.value, NoJsonError)
