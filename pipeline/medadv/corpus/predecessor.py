"""What did an earlier corpus leave of a sample? Its perturbations, for who starts from them, held against the content root.

Manifest, receipts and shards may have been changed by anybody: what is read is what the content root stands for, or refused.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from medadv.common.errors import IntegrityError, SpecError
from medadv.common.hashing import FileIdentity, file_identity, hash_array
from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import Manifest
from medadv.corpus.opening import VALUES, open_corpus, reading
from medadv.corpus.receipt import Receipt, content_root
from medadv.corpus.roots import chained_root
from medadv.datasets.labels import Array
from medadv.spec.start import PlannedStart
from medadv.store.codecs import require_codec
from medadv.store.layout import PERTURBATION
from medadv.store.reader import open_files

RECEIPTS = 8
"""Kept at a time: consecutive samples of two corpora of the same inputs stand together."""


class Predecessor:
    """An earlier corpus, as a later one reads it."""

    def __init__(self, root: Path, manifest: Manifest, attack: str) -> None:
        self.root, self.manifest, self.attack = root, manifest, attack
        self.receipt = lru_cache(maxsize=RECEIPTS)(self._receipt)
        self._places: dict[str, tuple[int, int]] | None = None

    @property
    def start(self) -> PlannedStart:
        """What a plan calls it."""
        return PlannedStart(content_root=self.manifest.content_root, attack=self.attack)

    @property
    def places(self) -> dict[str, tuple[int, int]]:
        """Number of the shard in the manifest, and row, of every sample.  IntegrityError where a receipt is not as it was committed."""
        if self._places is None:
            numbers = range(len(self.manifest.shards))
            self._places = {record.id: (n, row) for n in numbers for row, record in enumerate(self._receipt(n).records)}
        return self._places

    def starts(self, ids: Sequence[str], images: Array) -> tuple[Array, Array]:
        """Perturbations of samples, as `Starts` gives them.  ids: one a sample.  images: clean, (n, C, *spatial).

        A sample that this corpus does not hold, or holds as another image (another shape, otherwise preprocessed), has none.
        Raises IntegrityError: what would be read is damaged.
        """
        given, warm = np.zeros(images.shape, np.int16), np.zeros(len(ids), np.uint8)
        for row, (sample, image) in enumerate(zip(ids, images, strict=True)):
            if (found := self._perturbation(sample, image)) is not None:
                given[row], warm[row] = found, 1
        return given, warm

    def _perturbation(self, sample: str, image: Array) -> Array | None:
        if sample not in self.places:
            return None
        number, row = self.places[sample]
        hashes, key = self.receipt(number).records[row].hashes, f"attacks/{self.attack}/{PERTURBATION}"
        if hashes.get("image") != hash_array(image):
            return None
        path = self.root / self.manifest.shards[number].path
        try:
            with reading(self.root, *VALUES):
                found = np.asarray(open_files(path)[key][row])
        except OSError as error:
            raise IntegrityError(f"{path}: cannot be read ({error.strerror})") from None
        if hash_array(found) != hashes.get(key):
            raise IntegrityError(f"{path}: {key} of sample {sample} differs from its receipt; run `medadv verify {self.root}`")
        return found

    def _receipt(self, number: int) -> Receipt:
        entry = self.manifest.shards[number]
        receipt, problem = entry.receipt(self.root)
        if receipt is None:
            raise IntegrityError(f"{self.root / entry.receipt_path}: {problem}; run `medadv verify {self.root}`")
        if not receipt.content_root == entry.content_root == content_root(receipt.arrays, receipt.records):
            raise IntegrityError(f"{self.root / entry.receipt_path}: is not what the content root stands for")
        return receipt


def open_predecessor(where: str, root: Path, attack: str, modality: str, unit: str, planned: PlannedStart | None = None) -> Predecessor:
    """The corpus that an attack starts from.

    Args:
        where: the setting, for what is said.
        root: its folder.
        attack: whose perturbations there.
        modality, unit: of the corpus that starts from it.
        planned: what the plan knows it as, if there is a plan.

    Raises:
        SpecError: there is none, it is not complete, holds other images or no such attack, or is not as it was when the plan was made.
        IntegrityError: its records do not belong together.
    """
    try:
        identity = file_identity(Workspace(root).manifest)
    except OSError:
        raise SpecError(f"{where}: no corpus at {root}, or none that is finished: there is no manifest.json") from None
    try:
        found = _opened(root, identity, attack)
    except IntegrityError as error:
        raise IntegrityError(f"{where}: {error}") from None
    manifest = found.manifest
    if planned is not None and manifest.content_root != planned.content_root:
        raise SpecError(
            f"{where}: {root} is another corpus than this one was planned with, or has changed since: its content root is "
            f"{manifest.content_root}, not {planned.content_root}. Put it back, or make another corpus with --out DIR"
        )
    if manifest.run.status != "complete":
        raise SpecError(f"{where}: {root} is not finished, and would be another corpus afterwards: finish it first with `medadv run`")
    if (manifest.data.modality, manifest.data.unit) != (modality, unit):
        raise SpecError(f"{where}: {root} holds {manifest.data.modality} in {manifest.data.unit}, and this corpus {modality} in {unit}")
    if attack not in manifest.attacks:
        raise SpecError(f"{where}: {root} has no attack {attack}; it has {', '.join(manifest.attacks)}: say which, with attack: NAME")
    require_codec(manifest.execution.codec)
    return found


@lru_cache(maxsize=4)
def _opened(root: Path, manifest: FileIdentity, attack: str) -> Predecessor:
    """manifest: which file it is, since a corpus may be made anew while this process lives."""
    found = open_corpus(root, check=False)
    if chained_root(root, found)[1] != found.content_root:
        raise IntegrityError(f"{root}: its content root does not follow from its shards; run `medadv verify {root}`")
    return Predecessor(root, found, attack)
