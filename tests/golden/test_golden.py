"""What must not change while the code does: plans, ids, stored inputs, and the keys of the records that others read.

`scripts/golden --write` writes golden.json anew; that is right only where a new meaning version, or a key added on purpose, says why.
"""

import json
from pathlib import Path

import pytest
from tests.conftest import quiet
from tests.golden.corpora import SPECS, frozen_facts, write_case

from medadv.prepare.request import Options
from medadv.run.run import run

pytestmark = pytest.mark.usefixtures("inline")
EXPECTED = json.loads(Path(__file__).with_name("golden.json").read_text())


@pytest.mark.parametrize("task", SPECS)
def test_a_corpus_has_the_plan_ids_inputs_and_keys_that_it_always_had(task: str, tmp_path: Path) -> None:
    result = run(write_case(task, tmp_path / task), Options(), quiet)
    found = frozen_facts(result.corpus)
    for key, value in EXPECTED[task].items():
        assert found[key] == value, key
