"""Schemas and README follow from the code; real records fit the schemas; Croissant metadata is read by mlcroissant."""

import json
import logging
import re
from pathlib import Path

import jsonschema
import pytest
from tests.conftest import load_script

from medadv.corpus.schema import SCHEMAS
from medadv.plan.meaning import MEANING_VERSION
from medadv_transforms.errors import REASONS

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"


def test_schemas_and_tables_are_what_the_code_says() -> None:
    """Run scripts/write_schemas.py after a change of the models."""
    made = load_script("write_schemas.py")
    for name, content in made.schemas().items():
        assert (MANIFESTS / "schema" / name).read_text() == content, name
    assert {path.name for path in (MANIFESTS / "schema").iterdir()} == set(made.schemas())
    for document in MANIFESTS.glob("*.md"):
        assert made.filled(document.read_text()) == document.read_text(), document.name


@pytest.mark.parametrize("code", sorted(REASONS))
def test_every_reason_code_is_explained(code: str) -> None:
    assert f"| `{code}` |" in (MANIFESTS / "ERRORS.md").read_text()


def schema(name: str) -> jsonschema.Draft202012Validator:
    content = json.loads((MANIFESTS / "schema" / SCHEMAS[name].file(name)).read_text())
    jsonschema.Draft202012Validator.check_schema(content)
    return jsonschema.Draft202012Validator(content)


def test_schemas_have_the_version_of_what_they_describe(tiny_corpus: Path) -> None:
    manifest = json.loads((tiny_corpus / "manifest.json").read_text())
    for name in ("manifest", "receipt"):
        content = schema(name).schema
        assert content["properties"]["format_version"]["const"] == manifest["format_version"]
        assert content["$id"] == f"medadv/{name}-{manifest['format_version']}.schema.json"
    for path in (MANIFESTS / "schema").iterdir():
        assert re.fullmatch(r"[a-z-]+-\d+\.schema\.json", path.name)
        assert json.loads(path.read_text())["$id"] == f"medadv/{path.name}"


def test_the_readme_says_what_came_with_the_meaning_version_of_today() -> None:
    text = (MANIFESTS / "README.md").read_text().split("## Growing, and meaning versions")[1].split("\n## ")[0]
    assert max(int(number) for number in re.findall(r"[Vv]ersion\s+(\d+)", text)) == MEANING_VERSION


def test_real_records_fit_the_published_schemas(tiny_corpus: Path) -> None:
    manifest = json.loads((tiny_corpus / "manifest.json").read_text())
    schema("manifest").validate(manifest)
    for entry in manifest["shards"]:
        schema("receipt").validate(json.loads((tiny_corpus / entry["path"]).with_suffix(".json").read_text()))
    schema("quarantine-record").validate({"source": "0" * 32, "code": "not-ct", "message": "…", "advice": "…"})
    assert not schema("quarantine-record").is_valid({"source": "0" * 32, "code": "because", "message": "…", "advice": "…"})


def test_the_manifests_schema_refuses_what_it_should(tiny_corpus: Path) -> None:
    manifest = json.loads((tiny_corpus / "manifest.json").read_text())
    for change in ({"format": "other"}, {"content_root": "abc"}, {"samples": -1}, {"files": {"../x": "0" * 64}}, {"data": {}}):
        assert not schema("manifest").is_valid({**manifest, **change}), change


@pytest.mark.filterwarnings("ignore")
def test_croissant_metadata_validates_offline_and_yields_every_record(tiny_corpus: Path, caplog: pytest.LogCaptureFixture) -> None:
    import mlcroissant

    with caplog.at_level(logging.WARNING):
        dataset = mlcroissant.Dataset(jsonld=tiny_corpus / "croissant.json")
    assert not dataset.metadata.issues.errors
    assert not dataset.metadata.issues.warnings, dataset.metadata.issues.warnings
    assert dataset.metadata.personal_sensitive_information
    assert dataset.metadata.data_limitations
    records = {record["samples/id"].decode(): record for record in dataset.records("samples")}
    expected = {}
    for path in sorted((tiny_corpus / "shards").glob("*.json")):
        expected |= {record["id"]: record for record in json.loads(path.read_text())["records"]}
    assert records.keys() == expected.keys()
    for sample, record in records.items():
        for attack, results in expected[sample]["attacks"].items():
            for key, value in results.items():
                assert record[f"samples/{attack}.{key}"] == pytest.approx(value), (sample, attack, key)


def test_croissant_metadata_covers_every_shard_and_names_its_provenance(tiny_corpus: Path) -> None:
    manifest = json.loads((tiny_corpus / "manifest.json").read_text())
    document = json.loads((tiny_corpus / "croissant.json").read_text())
    assert "http://mlcommons.org/croissant/1.1" in document["conformsTo"]
    hashes = {part["contentUrl"]: part["sha256"] for part in document["distribution"] if part["@type"] == "cr:FileObject"}
    assert hashes == {entry["path"]: entry["sha256"] for entry in manifest["shards"]}
    used = document["prov:wasGeneratedBy"]["prov:used"][0]["@id"]
    assert used == f"urn:sha256:{manifest['victim']['weights_sha256']}"
    assert document["rai:hasSyntheticData"] is True
