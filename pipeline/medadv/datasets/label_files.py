"""Label files as people write them: JSON and CSV of any system, read whole, or refused in one line."""

import csv
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

from medadv.common.errors import SpecError
from medadv.datasets.source import MAX_LABEL_FILE_BYTES

DELIMITERS = ",;\t"
"""What spreadsheets put between cells; the header's most frequent one counts, the first of these where two are equal."""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, with or without a byte order mark.  Raises SpecError."""
    try:
        document = json.loads(read_text(path))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise SpecError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(document, dict):
        raise SpecError(f"{path}: holds a {type(document).__name__}, expected an object")
    return document


def read_rows(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Columns, and each row with the number of its record; cells without the blanks around them, empty rows left out.  Raises SpecError."""
    try:
        text = read_text(path)
        separator, first = None, text.partition("\n")[0].strip()
        if first.lower().startswith("sep=") and len(first) == 5:  # a line that spreadsheets write for one another
            separator, text = first[4], text.partition("\n")[2]
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, delimiter=separator or _delimiter(text))
        rows = list(reader)
        columns = [name.strip() for name in reader.fieldnames or []]
    except (OSError, UnicodeDecodeError, csv.Error, TypeError) as error:
        raise SpecError(f"{path}: cannot be read as CSV ({error})") from None
    if any(None in row or None in row.values() for row in rows):
        raise SpecError(f"{path}: a row has more or fewer fields than the header")
    if repeated := [name for name, count in Counter(columns).items() if name and count > 1]:
        raise SpecError(f"{path}: several columns are called {repeated[0]!r}")
    cells = [{name.strip(): value.strip() for name, value in row.items()} for row in rows]
    return columns, [(number, row) for number, row in enumerate(cells, 2) if any(row.values())]


def _delimiter(text: str) -> str:
    header = text.lstrip("\r\n").partition("\n")[0]
    return max(DELIMITERS, key=lambda each: len(next(csv.reader([header], delimiter=each), [])))


def read_text(path: Path) -> str:
    """UTF-8 with or without a byte order mark, or UTF-16 with one.  Raises SpecError, OSError, UnicodeDecodeError."""
    if not path.is_file():
        raise SpecError(f"{path}: no such file (data.path is relative to the spec)")
    if path.stat().st_size > MAX_LABEL_FILE_BYTES:
        raise SpecError(f"{path}: larger than {MAX_LABEL_FILE_BYTES} bytes")
    data = path.read_bytes()
    return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
