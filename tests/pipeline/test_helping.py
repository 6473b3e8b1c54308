"""Threads beside an attack change when things are done, not what comes out."""

import threading
import time
from pathlib import Path

import pytest
from tests.conftest import CLASSIFIER, draw_pictures, quiet, save_victim, tiny_spec

from medadv.common.threads import SHARERS, helpers, in_order
from medadv.prepare.request import Options
from medadv.run import shard
from medadv.run.run import run


def test_results_come_in_order_and_few_items_are_taken_ahead() -> None:
    taken: list[int] = []
    lock, busy, most = threading.Lock(), 0, 0

    def items() -> object:
        for item in range(40):
            taken.append(item)
            yield item

    def slow(item: int) -> int:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        time.sleep(0.002 * (item % 3))
        with lock:
            busy -= 1
        return item * item

    found = in_order(slow, items(), 3)  # type: ignore[arg-type]
    for expected in range(40):
        assert next(found) == expected * expected
        assert len(taken) <= expected + 6
    assert 1 < most <= 3
    assert list(in_order(slow, range(5), 1)) == [0, 1, 4, 9, 16]


def test_an_error_reaches_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda x: 1 / x, [2, 1, 0, 3], 2))


def test_cores_attack_unless_a_gpu_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)))
    assert helpers("cpu") == 1
    assert helpers("cuda") == 16
    monkeypatch.setenv(SHARERS, "4")
    assert helpers("cuda") == 4
    monkeypatch.setenv(SHARERS, "99")
    assert helpers("cuda") == 1


@pytest.mark.usefixtures("inline")
def test_a_corpus_made_with_helpers_is_the_same_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_pictures(tmp_path / "data", 9)
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    spec = tiny_spec(tmp_path)
    before = run(spec, Options(), quiet)
    monkeypatch.setattr(shard, "helpers", lambda _: 4)
    after = run(spec, Options(out=tmp_path / "other"), quiet)
    assert before.manifest.content_root == after.manifest.content_root
    assert len(before.manifest.shards) == 3
