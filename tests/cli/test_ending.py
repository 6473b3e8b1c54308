"""The three lines with which a run ends: what came out, whether it is to be believed, what to do next; and none of them with --json."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.conftest import quiet
from typer.testing import CliRunner

from medadv.cli.app import app
from medadv.cli.ending import ending
from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import Baseline, Manifest, SanityReport, read_manifest
from medadv.prepare.request import Options
from medadv.run.run import Result, run

SPEC = Path("my specs/x.yaml")


@pytest.fixture
def made(tiny_corpus: Path) -> Result:
    """A corpus whose figures are known: clean 0.9, attacks 0.5 and 0.25, an answer that ignores the image 0.6, no warnings."""
    manifest = read_manifest(Workspace(tiny_corpus))
    values = dict(zip(manifest.metrics, (0.5, 0.25), strict=True))
    figures = {name: {"metric": "auc", "clean": 0.9, "adversarial": value} for name, value in values.items()}
    metrics = {name: each.model_copy(update=figures[name]) for name, each in manifest.metrics.items()}
    sure = Baseline(metric="auc", clean=0.9, ignoring_image=0.6, answer="chance", warning=None)
    sanity = SanityReport(samples=4, sample_ids=[], warnings=[])
    return Result(Path("corpora/x"), changed(manifest, metrics=metrics, baseline=sure, sanity=sanity, quarantined=0), 1, 0)


def changed(manifest: Manifest, **values: object) -> Manifest:
    return manifest.model_copy(update=values)


def test_the_strongest_attack_is_told_and_what_comes_next(made: Result) -> None:
    strongest = list(made.manifest.metrics)[1]
    assert ending(made, SPEC) == (
        f"Made: 10 samples, 2 attacks each, in corpora/x; {strongest} takes auc from 0.900 to 0.250",
        "Believable: clean auc 0.900, where an answer that ignores the image gets 0.600; the checks of the attack found nothing",
        "Next: medadv report corpora/x      # a page to open in a browser",
    )


def test_what_is_not_to_be_believed_is_said_so(made: Result) -> None:
    manifest = made.manifest
    assert manifest.baseline is not None
    hopeless = manifest.baseline.model_copy(update={"warning": "clean auc 0.5 is no better"})
    _, believed, then = ending(replace(made, manifest=changed(manifest, baseline=hopeless)), SPEC)
    assert believed == "NOT believable: clean auc 0.5 is no better"
    assert then.startswith("Next: medadv victim 'my specs/x.yaml' ")
    weak = SanityReport(samples=4, sample_ids=[], warnings=["more steps do more", "noise does as much"])
    _, believed, _ = ending(replace(made, manifest=changed(manifest, sanity=weak)), SPEC)
    assert believed.startswith("Believable with care: clean auc 0.900")
    assert believed.endswith("the checks of the attack warn: more steps do more (and 1 more, in the report)")
    for unchecked in (None, SanityReport(samples=0, sample_ids=[], warnings=[])):
        assert ending(replace(made, manifest=changed(manifest, sanity=unchecked)), SPEC)[1].endswith("the attack was not checked")


def test_what_is_unknown_or_missing_is_said(made: Result) -> None:
    manifest = made.manifest
    metrics = {name: each.model_copy(update={"adversarial": None}) for name, each in manifest.metrics.items()}
    partial = manifest.run.model_copy(update={"shards_missing": 3})
    result = replace(made, manifest=changed(manifest, baseline=None, metrics=metrics, run=partial))
    first, believed, then = ending(result, SPEC)
    assert first == "Made: 10 samples, 2 attacks each, in corpora/x"
    assert "nothing tells what an answer that ignores the image gets" in believed
    assert then == "Next: medadv run 'my specs/x.yaml'      # makes what is missing, 3 shards"
    then = ending(replace(made, manifest=changed(manifest, quarantined=2)), SPEC)[2]
    assert then.endswith("; 2 inputs were refused, corpora/x/quarantine.jsonl says why")


def test_a_run_ends_with_them_and_with_json_it_does_not(tiny_corpus: Path) -> None:
    spec = tiny_corpus.parent / "spec.yaml"
    said = CliRunner().invoke(app, ["run", str(spec)]).stdout.splitlines()
    assert said[-3:] == list(ending(run(spec, Options(), quiet), spec))
    alone = CliRunner().invoke(app, ["run", str(spec), "--json"]).stdout
    assert json.loads(alone)["samples"] == 10
