"""The project's documents, cut into fenced blocks, with the marks that stand before them.

A block of shell commands or Python is run by test_documents.py, in the order of its document and in one folder a document, unless the line
before it says `<!-- not run: reason -->`. `<!-- file: NAME -->` before any block has its text written to NAME in that folder first.
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("", "manifests/", "pipeline/", "scripts/", "scripts/*/", "transforms/")
DOCUMENTS = sorted(path.relative_to(ROOT).as_posix() for folder in FOLDERS for path in ROOT.glob(f"{folder}*.md"))
SHELL, PYTHON = ("sh", "bash", "shell", "console"), ("python", "py", "pycon")
NO_COMMANDS = ("yaml", "json", "jsonc", "text", "toml", "")
"""Languages of blocks that show something and are not run."""

MARK = re.compile(r"<!-- (not run|file): (.+?) -->")


@dataclass(frozen=True)
class Block:
    """One fenced block. line: of its fence, counted from 1.  excuse: why it is not run.  file: where its text is written."""

    document: str
    line: int
    language: str
    text: str
    excuse: str | None = None
    file: str | None = None

    @property
    def is_command(self) -> bool:
        """Whether a reader would run it."""
        return self.language in SHELL + PYTHON

    @property
    def place(self) -> str:
        """For messages."""
        return f"{self.document}:{self.line}"


def blocks(document: str, text: str) -> list[Block]:
    """Every fenced block of a document, in order. Raises ValueError for a fence that is never closed."""
    found: list[Block] = []
    marks: dict[str, str] = {}
    fence: tuple[int, str, str] | None = None
    held: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if fence is None:
            opened = re.match(r"(`{3,}|~{3,})\s*(\S*)", stripped)
            if opened:
                fence, held = (number, opened[1], opened[2].lower()), []
            elif mark := MARK.fullmatch(stripped):
                marks[mark[1]] = mark[2]
            elif stripped:
                marks = {}
        elif stripped == fence[1]:
            found.append(Block(document, fence[0], fence[2], "\n".join(held) + "\n", marks.get("not run"), marks.get("file")))
            fence, marks = None, {}
        else:
            held.append(line)
    if fence is not None:
        raise ValueError(f"{document}:{fence[0]}: the fence is never closed")
    return found


def read(document: str) -> str:
    """A document's text."""
    return (ROOT / document).read_text(encoding="utf-8")


def commands(text: str) -> list[str]:
    """The commands of a shell block: one a line, continued lines joined, comments and prompts taken off."""
    lines = re.sub(r"\s*\\\n\s*", " ", text).splitlines()
    return [line.strip().removeprefix("$ ") for line in lines if line.strip() and not line.strip().startswith("#")]
