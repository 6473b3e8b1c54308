"""Open a damaged shard in a process that may crash: reads a question on standard input, answers findings on standard output."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medadv.evidence.content import check_content
from medadv.evidence.finding import Finding
from medadv.store.reader import open_shard


def probe(question: dict[str, Any]) -> list[Finding]:
    """Findings about the arrays of a file that is known to be damaged."""
    try:
        with open_shard(Path(question["path"])) as file:
            return list(check_content(question["name"], file, question["receipt"], question["manifest"]))
    except OSError:
        return [Finding(question["name"], "HDF5 cannot open it")]


if __name__ == "__main__":
    json.dump([asdict(finding) for finding in probe(json.load(sys.stdin))], sys.stdout)
