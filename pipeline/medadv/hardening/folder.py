"""Where do things lie in the folder of a hardening? Published names, and the private corner `.medadv`."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medadv.corpus.folder import Workspace

Arm = Literal["hardened", "control"]
CORPUS, VALIDATION = "corpus", "validation"
WEIGHTS, TRAINED, CARD = "weights.safetensors", "trained.safetensors", "card.json"


@dataclass(frozen=True)
class Home:
    """Paths of one hardening."""

    root: Path

    @property
    def private(self) -> Path:
        """Lock, log, spec and the state of training (mode 0700)."""
        return self.root / ".medadv"

    @property
    def lock(self) -> Path:
        """Held while a hardening is worked on."""
        return self.private / "lock"

    @property
    def log(self) -> Path:
        """Structured log."""
        return self.private / "logs" / "harden.jsonl"

    @property
    def spec(self) -> Path:
        """The spec that the hardening was begun with: private, since it names paths."""
        return self.private / "spec.json"

    @property
    def images(self) -> Path:
        """What its images were when it was begun: private, since hashes tell who has the same ones."""
        return self.private / "images.json"

    @property
    def start(self) -> Path:
        """The victim's weights by its network's own names: what trainers of one's own start from, whatever form its file has."""
        return self.private / "start.safetensors"

    def state(self, arm: Arm) -> Path:
        """Everything that training goes on from: after each epoch."""
        return self.private / f"{arm}.pt"

    @property
    def record(self) -> Path:
        """What came out so far."""
        return self.root / "hardening.json"

    @property
    def page(self) -> Path:
        """The same to be read."""
        return self.root / "hardening.html"

    @property
    def victim(self) -> Path:
        """What the victim is worth before anything was trained."""
        return self.root / "victim"

    def generation(self, number: int, arm: Arm = "hardened") -> Path:
        """Folder of a generation, counted from 1; 0 is the victim."""
        if number == 0:
            return self.victim
        return (self.root if arm == "hardened" else self.root / "control") / f"generation-{number:03d}"

    def corpus(self, number: int) -> Path:
        """Corpus that a generation is trained on."""
        return self.generation(number) / CORPUS

    def final(self, name: str) -> Path:
        """Corpus of attacks on the final images."""
        return self.root / "final" / name

    def make(self) -> None:
        """Create the folders; the private one is its owner's alone."""
        self.private.mkdir(mode=0o700, parents=True, exist_ok=True)


def measurement(corpus: Path) -> Path:
    """What was measured on a corpus, beside it."""
    return corpus.with_suffix(".json")


def remove_corpus(home: Home, corpus: Path) -> None:
    """Remove a corpus and what was measured on it. Whoever is killed meanwhile leaves no half of it in its place."""
    aside = home.private / "removed"
    shutil.rmtree(aside, ignore_errors=True)
    measurement(corpus).unlink(missing_ok=True)
    if corpus.exists():
        corpus.rename(aside)
        shutil.rmtree(aside)


def drop_shards(corpus: Path) -> None:
    """Leave of a corpus what says what it was: its manifest, with its hash, and what was quarantined."""
    workspace = Workspace(corpus)
    kept = {path.name for path in (workspace.manifest, workspace.manifest_hash, workspace.quarantine)}
    for path in corpus.glob("*"):
        if path.name not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
