"""How is text shown, in a terminal and in a spreadsheet, also where its writer is not known?"""

from collections.abc import Sequence

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet take a cell for a formula."""


def printable(text: str) -> str:
    """The text with every character that is none to look at written as an escape: a terminal obeys none of it, and a line stays one."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def cell(text: str) -> str:
    """The text as a cell of a CSV file: one that a spreadsheet would compute gets an apostrophe in front. Numbers stay numbers."""
    try:
        float(text)
    except ValueError:
        return f"'{text}" if text.startswith(FORMULA) else text
    return text


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Rows of a table for a terminal, every column as wide as its widest cell."""
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines)
