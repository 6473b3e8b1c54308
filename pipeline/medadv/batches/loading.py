"""Load a shard's samples batch by batch, one batch ahead of the attack, and tell inputs that are bad from disks that fail."""

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from medadv.common.errors import RunError
from medadv.common.hashing import hash_file
from medadv.common.threads import in_order
from medadv.corpus.quarantine import QuarantineRecord
from medadv.datasets.blame import raise_unless_input
from medadv.datasets.file_hashes import FileHashes
from medadv.datasets.identity import content_of
from medadv.datasets.labels import Label
from medadv.datasets.reader import Reader
from medadv.datasets.sample import Sample
from medadv.plan.model import PlannedSample, PlannedShard
from medadv.victims.victim import TaskModel
from medadv_transforms import InputError
from medadv_transforms.held import HeldFiles, holding


@dataclass(frozen=True)
class Loaded:
    """A sample in its place: batch and position in the batch are the plan's."""

    planned: PlannedSample
    sample: Sample
    label: Label | None
    place: tuple[int, int]


@dataclass(frozen=True)
class LoadedBatch:
    """What could be loaded of a planned batch, and why the rest could not."""

    loaded: list[Loaded]
    quarantined: list[QuarantineRecord]


def batches(
    shard: PlannedShard,
    reader: Reader,
    judge: TaskModel,
    excluded: Collection[str] = (),
    threads: int = 1,
    hashes: FileHashes | None = None,
) -> Iterator[LoadedBatch]:
    """The shard's batches in order. A batch is loaded ahead: at most two batches of decoded samples wait in memory.

    excluded: samples that are known to kill workers; they are not touched.  threads: that load a batch together.  hashes: those of
    the shards before; with the same reader, a file that several shards need is read once.

    Raises:
        OSError: the disk failed, not the input.  RunError: the data root vanished.
    """
    hashes = hashes or FileHashes(None)
    # Time has passed since the shard before, and the run that planned may be another one.
    reader.look_again()
    with ThreadPoolExecutor(1, thread_name_prefix="loading") as pool:
        planned = iter(enumerate(shard.batches))
        first = next(planned, None)
        ahead = pool.submit(_load, *first, shard, reader, judge, hashes, excluded, threads) if first else None
        while ahead is not None:
            batch = ahead.result()
            following = next(planned, None)
            ahead = pool.submit(_load, *following, shard, reader, judge, hashes, excluded, threads) if following else None
            yield batch


def _load(
    number: int,
    batch: Sequence[PlannedSample],
    shard: PlannedShard,
    reader: Reader,
    judge: TaskModel,
    hashes: FileHashes,
    excluded: Collection[str],
    threads: int,
) -> LoadedBatch:
    def one(place: tuple[int, PlannedSample]) -> Loaded | QuarantineRecord:
        position, planned = place
        try:
            if planned.id in excluded:
                raise InputError("kills-worker")
            sample = _read(planned, shard, reader, hashes)
            return Loaded(planned, sample, _label(sample, judge), (number, position))
        except InputError as error:
            raise_unless_input(error)
            if error.code == "changed-input" and not _there(reader):
                raise RunError(f"{reader.root} vanished or is empty: is it mounted? Every finished shard is kept") from None
            return QuarantineRecord.of_sample(planned.id, error)

    found = list(in_order(one, enumerate(batch), threads))
    return LoadedBatch([f for f in found if isinstance(f, Loaded)], [f for f in found if isinstance(f, QuarantineRecord)])


def _read(planned: PlannedSample, shard: PlannedShard, reader: Reader, hashes: FileHashes) -> Sample:
    """A sample whose files still are what the plan says: their content, not their names, is the sample's identity.

    What is decoded is what was hashed. A slice's own file and its mask are held as well; its siblings are looked at before the commit.
    """
    with holding() as held:
        try:
            if planned.source.index is None:
                for path in reader.files(planned.source):
                    held.take(path)
            content = content_of(planned.source, reader, hashes)
        except FileNotFoundError:
            raise InputError("changed-input", "The file vanished after the plan was made.") from None
        if content != (planned.id, planned.label_sha256):
            raise InputError("changed-input", "The file's content changed after the plan was made.")
        try:
            sample = reader.read(planned.source)
        except InputError:
            _check_held(held, planned, reader, hashes)
            raise
    _check_held(held, planned, reader, hashes)
    if sample.image.shape != shard.shape:
        raise InputError("changed-input", "The image has another shape than when the plan was made.")
    return sample


def _label(sample: Sample, judge: TaskModel) -> Label | None:
    if sample.label is None:
        return None
    try:
        return judge.as_label(sample.label)
    except ValueError as error:
        raise InputError("label-values", str(error)) from None


def _check_held(held: HeldFiles, planned: PlannedSample, reader: Reader, hashes: FileHashes) -> None:
    """Raise InputError where bytes that were decoded are not those that were hashed."""
    again = {path: hash_file(path) for path in held.unheld}
    if any(digest != hashes.told(path) for path, digest in (held.digests | again).items()):
        reader.drop(planned.source)
        raise InputError("changed-input", "The file changed while it was read.") from None


def unchanged(loaded: Sequence[Loaded], reader: Reader, hashes: FileHashes) -> bool:
    """Whether the files that slices share are those that were hashed: a slice is read from one of them, and is named after all."""
    sources = {id(item.planned.source.images): item.planned.source for item in loaded if item.planned.source.index is not None}
    return all(hashes.same(path) for source in sources.values() for path in reader.files(source))


def _there(reader: Reader) -> bool:
    return reader.root.is_dir() and any(reader.root.iterdir())
