"""Which epoch is it? A number that a data set shares with the workers of its loaders, and with no other process."""

import os
from typing import Any

import torch
from torch.utils.data import get_worker_info


class SharedEpoch:
    """The epoch of one data set; -1 until somebody sets one.

    In shared memory, so that workers that live on see the next one. A process that was given the data set made elsewhere, such as a rank,
    has an epoch that no other moves: ask `own` wherever workers may be about to start.
    """

    def __init__(self) -> None:
        self._value, self._process = torch.full((), -1, dtype=torch.int64).share_memory_(), os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        self.own()
        return self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # A copy's tensor is plain memory; what torch sent to a worker is shared already, and stays what it was.
        self._value.share_memory_()

    def own(self) -> None:
        """In another process than made it, but for workers: from now on a number of its own."""
        if get_worker_info() is None and os.getpid() != self._process:
            self._value, self._process = self._value.clone().share_memory_(), os.getpid()

    @property
    def value(self) -> int:
        """As it was set last."""
        return int(self._value)

    def set(self, epoch: int) -> None:
        """For this process and its workers."""
        self.own()
        self._value.fill_(epoch)
