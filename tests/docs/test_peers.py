"""scripts/bench/PEERS.md: every cell has a source, and those of this repository are there."""

import re
from pathlib import Path

import pytest
from tests.docs.documents import ROOT, read

DOCUMENT = "scripts/bench/PEERS.md"
PINNED = re.compile(r"https://github\.com/[\w.-]+/[\w.-]+/(?:(?:blob|tree)/[0-9a-f]{40}/[\w./-]+|issues/\d+)")
CELL = re.compile(r"\[([^][]+)\]\[(\w+)\]")
PEERS = ("torchattacks", "foolbox", "ART", "adv-lib", "AutoAttack", "secml-torch", "MONAI", "litdata", "streaming")


def tables(text: str) -> list[list[list[str]]]:
    """Every table that has a column a package: its rows, the header first, as lists of cells."""
    found: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if line.startswith("|") and not line.startswith("|---"):
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        elif not line.startswith("|") and found[-1]:
            found.append([])
    return [rows for rows in found if rows and rows[0][1:] == ["medadv", *PEERS]]


def sources(text: str) -> dict[str, str]:
    """Reference -> where it leads."""
    return dict(re.findall(r"^\[(\w+)\]: (\S+)$", text, flags=re.MULTILINE))


def unsourced(text: str) -> list[str]:
    """Cells that are not a word with a source that is told below."""
    known = sources(text)
    cells = [(row[0], cell) for table in tables(text) for row in table[1:] for cell in row[1:]]
    return [f"{name}: {cell}" for name, cell in cells if (link := CELL.fullmatch(cell)) is None or link[2] not in known]


def test_features_and_figures_stand_beside_all_nine() -> None:
    features, figures = tables(read(DOCUMENT))
    assert len(features) > 20
    assert len(figures) > 8
    assert {len(row) for row in (*features, *figures)} == {11}


def test_every_cell_has_a_source() -> None:
    assert unsourced(read(DOCUMENT)) == []


def test_every_source_is_used_and_leads_somewhere_that_stays() -> None:
    text = read(DOCUMENT)
    used = {reference for _, reference in CELL.findall(text)}
    assert set(sources(text)) == used
    for reference, target in sources(text).items():
        if target.startswith("https://"):
            assert PINNED.fullmatch(target), f"{reference} is neither a file at a commit nor an issue: {target}"
        else:
            there = (ROOT / DOCUMENT).parent / target.partition("#")[0]
            assert there.exists(), f"{reference} leads to {target}, which is not there"


def test_cells_of_a_package_lead_to_that_package() -> None:
    text = read(DOCUMENT)
    known = sources(text)
    for row in tables(text)[0][1:]:
        homes = [re.match(r"https://github\.com/([\w.-]+/[\w.-]+)/", known[CELL.fullmatch(cell)[2]]) for cell in row[1:]]  # type: ignore[index]
        assert homes[0] is None, row[0]
        assert [home and home[1].partition("/")[2] for home in homes[1:]] == [
            "adversarial-attacks-pytorch", "foolbox", "adversarial-robustness-toolbox", "adversarial-library", "auto-attack", "secml-torch",
            "MONAI", "litdata", "streaming",
        ], row[0]  # fmt: skip


def test_figures_are_in_the_documents_that_they_name() -> None:
    """Of the table of figures: each number stands in the file that its cell leads to, or is one there, rounded."""
    text = read(DOCUMENT)
    known = sources(text)
    for row in tables(text)[1][1:]:
        for cell in row[1:]:
            link = CELL.fullmatch(cell)
            assert link is not None
            place = (ROOT / DOCUMENT).parent / known[link[2]].partition("#")[0]
            numbers = re.findall(r"\d+(?:\.\d+)?", re.sub(r"`[^`]*`", "", link[1]))
            told = [float(number) for number in re.findall(r"(?<![\w.])\d+(?:\.\d+)?", section(place, known[link[2]]))]
            for number in numbers:
                half = 0.5001 * 10.0 ** -len(number.partition(".")[2])
                assert any(abs(each - float(number)) <= half for each in told), f"{row[0]}: {number} is not in {place.name}"


def section(place: Path, target: str) -> str:
    """A document, or of this one only what stands below the heading, so that the table is no source of itself."""
    text = place.read_text(encoding="utf-8")
    return text.partition("## Strength at equal passes")[2].partition("\n[")[0] if place.name == "PEERS.md" else text


@pytest.mark.parametrize("cell", ["yes", "[yes]", "[yes][z9]"])
def test_a_cell_without_a_source_is_found(cell: str) -> None:
    head = "| | " + " | ".join(["medadv", *PEERS]) + " |\n|---" + "|---" * 10 + "|\n"
    row = "| a | " + " | ".join(["[no][x1]"] * 9 + [cell]) + " |\n"
    assert unsourced(f"{head}{row}\n[x1]: there\n") == [f"a: {cell}"]
