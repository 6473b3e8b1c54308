"""How do workers leave signals to the run? They ignore them; the run, which hears them, grants running shards a grace time."""

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
