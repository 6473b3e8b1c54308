"""What a hardening was begun with stays what it goes on with; what was changed meanwhile is told, and can be put back."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import quiet
from tests.hardening.hardening_cases import classification

from medadv.common.errors import SpecError
from medadv.common.stop import Stop
from medadv.datasets.part import part_of
from medadv.datasets.source import Listing, Source
from medadv.hardening import measuring
from medadv.hardening.folder import Home
from medadv.hardening.harden import Hardened, harden
from medadv.prepare.request import Options
from medadv.spec.data import PartSettings

ONCE = [{"attack": "fgsm"}]
SHARE = 0.3


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "resamples_for", lambda *_: 30)


def hardened(path: Path, now: int | None = None) -> Hardened:
    return harden(path, Options(), now, quiet, Stop())


def rows_of(path: Path) -> list[dict[str, str]]:
    with (path.parent / "data" / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[dict[str, str]]) -> None:
    with (path.parent / "data" / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def cut_off(rows: list[dict[str, str]]) -> set[str]:
    """Images of validation."""
    sources = [Source((row["file"],), 0, row["patient"]) for row in rows if row["split"] == "train"]
    return {source.images[0] for source in part_of(Listing(Path(), sources), PartSettings(share=SHARE, take="cut")).sources}


def renamed(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The rows with another name of one patient, so that as many others are cut off."""
    before = cut_off(rows)
    patient = next(row["patient"] for row in rows if row["file"] not in before)
    for number in range(1000):
        changed = [{**row, "patient": f"p-{number}"} if row["patient"] == patient else row for row in rows]
        if (after := cut_off(changed)) != before and len(after) == len(before):
            return changed
    raise AssertionError("no such name")


def relabelled(rows: list[dict[str, str]], of: Callable[[dict[str, str]], bool]) -> list[dict[str, str]]:
    """The rows with another label of the first one of a kind."""
    first = next(row for row in rows if of(row))
    return [{**row, "grade": str(1 - int(row["grade"]))} if row is first else row for row in rows]


@pytest.mark.usefixtures("inline")
def test_changed_inputs_are_told_and_once_they_are_put_back_it_goes_on(tmp_path: Path) -> None:
    path = classification(tmp_path / "changed", 12, 4, validation=SHARE, validation_attacks=ONCE, final_attacks=ONCE)
    home, rows = Home(path.parent / "hardenings" / "tiny"), rows_of(path)
    held_back = cut_off(rows)
    hardened(path, 1)
    shutil.copytree(path.parent, tmp_path / "undisturbed")
    # One that was begun before anything was written down is held against its last generation.
    home.images.unlink()
    for changed, what in (
        (renamed(rows), "the images that are trained on"),
        (relabelled(rows, lambda row: row["split"] == "train" and row["file"] not in held_back), "the images that are trained on"),
        (relabelled(rows, lambda row: row["file"] in held_back), "the images of validation"),
    ):
        write(path, changed)
        with pytest.raises(SpecError, match=f"{what} are not what they were"):
            hardened(path, 1)
    write(path, rows)
    hidden = next(path.parent / "data" / name for name in sorted(held_back))
    aside = hidden.rename(tmp_path / "aside.png")
    with pytest.raises(SpecError, match="put them back and run again"):
        hardened(path, 1)
    assert not (home.generation(2) / "validation").exists()
    aside.rename(hidden)
    assert hardened(path, 1).record.left == 1

    def until_the_control(phase: str, *_: object) -> None:
        if phase == "final/control":
            raise KeyboardInterrupt

    until_the_control.message = lambda text: None  # type: ignore[attr-defined]
    with pytest.raises(KeyboardInterrupt):
        harden(path, Options(), None, until_the_control, Stop())  # type: ignore[arg-type]
    write(path, relabelled(rows, lambda row: row["split"] == "test"))
    with pytest.raises(SpecError, match="the final images are not what they were"):
        hardened(path)
    write(path, rows)
    assert hardened(path).record == hardened(tmp_path / "undisturbed" / path.name).record
