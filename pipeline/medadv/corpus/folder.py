"""Where things lie in a corpus folder: published names, and the private corner `.medadv` that only the maker sees."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from medadv.common.errors import SpecError
from medadv.common.remote import Address, is_remote

MANIFEST = "manifest.json"
UNCOVERED = ("report.html", "manifest.json.sig")
"""May be made again at any time; the signature is about the manifest, and `verify --key` looks at it."""


def refuse_in_corpus(out: Path) -> None:
    """Raise SpecError where a file or folder to be written lies in a corpus, which would no longer verify."""
    target = out.resolve()
    for folder in (target, *target.parents):
        if Workspace(folder).manifest_hash.is_file() and target.relative_to(folder).as_posix() not in UNCOVERED:
            raise SpecError(f"{out}: lies in the corpus {folder}, whose manifest names every file; name a place outside")


@dataclass(frozen=True)
class Workspace:
    """Paths of one corpus."""

    root: Path

    @property
    def private(self) -> Path:
        """Frozen plans, source paths, caches, lock and logs (mode 0700)."""
        return self.root / ".medadv"

    @property
    def shards(self) -> Path:
        """Shard files and their receipts."""
        return self.root / "shards"

    @property
    def attacks(self) -> Path:
        """Perturbations that all samples of an attack share."""
        return self.root / "attacks"

    def universal(self, attack: str) -> Path:
        """HDF5 file of such a perturbation."""
        return self.attacks / f"{attack}.h5"

    @property
    def fits(self) -> Path:
        """Fits of such perturbations that were begun: they outlive a planning that is stopped or killed."""
        return self.private / "fits"

    @property
    def manifest(self) -> Path:
        """The corpus's record."""
        return self.root / MANIFEST

    @property
    def manifest_hash(self) -> Path:
        """Its SHA-256, as sha256sum writes it."""
        return self.manifest.with_name("manifest.json.sha256")

    @property
    def signature(self) -> Path:
        """Who vouches for the manifest, where anybody does."""
        return self.manifest.with_name("manifest.json.sig")

    @property
    def quarantine(self) -> Path:
        """Inputs that could not be used, one JSON object a line."""
        return self.root / "quarantine.jsonl"

    @property
    def croissant(self) -> Path:
        """Croissant metadata of the corpus."""
        return self.root / "croissant.json"

    @property
    def lock(self) -> Path:
        """Held while a run works on the corpus."""
        return self.private / "lock"

    @property
    def key(self) -> Path:
        """Secret key of the group hashes."""
        return self.private / "group.key"

    @property
    def file_cache(self) -> Path:
        """Size, time and hash of the input files seen."""
        return self.private / "files.json"

    @property
    def sources(self) -> Path:
        """Paths of quarantined inputs by their published names."""
        return self.private / "sources.json"

    @property
    def aside(self) -> Path:
        """Files of series that were set aside, and why."""
        return self.private / "aside.json"

    @property
    def predecessors(self) -> Path:
        """Folders of the corpora that attacks start from, by their content roots."""
        return self.private / "predecessors.json"

    @property
    def successors(self) -> Path:
        """Who starts from this corpus: a file for each, which that one leaves here."""
        return self.private / "successors"

    @property
    def commits(self) -> Path:
        """Locked for the moment in which a shard and its receipt get their names."""
        return self.private / "commits.guard"

    @property
    def begun(self) -> Path:
        """Notes of shards that were begun and did not end."""
        return self.private / "begun"

    @property
    def parts(self) -> Path:
        """Locks of the parts of a job array."""
        return self.private / "parts"

    @property
    def poison(self) -> Path:
        """Ids of samples that killed a worker twice all by themselves."""
        return self.private / "poison.json"

    @property
    def forgotten(self) -> Path:
        """Group hashes that must not come back."""
        return self.private / "forgotten.json"

    @property
    def log(self) -> Path:
        """Structured log of all runs."""
        return self.private / "logs" / "run.jsonl"

    @property
    def plans(self) -> Path:
        """Frozen plans, one folder a generation."""
        return self.private / "plans"

    def plan(self, generation: int) -> Path:
        """Folder of a generation's frozen plan."""
        return self.plans / f"{generation:04d}"

    def shard(self, name: str) -> Path:
        """HDF5 file of a shard."""
        return self.shards / f"{name}.h5"

    def receipt(self, name: str) -> Path:
        """Receipt of a shard: once it exists, the shard is committed."""
        return self.shards / f"{name}.json"

    @property
    def planned(self) -> bool:
        """Whether a plan was ever frozen here: without one there is no corpus yet."""
        return any(self.private.glob("plans/*/plan.json"))

    def make(self) -> None:
        """Create the folders. SpecError as from `make_private`."""
        self.make_private()
        self.shards.mkdir(exist_ok=True)

    def make_private(self) -> None:
        """Create the private folder, its owner's alone, whoever made it; SpecError where it is a link to somewhere else."""
        self.root.mkdir(parents=True, exist_ok=True)
        if self.private.is_symlink():
            raise SpecError(f"{self.private} is a link; what is private lies in the corpus itself: put a folder in its place")
        self.private.mkdir(mode=0o700, exist_ok=True)
        if self.private.stat().st_mode & 0o077:
            self.private.chmod(0o700)

    @contextmanager
    def made(self) -> Iterator[None]:
        """Create what a lock lies in. Where what is done inside fails before anything was planned, folders that are new and empty go again.

        Whoever holds the lock by then is let alone: the folder of shards, which is empty for long, is made and removed under it
        (`private.taken_back`).
        """
        guard = self.lock.with_name(f"{self.lock.name}.guard")
        new = [path for path in (self.private, self.root, *self.root.parents, guard) if not path.exists()]
        self.make_private()
        try:
            yield
        except BaseException:
            if not self.planned:
                if guard in new and not self.lock.exists():
                    guard.unlink(missing_ok=True)
                for folder in new:
                    # Others may have put something there.
                    with suppress(OSError):
                        folder.rmdir()
            raise


def corpus_folder(path: str | Path) -> Path:
    """A corpus's folder as it is called now, absolute, so that a reader stays with it whatever the working directory becomes.

    `~` and the path of the manifest itself are understood. Raises SpecError for an address, which is no folder.
    """
    if is_remote(path):
        shown = Address.of(str(path), MANIFEST).shown()
        raise SpecError(f"{shown}: an address is read by CorpusDataset and `medadv verify`; for all else copy the corpus to a folder")
    folder = Path(path).expanduser().absolute()
    return folder.parent if folder.name == MANIFEST else folder


def shard_name(index: int) -> str:
    """shard-00000 and so on."""
    return f"shard-{index:05d}"
