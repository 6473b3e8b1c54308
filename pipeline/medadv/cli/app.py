"""The command line. Verbs import what they need when they run, so that --help answers at once."""

import logging
import sys
import warnings
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from medadv.cli.compare import compare
from medadv.cli.demo import demo
from medadv.cli.doctor import doctor
from medadv.cli.evaluate import evaluate
from medadv.cli.export import export
from medadv.cli.forget import forget
from medadv.cli.harden import harden
from medadv.cli.init import init
from medadv.cli.last_resort import close_output, told
from medadv.cli.plan import plan
from medadv.cli.report import report
from medadv.cli.reproduce import reproduce
from medadv.cli.run import run
from medadv.cli.sign import sign
from medadv.cli.verify import verify
from medadv.cli.victim import victim

app = typer.Typer(
    name="medadv",
    help=(
        "Adversarial medical datasets that stay adversarial after they are stored.\n\n\b\n"
        "First steps:\n"
        "  medadv demo                          phantoms, small victims, three corpora with reports\n"
        "  medadv init data --out polyps.yaml   guess a run spec from a folder of images\n"
        "  medadv init --template polyps        begin with a spec that medadv brings; --schedule slurm: with its scripts\n"
        "  medadv victim polyps.yaml            what the model is understood as, and what it answers\n"
        "  medadv plan polyps.yaml              what a run would do\n"
        "  medadv run polyps.yaml               make the corpus; again: resume, or add new images\n"
        "  medadv report corpora/polyps         one offline HTML page about it\n"
        "  medadv evaluate polyps.yaml          how robust the model is: the worst of a set of strong attacks\n"
        "  medadv harden polyps.yaml            a model that withstands: generations of corpora and of training on them\n"
        "  medadv COMMAND --help                each with an example\n\n\b\n"
        "Exit codes: 0 done or nothing new, 2 wrong spec or arguments, 3 done with inputs quarantined,\n"
        "  4 failed, 5 integrity broken, 6 done and a requirement not met,\n"
        "  7 done so far and more is left (harden), 70 an error of medadv itself,\n"
        "  75 another run holds the corpus, 130 and 143 stopped on request"
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        try:
            print(f"medadv {version('medadv')}")
        except PackageNotFoundError:
            print("medadv of a checkout that is not installed")
        raise typer.Exit


@app.callback()
def _every_verb(
    asked: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version and leave")] = False,
) -> None:
    """Options that come before a verb; the help is the app's own."""


for _verb in (run, plan, forget, verify, sign, reproduce, export, compare, evaluate, harden, victim, report, doctor, init, demo):
    app.command()(_verb)


def main() -> None:
    """Entry point: whatever goes wrong becomes one line and an exit code."""
    # Libraries warn about themselves; what concerns the user is an error or a line of our own.
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    try:
        try:
            app()
        finally:
            close_output()
    except Exception as error:
        sys.exit(told(error))
