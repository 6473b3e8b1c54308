"""The short form of scripts/fuzz_inputs.py: damaged real inputs are read as an independent reader reads them, or refused."""

import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from tests.conftest import load_script

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"

CASES = range(10_000, 10_110)
"""Cases that the long form's 2,000 do not hold."""


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    # Its child process imports it from there.
    sys.path.insert(0, str(SCRIPTS))
    return load_script("fuzz_inputs.py")


def test_damaged_inputs(fuzz: ModuleType, real_data: Path, recwarn: pytest.WarningsRecorder) -> None:
    results = fuzz.run_cases(real_data, CASES, seed=0)
    faults = [(index, case.mutation, verdict, detail) for index, case, verdict, detail in results if verdict in fuzz.FAULTS]
    assert faults == []
    verdicts = Counter(verdict for _, _, verdict, _ in results)
    assert verdicts["equal"] >= 15
    assert verdicts["refused"] >= 40
    assert {case.kind for _, case, _, _ in results} == {"dicom", "series", "nifti", "picture"}


def test_the_judge_notices(fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that errs by one level, raises, or accepts what is inconsistent does not pass."""
    from PIL import Image

    path = tmp_path / "a.png"
    Image.new("RGB", (30, 20), (10, 20, 30)).save(path)
    case = fuzz.Case("picture", (path,), "none")
    assert fuzz.judge(case)[0] == "equal"
    right = fuzz.read_colour(path, modality="endoscopy")

    def wrong(*_: object, **__: object) -> object:
        right.image[0, 0, 0] += 1
        return right

    def broken(*_: object, **__: object) -> object:
        raise KeyError("x")

    monkeypatch.setattr(fuzz, "read_colour", wrong)
    assert fuzz.judge(case)[0] == "unequal"
    assert fuzz.judge(fuzz.Case("picture", (path,), "none", consistent=False))[0] == "accepted"
    monkeypatch.setattr(fuzz, "read_colour", broken)
    assert fuzz.judge(case)[0] == "error"
