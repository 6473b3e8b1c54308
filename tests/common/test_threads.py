"""Threads beside an attack change when things are done, not what comes out."""

import threading
import time

import pytest

from medadv.common.threads import SHARERS, helpers, in_order


def test_results_come_in_order_and_few_items_are_taken_ahead() -> None:
    taken: list[int] = []
    lock, busy, most, two = threading.Lock(), 0, 0, threading.Barrier(2)

    def items() -> object:
        for item in range(40):
            taken.append(item)
            yield item

    def slow(item: int) -> int:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        if item < 2:
            # However busy the machine is, these are under way together.
            two.wait(20)
        time.sleep(0.002 * (item % 3))
        with lock:
            busy -= 1
        return item * item

    found = in_order(slow, items(), 3)  # type: ignore[arg-type]
    for expected in range(40):
        assert next(found) == expected * expected
        assert len(taken) <= expected + 6
    assert 1 < most <= 3
    assert list(in_order(lambda item: item * item, range(5), 1)) == [0, 1, 4, 9, 16]


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
