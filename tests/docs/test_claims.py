"""What documents name is there: verbs, options, files, specs; and each public data set's spec has its row."""

import re
from typing import Any

import pytest
import typer
from tests.docs.documents import DOCUMENTS, ROOT, blocks, commands, read

from medadv.cli.app import app

GLOBAL = {"--help", "--install-completion", "--show-completion", "--version"}
VERBS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
MEDADV = re.compile(r"\bmedadv ([a-z]+)((?: +(?!medadv\b)[^`|;\n]*)?)")
FILE = re.compile(r"`((?:pipeline|transforms|tests|manifests|scripts|medadv)/[\w./-]+)`")
ELSEWHERE = {"SMIA.py"}
"""Files of others: the published listing of the attack."""
NAMED_ONLY = {"medadv/": "pipeline/medadv/"}


def spoken(text: str) -> list[str]:
    """Inline code of the prose, and commands of the fenced blocks."""
    fenced = [command for block in blocks("", text) if block.is_command for command in commands(block.text)]
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return [*fenced, *re.findall(r"`([^`\n]+)`", prose)]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_verbs_and_options_exist(document: str) -> None:
    for code in spoken(read(document)):
        if not code.startswith("medadv "):
            continue
        said = MEDADV.match(code)
        if said is None:
            assert set(re.findall(r"--[a-z-]+", code)) <= GLOBAL, f"{document}: `{code}`"
            continue
        verb, rest = said.groups()
        assert verb in VERBS, f"{document}: `{code}`: no verb {verb!r}"
        known = {option for parameter in VERBS[verb].params for option in parameter.opts} | GLOBAL
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", rest)) <= known, f"{document}: `{code}`"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_that_are_named_are_there(document: str) -> None:
    for name in FILE.findall(re.sub(r"```.*?```", "", read(document), flags=re.DOTALL)):
        path = next((new + name.removeprefix(old) for old, new in NAMED_ONLY.items() if name.startswith(old)), name)
        assert (ROOT / path).exists() or "NAME" in path, f"{document} names {name}, which is not there"


@pytest.mark.parametrize(
    "growth",
    ["A modality", "A layout", "A victim source", "A victim kind", "An input step", "An attack", "An attack rule", "A codec", "A verb"],
)
def test_contributing_names_the_files_to_touch(growth: str) -> None:
    text = read("CONTRIBUTING.md")
    paragraph = re.split(r"\n\*\*|\n#", text[re.search(rf"\*\*{growth}\b(?! \w)", text).start() :])[0]  # type: ignore[union-attr]
    named = set(FILE.findall(paragraph))
    assert len(named) >= 3, growth
    assert any(name.startswith("tests/") for name in named), growth


def test_the_names_that_contributing_gives_are_in_the_files_it_gives() -> None:
    text = read("CONTRIBUTING.md")
    for name, file in re.findall(r"`([A-Za-z_]+)`\s+\(`([\w/.]+\.py)`\)", text):
        assert re.search(rf"\b{name}\b", (ROOT / file).read_text()), f"{file} holds no {name}"


def test_every_spec_has_a_row() -> None:
    text = read("manifests/README.md")
    for spec in (ROOT / "manifests" / "specs").glob("*.yaml"):
        assert f"`{spec.stem}`" in text, spec.name


def test_modules_that_are_named_anywhere_are_there() -> None:
    """Also by the end of their path, as comments and tables name them: `run/cluster.py`. A module alone is no path: it moves unseen."""
    files = [path.relative_to(ROOT).as_posix() for path in ROOT.glob("*/**/*.py")]
    sources = [name for name in files if name.startswith(("pipeline/", "transforms/"))]
    for place in [*DOCUMENTS, *sources]:
        if place == "CHANGELOG.md":
            continue  # says what was there then
        # What lies in other projects is named by its address.
        own = re.sub(r"https?://\S+", "", read(place))
        for name in re.findall(r"(?<![\w./-])([\w./-]*\w+\.py)\b", own):
            below = re.sub(r"^(?:\.\.?/)+", "", name)
            there = [file for file in files if f"/{file}".endswith(f"/{below}")]
            assert there or name in ELSEWHERE, f"{place} names {name}, which is not there"
