"""Does the one who is trusted vouch for this corpus? Its signature as a finding."""

from collections.abc import Iterator
from pathlib import Path

from medadv.corpus.folder import Workspace
from medadv.corpus.signing import problem_with
from medadv.evidence.finding import Finding


def check_signature(root: Path, key: Path, after: Path | None) -> Iterator[Finding]:
    """What is wrong with manifest.json.sig, see `problem_with`. Raises SpecError where `key` or `after` cannot be used."""
    workspace = Workspace(root)
    if (what := problem_with(workspace, key, after)) is not None:
        yield Finding(workspace.signature.name, what)
