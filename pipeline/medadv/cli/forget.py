"""`medadv forget`."""

import json
from typing import Annotated

import typer

from medadv.cli.console import reporter, tell_result
from medadv.cli.options import Corpus, Json, TrustCode
from medadv.common.stop import stoppable


def forget(
    corpus: Corpus,
    group: Annotated[str, typer.Option(help="group_id of the patient, as the shards have it (32 hexadecimal digits)")],
    trust_code: TrustCode = False,
    as_json: Json = False,
) -> None:
    """Remove a patient: the shards concerned are deleted at once and made anew without them, as a new generation.

    Example: medadv forget corpora/polyps --group 5f0c7a1be83d49d2a6b0c4f1e2d3a495
    """
    with stoppable() as stop:
        from medadv.prepare.request import Options
        from medadv.run.forget import forget as remove

        with reporter() as show:
            result = remove(corpus, group, Options(trust_code=trust_code, command="medadv forget"), show, stop)
    if as_json:
        print(json.dumps(result.as_dict()))
    else:
        tell_result(result)
    raise typer.Exit(result.exit_code)
