"""Open a damaged shard in a process that may crash: reads a question on standard input, answers findings on standard output."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from medadv.common.record import Closed, parse
from medadv.corpus.manifest import Manifest
from medadv.corpus.receipt import Receipt
from medadv.evidence.content import check_content
from medadv.evidence.finding import Finding
from medadv.store.hold import ShardError
from medadv.store.reader import open_shard


class Question(Closed):
    """Which file, and what it should hold. name: for the findings."""

    path: Path
    name: str
    receipt: Receipt
    manifest: Manifest


def probe(question: Question) -> list[Finding]:
    """Findings about the arrays of a file that is known to be damaged."""
    try:
        # This process is the one that may hang or crash.
        with open_shard(question.path, check=False) as file:
            return check_content(question.name, file, question.receipt, question.manifest, {})[0]
    except ShardError as error:
        return [Finding(question.name, str(error).removeprefix(f"{question.path}: "))]


if __name__ == "__main__":
    json.dump([asdict(finding) for finding in probe(parse(Question, sys.stdin.buffer.read()))], sys.stdout)
