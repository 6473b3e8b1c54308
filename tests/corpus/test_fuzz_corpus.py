"""The short form of scripts/fuzz_corpus.py: whatever is changed in a corpus, every reader reads it or refuses it in one line."""

import os
from collections import Counter
from pathlib import Path

import pytest
from tests.corpus.corpus_fuzz import fuzz

from medadv.store import examine

COUNT = int(os.environ.get("MEDADV_FUZZ_CASES", "24"))
"""`.ci/run` asks for a hundred."""
CASES = range(10_000, 10_000 + COUNT)
"""Cases that the long form's 2,000 do not hold."""


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_changed_corpora(tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "LOOK_SECONDS", 2.0)
    monkeypatch.setattr(examine, "SECONDS", 2.0)
    results = list(fuzz.run_cases(tiny_corpus, CASES, seed=0))
    assert [(index, case, verdict, detail) for index, case, verdict, detail in results if verdict in fuzz.FAULTS] == []
    verdicts = Counter(verdict for _, _, verdict, _ in results)
    assert verdicts["refused"] >= 0.7 * COUNT
    assert {case.reader for _, case, _, _ in results} == set(fuzz.READERS)
    assert 0.3 * COUNT <= sum(case.resealed for _, case, _, _ in results) <= 0.7 * COUNT
