"""The structured log of a corpus: one JSON object a line, appended by every run. No source paths, no patients."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


class Log:
    """Appends events to a file; each line is one write, so that runs and parts do not mix theirs."""

    def __init__(self, path: Path, **always: Any) -> None:
        self.path, self.always = path, always
        path.parent.mkdir(exist_ok=True)

    def __call__(self, event: str, **values: Any) -> None:
        """Append an event. A log that cannot be written stops nothing: what matters is in the receipts."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": now, "event": event, **self.always, **values}, ensure_ascii=False) + "\n"
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(descriptor, line.encode("utf-8", "backslashreplace"))
            finally:
                os.close(descriptor)
        except OSError:
            return
