"""Run third-party readers without their warnings and log lines, which quote header values."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# The filters of `warnings` belong to the process, so only one thread at a time may swap them. The readers hold the
# interpreter's lock for most of their work anyway.
_LOCK = threading.RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence pydicom, Pillow and nibabel: patient data must not reach a log."""
    loggers = [logging.getLogger("pydicom"), logging.getLogger("nibabel.global"), logging.getLogger("PIL")]
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = [logger.disabled for logger in loggers]
        for logger in loggers:
            logger.disabled = True
        try:
            yield
        finally:
            for logger, disabled in zip(loggers, before, strict=True):
                logger.disabled = disabled
