"""The command line's verbs about a finished corpus: verify, reproduce, export. They import what they need when they run."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from medadv.console import reporter

Corpora = Annotated[list[Path], typer.Argument(help="corpus folders; several are also checked against each other")]
Corpus = Annotated[Path, typer.Argument(help="corpus folder")]
Json = Annotated[bool, typer.Option("--json", help="machine-readable result on standard output")]
Weights = Annotated[Path | None, typer.Option("--weights", help="the victim's weights, where the maker's .medadv is not at hand")]
TrustCode = Annotated[bool, typer.Option("--trust-code", help="allow a victim that is a python: factory")]


class Format(StrEnum):
    """What `export` writes."""

    NIFTI = "nifti"
    DICOM = "dicom"
    PNG = "png"


class Grid(StrEnum):
    """The voxel grid of exported images."""

    STORED = "stored"
    NATIVE = "native"


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    for verb in (verify, reproduce, export):
        app.command()(verb)


def verify(
    corpora: Corpora,
    deep: Annotated[bool, typer.Option("--deep", help="also score every sample again with the victim")] = False,
    weights: Weights = None,
    workers: Annotated[int | None, typer.Option(min=1, help="processes; one per core for a large corpus otherwise")] = None,
    trust_code: TrustCode = False,
    as_json: Json = False,
) -> None:
    """Check hashes, bounds in stored units, receipts and manifest; names the sample that is wrong. Exit code 5 when something is.

    Example: medadv verify corpora/train corpora/test --deep
    """
    from medadv.errors import IntegrityError
    from medadv.provenance.across import check_across
    from medadv.provenance.verify import find_damage

    answers, count = [], 0
    for corpus in corpora:
        with reporter() as show:
            findings = find_damage(corpus, lambda done, total, show=show: show("verify", done, total), workers)  # type: ignore[misc]
            if deep and not findings:
                from medadv.rescore import rescore

                findings = rescore(corpus, weights, trust_code, lambda done, total, show=show: show("verify", done, total))  # type: ignore[misc]
        count += len(findings)
        answers.append({"corpus": str(corpus), "problems": [finding.as_dict() for finding in findings]})
        if not as_json:
            for finding in findings:
                print(finding)
            print(f"{corpus}: {len(findings)} problems")
    crossing, notes = check_across(corpora) if len(corpora) > 1 and not count else ([], [])
    if as_json:
        print(json.dumps(answers[0] if len(answers) == 1 else {"corpora": answers, "problems": crossing, "notes": notes}))
    else:
        for line in [*crossing, *notes]:
            print(line)
    if count or crossing:
        raise typer.Exit(IntegrityError.exit_code)


def reproduce(
    corpus: Corpus,
    sample: Annotated[str | None, typer.Option("--sample", help="id of the sample, as in the shards and receipts")] = None,
    every: Annotated[bool, typer.Option("--all", help="reproduce every sample")] = False,
    data: Annotated[Path | None, typer.Option("--data", help="data root to read the inputs from again")] = None,
    weights: Weights = None,
    trust_code: TrustCode = False,
    as_json: Json = False,
) -> None:
    """Regenerate one sample's planned batch from the stored clean images, or from the sources, and compare bit for bit.

    Example: medadv reproduce corpora/lung --sample 0a6c8217867b3f3053f8ed29da42d02a --weights victims/lung.safetensors
    """
    from medadv.errors import IntegrityError, SpecError
    from medadv.reproduce import TOLERANCE
    from medadv.reproduce import reproduce as remake

    if (sample is None) != every:
        raise SpecError("give either --sample ID or --all")
    found = remake(corpus, sample, data=data, weights=weights, trust_code=trust_code)
    if as_json:
        print(json.dumps(found.as_dict()))
    else:
        same = sum(result.equal for result in found.results)
        print(f"{corpus}: {same} of {len(found.results)} perturbations made again from {found.origin} bit for bit")
        for result in [r for r in found.results if not r.equal][:20]:
            print(f"  sample {result.sample}: {result.attack}: {result.share:.4%} of voxels differ, by {result.largest} at most")
        for name in found.inputs:
            print(f"  sample {name}: its input or label is not what is stored")
        for line in found.environment:
            print(f"  {line}")
        if not found.equal and found.environment:
            print(f"  on another machine up to {TOLERANCE:.0%} of the voxels may differ")
    if not found.accepted:
        raise typer.Exit(IntegrityError.exit_code)


def export(
    corpus: Corpus,
    kind: Annotated[Format, typer.Option("--format", help="file format")],
    out: Annotated[Path, typer.Option("--out", help="new folder for the files")],
    attack: Annotated[str | None, typer.Option(help="attack whose examples to write; the corpus's first otherwise")] = None,
    clean: Annotated[bool, typer.Option("--clean", help="write the clean images too")] = False,
    sample: Annotated[list[str] | None, typer.Option("--sample", help="only this sample; may be given several times")] = None,
    grid: Annotated[Grid, typer.Option(help="stored: exactly what is stored; native: crops undone")] = Grid.STORED,
    lossy: Annotated[bool, typer.Option("--lossy", help="resample for --grid native, and score the result again")] = False,
    weights: Weights = None,
    trust_code: TrustCode = False,
    as_json: Json = False,
) -> None:
    """Write adversarial images as files for whole-system tests, marked as derived and synthetic.

    Example: medadv export corpora/lung --format dicom --out /tmp/series --attack smia-20
    """
    from medadv.export.run import Request
    from medadv.export.run import export as write

    with reporter() as show:
        request = Request(kind.value, out, attack, clean, tuple(sample or ()), grid.value, lossy, weights, trust_code)
        summary = write(corpus, request, lambda done, total: show("export", done, total))
    if as_json:
        print(json.dumps(summary))
    else:
        print(f"{out}: {summary['files']} files of {summary['samples']} samples, not for clinical use")
        if "metrics" in summary:
            print(f"  scored again after resampling: {summary['metrics']}")
