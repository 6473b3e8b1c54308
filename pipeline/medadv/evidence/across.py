"""Several corpora given together, such as training and test: no sample and no patient may stand in two splits."""

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from medadv.corpus.manifest import Manifest
from medadv.corpus.opening import open_corpus
from medadv.store.reader import read_texts

SHOWN = 5


def check_across(corpora: Sequence[Path], links: bool = False) -> tuple[list[str], list[str]]:
    """What crosses splits, and what could not be compared, one line each.

    Sample ids are content hashes and compare anywhere. Group ids are keyed: they compare where both corpora were made with one key
    (`privacy.group_key_id`). Two corpora of the same split may share samples: they are attacks of the same images.
    """
    problems: list[str] = []
    notes: list[str] = []
    manifests = {corpus: open_corpus(corpus, links=links) for corpus in corpora}

    # Each corpus is read once, not once a pair.
    @cache
    def samples(corpus: Path) -> set[str]:
        return set(_samples(corpus, manifests[corpus]))

    @cache
    def groups(corpus: Path) -> set[str]:
        return set(_groups(corpus, manifests[corpus]))

    for number, first in enumerate(corpora):
        for second in corpora[number + 1 :]:
            one, other = manifests[first], manifests[second]
            if one.data.split == other.data.split:
                continue
            pair = f"{first} ({one.data.split}) and {second} ({other.data.split})"
            problems += _shared("samples", pair, samples(first) & samples(second))
            keys = [manifest.privacy.group_key_id for manifest in (one, other)]
            if keys[0] is not None and keys[0] == keys[1]:
                problems += _shared("groups", pair, groups(first) & groups(second))
            else:
                notes.append(f"{pair}: groups cannot be compared, since their hashes were made with different keys")
    return problems, notes


def _shared(what: str, pair: str, shared: set[str]) -> list[str]:
    if not shared:
        return []
    listed = ", ".join(sorted(shared)[:SHOWN]) + (", …" if len(shared) > SHOWN else "")
    return [f"{pair}: {len(shared)} {what} stand in both splits: {listed}"]


def _samples(corpus: Path, manifest: Manifest) -> Iterator[str]:
    for entry in manifest.shards:
        receipt, _ = entry.receipt(corpus)
        # A slice's id ends with its number: the image it comes from is what must not cross.
        yield from (record.id.partition("-")[0] for record in (receipt.records if receipt else ()))


def _groups(corpus: Path, manifest: Manifest) -> Iterator[str]:
    for entry in manifest.shards:
        yield from read_texts(corpus / entry.path, "group_id")
