"""`medadv sign`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from medadv.cli.console import reporter, tell
from medadv.cli.options import Corpus, Json
from medadv.common.errors import ExitCode


def sign(
    corpus: Corpus,
    key: Annotated[Path, typer.Option("--key", help="private Ed25519 key (PEM), as `openssl genpkey -algorithm ed25519` makes it")],
    as_json: Json = False,
) -> None:
    """Vouch for a corpus: verify it, then write manifest.json.sig, which `medadv verify --key PUBLIC` holds it against. No network.

    Example: medadv sign corpora/lung --key private.pem
    """
    from medadv.corpus.folder import Workspace
    from medadv.corpus.signing import sign as write
    from medadv.evidence.verify import find_damage

    with reporter() as show:
        findings = find_damage(corpus, show)
    signed = not findings and write(Workspace(corpus), key)
    if as_json:
        print(json.dumps({"corpus": str(corpus), "signed": signed, "problems": [finding.as_dict() for finding in findings]}))
    else:
        for finding in findings:
            tell(str(finding))
        done = "signed" if signed else "not signed: see above" if findings else "carries this signature already"
        tell(f"{corpus}: {done}")
    if findings:
        raise typer.Exit(ExitCode.INTEGRITY)
