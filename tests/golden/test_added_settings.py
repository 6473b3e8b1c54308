"""The rule for settings that are added once corpora exist: at the value that means what was done before, no plan knows of them."""

import json
from pathlib import Path
from typing import ClassVar

import pytest
from tests.conftest import quiet
from tests.golden.corpora import write_case

from medadv.common.errors import SpecError
from medadv.common.record import plain
from medadv.prepare.request import Options
from medadv.prepare.settings import frozen_settings
from medadv.run.run import run
from medadv.spec.attack import AttackSettings
from medadv.spec.reading import load_spec
from medadv.victims.victim import Identity

EXPECTED = json.loads(Path(__file__).with_name("golden.json").read_text())
IDENTITY = Identity("0" * 64, None, 1)


class Longer(AttackSettings):
    """Attack settings of a later version."""

    ADDED: ClassVar[frozenset[str]] = AttackSettings.ADDED | {"patience"}
    patience: int = 1


def test_a_setting_at_its_old_meaning_is_in_no_dump() -> None:
    settings = {"attack": "pgd", "epsilon": 8}
    assert Longer(**settings).model_dump(mode="json") == AttackSettings(**settings).model_dump(mode="json")
    assert Longer(**settings, patience=1).model_dump(mode="json") == AttackSettings(**settings).model_dump(mode="json")
    assert Longer(**settings, patience=2).model_dump(mode="json")["patience"] == 2
    # What an old plan says is read as what it meant.
    assert Longer(**AttackSettings(**settings).model_dump(mode="json")).patience == 1


@pytest.mark.usefixtures("inline")
def test_a_setting_that_is_added_holds_the_plan_hash_and_the_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_case("classification", tmp_path / "case")
    corpus = run(path, Options(), quiet).corpus
    spec = load_spec(path)
    before = frozen_settings(spec, IDENTITY, "level8", None)
    later = spec.model_copy(update={"attacks": {name: Longer(**a.model_dump()) for name, a in spec.attacks.items()}})
    assert plain(frozen_settings(later, IDENTITY, "level8", None)) == plain(before)
    assert json.loads((corpus / ".medadv" / "plans" / "0000" / "plan.json").read_text())["hash"] == EXPECTED["classification"]["plan"]
    # The whole way, with a run that reads the later version's spec: nothing new at the old meaning, refused at another one.
    monkeypatch.setattr("medadv.run.run.asked", lambda *_: (later, []))
    assert run(path, Options(), quiet).new_shards == 0
    more = later.model_copy(update={"attacks": {name: a.model_copy(update={"patience": 2}) for name, a in later.attacks.items()}})
    monkeypatch.setattr("medadv.run.run.asked", lambda *_: (more, []))
    with pytest.raises(SpecError, match=r"patience: null -> 2"):
        run(path, Options(), quiet)
