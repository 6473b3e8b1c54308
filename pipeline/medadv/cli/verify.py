"""`medadv verify`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from medadv.cli.console import reporter, tell
from medadv.cli.options import AllowLinks, Code, Corpora, Json, TrustCode, Weights
from medadv.common.errors import ExitCode, LockedError, SpecError


def verify(
    corpora: Corpora,
    deep: Annotated[bool, typer.Option("--deep", help="also score every sample again with the victim")] = False,
    weights: Weights = None,
    workers: Annotated[int | None, typer.Option(min=1, help="processes; one per core for a large corpus otherwise")] = None,
    trust_code: TrustCode = False,
    code: Code = None,
    key: Annotated[Path | None, typer.Option("--key", help="public Ed25519 key (PEM): also hold manifest.json.sig against it")] = None,
    after: Annotated[
        Path | None, typer.Option("--after", help="with --key: a manifest.json.sig kept from before; an older state is refused")
    ] = None,
    allow_links: AllowLinks = False,
    as_json: Json = False,
) -> None:
    """Check hashes, bounds in stored units, receipts and manifest; names the sample that is wrong. Exit code 5 when something is.

    Example: medadv verify corpora/train corpora/test --deep
    """
    from medadv.corpus.folder import Workspace
    from medadv.evidence.across import check_across
    from medadv.evidence.verify import find_damage
    from medadv.run.holder import at_work, describe_holder

    if after is not None and (key is None or len(corpora) > 1):
        raise SpecError("--after goes with --key and one corpus")
    answers, count = [], 0
    for corpus in corpora:
        with reporter() as show:
            holder = at_work(Workspace(corpus))
            findings = find_damage(corpus, show, workers, allow_links, growing=holder is not None)
            # A run that began meanwhile explains as much as one that was there.
            holder = holder or (at_work(Workspace(corpus)) if findings else None)
            if holder is not None:
                busy = f"a {holder.purpose} is at work on {corpus} ({describe_holder(holder)})"
                if findings:
                    raise LockedError(f"{busy}, which may explain what was found ({findings[0]}); verify again when it has ended")
                show.message(f"{busy}: what it adds was passed over")
            if key is not None:
                from medadv.evidence.vouched import check_signature

                findings += check_signature(corpus, key, after)
            if deep and not findings:
                from medadv.evidence.rescore import rescore

                findings = rescore(corpus, weights or [], trust_code, show, allow_links, code)
        count += len(findings)
        answers.append({"corpus": str(corpus), "problems": [finding.as_dict() for finding in findings]})
        if not as_json:
            for finding in findings:
                tell(str(finding))
            tell(f"{corpus}: {len(findings)} problems")
    crossing, notes = check_across(corpora, allow_links) if len(corpora) > 1 and not count else ([], [])
    if as_json:
        print(json.dumps(answers[0] if len(answers) == 1 else {"corpora": answers, "problems": crossing, "notes": notes}))
    else:
        for line in [*crossing, *notes]:
            tell(line)
    if count or crossing:
        raise typer.Exit(ExitCode.INTEGRITY)
