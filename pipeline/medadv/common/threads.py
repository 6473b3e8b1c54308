"""Work of the processor beside a GPU's: loading and packing in several threads, with the results in the order of the work."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
SHARERS = "MEDADV_SHARERS"
"""Environment variable: how many workers of this machine share its cores."""


def helpers(device: str) -> int:
    """Threads that may load and pack beside an attack: one on a CPU, whose cores attack; a worker's share of the cores beside a GPU."""
    if device != "cuda":
        return 1
    return max(1, len(os.sched_getaffinity(0)) // int(os.environ.get(SHARERS, "1")))


def in_order(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """`map` in so many threads; the results are those of one thread. At most twice as many items as threads are under way."""
    if threads == 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="helping") as pool:
        under_way: deque[Future[Result]] = deque()
        for item in items:
            under_way.append(pool.submit(function, item))
            if len(under_way) == 2 * threads:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
