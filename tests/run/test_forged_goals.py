"""Results of attacks with a goal that are forged are found, by `verify` or by `verify --deep`."""


import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from tests.conftest import quiet
from tests.corpus.corpus_fuzz import fuzz
from tests.run.goal_cases import corpus_of_masks, stored

from medadv.common.hashing import hash_array
from medadv.evidence.rescore import rescore
from medadv.evidence.verify import find_damage

pytestmark = pytest.mark.usefixtures("inline")


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished corpus of masks; read only."""
    return corpus_of_masks(tmp_path_factory.mktemp("masks"))


def forge(corpus: Path, attack: str, result: str, place: int, value: int, *, array: bool = True) -> None:
    """A result of one sample in shard and receipt, with every hash made anew; `array` leaves the shard's array as it is."""
    path, receipt_path = corpus / "shards" / "shard-00000.h5", corpus / "shards" / "shard-00000.json"
    receipt = json.loads(receipt_path.read_bytes())
    receipt["records"][place]["attacks"][attack][result] = value
    if array:
        with h5py.File(path, "r+") as file:
            values = file[f"attacks/{attack}/{result}"]
            changed = values[...]
            changed[place] = value
            values[...] = changed
        receipt["arrays"][f"attacks/{attack}/{result}"] = hash_array(changed)
    receipt_path.write_text(json.dumps(receipt))
    fuzz.reseal(corpus)


def recount(corpus: Path) -> None:
    """The manifest's figures as they follow from what was forged."""
    path = corpus / "manifest.json"
    manifest = json.loads(path.read_bytes())
    able, success = stored(corpus, "attackable"), stored(corpus, "success")
    for name, values in able.items():
        rows = values == 1
        manifest["metrics"][name] |= {"attackable": int(rows.sum()), "success": float(success[name][rows].mean()) if rows.any() else None}
    manifest["sanity"] = None
    path.write_text(json.dumps(manifest))
    fuzz.reseal(corpus)


def row_of(corpus: Path, level: int) -> int:
    with h5py.File(corpus / "shards" / "shard-00000.h5") as file:
        return int(file["image"][:, 0, 12, 12].tolist().index(level))


FORGED: list[tuple[str, Callable[[Path], None], str, bool]] = [
    ("a failure that is not counted", lambda c: forge(c, "vanish", "attackable", row_of(c, 170), 0), "attackable is 3, from", False),
    ("a success that had nothing to do", lambda c: forge(c, "vanish", "attackable", row_of(c, 125), 0), "had nothing to do", False),
    ("only the receipt", lambda c: forge(c, "turn", "attackable", row_of(c, 170), 1, array=False), "the receipt says 1", False),
    ("with the manifest's count", lambda c: (forge(c, "vanish", "attackable", row_of(c, 170), 0), recount(c))[0], "", True),
    ("a success with the manifest's count", lambda c: (forge(c, "vanish", "success", row_of(c, 170), 1), recount(c))[0], "", True),
]


@pytest.mark.parametrize(("what", "make", "said", "deep"), FORGED, ids=[row[0] for row in FORGED])
def test_forged_results_are_found(masks: Path, tmp_path: Path, what: str, make: Callable[[Path], None], said: str, deep: bool) -> None:
    """By `verify` where anything contradicts it, by `verify --deep` in any case."""
    corpus = Path(shutil.copytree(masks, tmp_path / "corpus"))
    make(corpus)
    plainly = [str(finding) for finding in find_damage(corpus)]
    assert any(said in finding for finding in plainly) if said else not plainly, plainly
    if deep:
        assert any("the victim answers otherwise" in str(finding) for finding in rescore(corpus, [], False, quiet))


@pytest.mark.parametrize("attack", ["vanish", "away"])
def test_an_array_that_is_missing_or_too_many_is_found(masks: Path, tmp_path: Path, attack: str) -> None:
    """Without it success would be counted over other samples, and with one that no goal asks for too."""
    corpus = Path(shutil.copytree(masks, tmp_path / "corpus"))
    path, receipt_path = corpus / "shards" / "shard-00000.h5", corpus / "shards" / "shard-00000.json"
    receipt = json.loads(receipt_path.read_bytes())
    key = f"attacks/{attack}/attackable"
    with h5py.File(path, "r+") as file:
        if attack == "vanish":
            del file[key]
            del receipt["arrays"][key]
        else:
            values = np.ones(len(file["image"]), np.uint8)
            file.create_dataset(key, data=values, chunks=values.shape, fletcher32=True)
            receipt["arrays"][key] = hash_array(values)
    for record in receipt["records"]:
        if attack == "vanish":
            del record["attacks"][attack]["attackable"]
        else:
            record["attacks"][attack]["attackable"] = 1
    receipt_path.write_text(json.dumps(receipt))
    fuzz.reseal(corpus)
    said = "missing" if attack == "vanish" else "belongs to attacks with a goal"
    assert any(said in str(finding) and key in str(finding) for finding in find_damage(corpus))
