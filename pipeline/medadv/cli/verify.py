"""`medadv verify`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medadv.cli.console import Reporter, reporter, tell
from medadv.cli.options import AllowLinks, Code, Json, TrustCode, Weights
from medadv.common.errors import ExitCode, LockedError, SpecError
from medadv.common.remote import Address, is_remote

if TYPE_CHECKING:
    from medadv.evidence.finding import Finding


def verify(
    corpora: Annotated[
        list[str],
        typer.Argument(help="corpus folders, several of which are also checked against each other; or an address (https://, s3://, gs://)"),
    ],
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
    from medadv.evidence.across import check_across

    if after is not None and (key is None or len(corpora) > 1):
        raise SpecError("--after goes with --key and one corpus")
    remote = [corpus for corpus in corpora if is_remote(corpus)]
    if remote and (deep or len(corpora) > 1):
        what = "--deep" if deep else "a check against others"
        raise SpecError(f"{_shown(remote[0])}: {what} needs the corpus in a folder; an address is verified by itself")
    answers, count = [], 0
    for corpus in corpora:
        with reporter() as show:
            if is_remote(corpus):
                findings = _remote(corpus, show, workers, key, after)
            else:
                findings = _local(Path(corpus), show, workers, allow_links, key, after)
            if deep and not findings:
                from medadv.evidence.rescore import rescore

                findings = rescore(Path(corpus), weights or [], trust_code, show, allow_links, code)
        count += len(findings)
        answers.append({"corpus": _shown(corpus), "problems": [finding.as_dict() for finding in findings]})
        if not as_json:
            for finding in findings:
                tell(str(finding))
            tell(f"{_shown(corpus)}: {len(findings)} problems")
    crossing, notes = check_across([Path(corpus) for corpus in corpora], allow_links) if len(corpora) > 1 and not count else ([], [])
    if as_json:
        print(json.dumps(answers[0] if len(answers) == 1 else {"corpora": answers, "problems": crossing, "notes": notes}))
    else:
        for line in [*crossing, *notes]:
            tell(line)
    if count or crossing:
        raise typer.Exit(ExitCode.INTEGRITY)


def _shown(corpus: str) -> str:
    """As it was given; of an address without what is secret."""
    return Address.of(corpus, "manifest.json").shown() if is_remote(corpus) else str(Path(corpus))


def _local(corpus: Path, show: Reporter, workers: int | None, links: bool, key: Path | None, after: Path | None) -> "list[Finding]":
    from medadv.corpus.folder import Workspace
    from medadv.evidence.verify import find_damage
    from medadv.run.holder import at_work, describe_holder

    holder = at_work(Workspace(corpus))
    findings = find_damage(corpus, show, workers, links, growing=holder is not None)
    # A run that began meanwhile explains as much as one that was there.
    holder = holder or (at_work(Workspace(corpus)) if findings else None)
    if holder is not None:
        busy = f"a {holder.purpose} is at work on {corpus} ({describe_holder(holder)})"
        if findings:
            raise LockedError(f"{busy}, which may explain what was found ({findings[0]}); verify again when it has ended")
        show.message(f"{busy}: what it adds was passed over")
    return findings + _signed(corpus, key, after)


def _remote(corpus: str, show: Reporter, workers: int | None, key: Path | None, after: Path | None) -> "list[Finding]":
    from medadv.evidence.mirror import mirrored
    from medadv.evidence.verify import find_damage

    with mirrored(corpus, show) as mirror:
        return find_damage(mirror.root, show, workers, bring=mirror.shard) + _signed(mirror.root, key, after)


def _signed(corpus: Path, key: Path | None, after: Path | None) -> "list[Finding]":
    if key is None:
        return []
    from medadv.evidence.vouched import check_signature

    return list(check_signature(corpus, key, after))
