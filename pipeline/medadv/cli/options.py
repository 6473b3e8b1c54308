"""Arguments and options that several verbs share."""

from pathlib import Path
from typing import Annotated

import typer

Spec = Annotated[Path, typer.Argument(help="run spec (YAML); `medadv init` writes one, from a folder of images or from a template")]
Corpus = Annotated[Path, typer.Argument(help="corpus folder")]
Out = Annotated[Path | None, typer.Option("--out", help="corpus folder, instead of the spec's `output`")]
Override = Annotated[list[str] | None, typer.Option("--set", help="change a setting, such as execution.batch_size=4")]
Json = Annotated[bool, typer.Option("--json", help="machine-readable result on standard output")]
TrustCode = Annotated[
    bool,
    typer.Option(
        "--trust-code",
        help="allow a victim that is a python: factory or code of a bundle, a program that may do more than compute, or hardening.command",
    ),
]
Code = Annotated[Path | None, typer.Option("--code", help="with --trust-code: folder of the code of a victim that is a python: factory")]
AllowLinks = Annotated[
    bool, typer.Option("--allow-links", help="follow files of the corpus that are symbolic links, and say where they lead")
]
Weights = Annotated[
    list[Path] | None,
    typer.Option("--weights", help="the victim's weights, where the maker's .medadv is not at hand; repeat it for each member"),
]
Scheduler = Annotated[str | None, typer.Option(help="address of a running Dask scheduler, such as tls://host:8786")]
SchedulerFile = Annotated[Path | None, typer.Option(help="file that a running Dask scheduler wrote")]
TlsCa = Annotated[Path | None, typer.Option(help="PEM file of the authority that signed the cluster's certificates")]
TlsCert = Annotated[Path | None, typer.Option(help="PEM certificate for the scheduler")]
TlsKey = Annotated[Path | None, typer.Option(help="its PEM key")]
Insecure = Annotated[bool, typer.Option("--insecure-scheduler", help="use a scheduler without TLS; who reaches it acts as you")]
Part = Annotated[str | None, typer.Option(metavar="I/N", help="make only every N-th shard, from the I-th, without Dask")]
Grace = Annotated[float, typer.Option(min=0, help="seconds that running shards get after SIGTERM, SIGINT or SIGUSR1")]
