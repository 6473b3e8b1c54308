"""Signals that ask a run to stop. They only leave a note; whoever can stop without harm reads it."""

import signal
from typing import Any

from medadv.common.stop import SIGNALS


def ignore_signals() -> None:
    """Leave them to somebody else."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def dask_setup(worker: Any) -> None:
    """Preload of local workers, however they were started."""
    ignore_signals()
