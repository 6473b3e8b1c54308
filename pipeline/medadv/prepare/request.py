"""What did the user ask for beside the spec? Options, the address of a scheduler, the corpus's folder."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from medadv.corpus.folder import Workspace
from medadv.spec.run_spec import RunSpec
from medadv.victims.importers.resolve import read_spec

GRACE_S = 20.0


@dataclass(frozen=True)
class Address:
    """A scheduler that runs already: its address or the file it wrote, and TLS files (PEM) where it asks for them."""

    address: str | None = None
    file: Path | None = None
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    insecure: bool = False
    """Whether it may be one that everybody can use."""

    @property
    def is_given(self) -> bool:
        """Whether there is one; otherwise workers are started here."""
        return self.address is not None or self.file is not None


def as_written(spec: RunSpec) -> RunSpec:
    """A run makes what the spec says."""
    return spec


@dataclass(frozen=True)
class Options:
    """What the command line adds to the spec."""

    out: Path | None = None
    overrides: list[str] = field(default_factory=list)
    scheduler: Address = field(default_factory=Address)
    trust_code: bool = False
    rehash: bool = False
    command: str = "medadv run"
    grace_s: float = GRACE_S
    """How long running shards may go on after a signal."""
    dashboard: bool = False
    """Whether the workers that are started here can be looked at with a browser, by who has the token."""
    change: Callable[[RunSpec], RunSpec] = as_written
    """What another verb makes of the spec: the corpus of an evaluation, for one."""


def asked(spec_path: Path, options: Options) -> tuple[RunSpec, list[str]]:
    """The spec that is carried out, and what was understood of its victims, a line each.  Raises SpecError for a wrong spec."""
    spec, told = read_spec(spec_path, options.overrides, options.trust_code)
    return options.change(spec), told


def locate(spec: RunSpec, spec_path: Path, out: Path | None) -> Workspace:
    """The corpus folder of a spec: --out, else `output` beside the spec, else corpora/NAME there."""
    base = spec_path.resolve().parent
    return Workspace((out or base / (spec.output or f"corpora/{spec.name}")).resolve())
