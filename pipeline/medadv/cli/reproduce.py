"""`medadv reproduce`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from medadv.cli.completion import samples
from medadv.cli.console import say, tell
from medadv.cli.options import AllowLinks, Code, Corpus, Json, TrustCode, Weights
from medadv.common.errors import ExitCode, SpecError


def reproduce(
    corpus: Corpus,
    sample: Annotated[
        str | None, typer.Option("--sample", help="id of the sample, as in the shards and receipts", autocompletion=samples)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="reproduce every sample")] = False,
    data: Annotated[Path | None, typer.Option("--data", help="data root to read the inputs from again")] = None,
    weights: Weights = None,
    trust_code: TrustCode = False,
    code: Code = None,
    allow_links: AllowLinks = False,
    as_json: Json = False,
) -> None:
    """Regenerate one sample's planned batch from the stored clean images, or from the sources, and compare bit for bit.

    Example: medadv reproduce corpora/lung --sample 0a6c8217867b3f3053f8ed29da42d02a --weights victims/lung.safetensors
    """
    from medadv.evidence.reproduce import TOLERANCE
    from medadv.evidence.reproduce import reproduce as remake

    if (sample is None) != every:
        raise SpecError("give either --sample ID or --all")
    found = remake(corpus, sample, data=data, weights=weights or [], trust_code=trust_code, code=code, links=allow_links, tell=say)
    if as_json:
        print(json.dumps(found.as_dict()))
    else:
        same = sum(result.equal for result in found.results)
        tell(f"{corpus}: {same} of {len(found.results)} perturbations made again from {found.origin} bit for bit")
        for result in [r for r in found.results if not r.equal][:20]:
            tell(f"  sample {result.sample}: {result.attack}: {result.share:.4%} of voxels differ, by {result.largest} at most")
        for name in found.inputs:
            tell(f"  sample {name}: its input or label is not what is stored")
        for line in found.environment:
            tell(f"  {line}")
        if not found.equal and found.environment:
            tell(f"  on another machine up to {TOLERANCE:.0%} of the voxels may differ")
    if not found.accepted:
        raise typer.Exit(ExitCode.INTEGRITY)
