"""manifests/RECIPES.md: every block of a spec is one that is read; and manifests/ERRORS.md answers every code there is."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.docs.documents import ROOT, Block, blocks, read

from medadv.common.errors import ExitCode, SpecError
from medadv.spec.reading import parse_spec
from medadv.victims.importers.resolve import IMPORTERS
from medadv_transforms.errors import REASONS

RECIPES, ERRORS = "manifests/RECIPES.md", "manifests/ERRORS.md"
BASE: dict[str, Any] = {
    "name": "base",
    "data": {"modality": "ct", "task": "segmentation", "layout": "decathlon", "path": "dataset.json"},
    "victim": {"network": "monai:unet", "weights": "weights.pt", "normalize": {"window": [-1000, 400]}},
    "attacks": {"pgd-5": {"attack": "pgd", "epsilon": 5}},
}
"""What a recipe is laid over."""
SPECS = [block for block in blocks(RECIPES, read(RECIPES)) if block.language == "yaml"]


def laid_over(recipe: dict[str, Any]) -> dict[str, Any]:
    """The base with a recipe's lines in it; a model's folder is held against what its importer takes, and left out."""
    spec = copy.deepcopy(BASE)
    if recipe.get("data", {}).get("modality", "ct") != "ct":
        spec["victim"]["normalize"], spec["preprocess"] = {"mean": [0.5], "std": [0.25]}, {"size": [256, 256]}
    for section, lines in recipe.items():
        if section == "victim" and (named := [kind for kind in IMPORTERS if kind in lines]):
            assert set(lines) <= {named[0], *IMPORTERS[named[0]][1]}, lines
        elif isinstance(lines, dict) and section != "attacks":
            spec[section] = {**spec.get(section, {}), **lines}
        else:
            spec[section] = lines
    return spec


@pytest.mark.parametrize("block", SPECS, ids=lambda block: f"line {block.line}")
def test_a_recipe_is_read(block: Block) -> None:
    parse_spec(laid_over(yaml.safe_load(block.text)), block.place)


@pytest.mark.parametrize(
    ("recipe", "named"), [({"data": {"treshold": 3}}, "treshold"), ({"victim": {"head": "logits"}}, "head"), ({"victimes": {}}, "victimes")]
)
def test_a_recipe_that_is_wrong_is_found(recipe: dict[str, Any], named: str) -> None:
    with pytest.raises(SpecError, match=named):
        parse_spec(laid_over(recipe), "here")


def test_every_exit_code_has_its_answer() -> None:
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| (.+?) \| (.+?) \|$", read(ERRORS), flags=re.MULTILINE)
    assert [(int(number), name) for number, name, *_ in rows] == [(int(code), code.name) for code in ExitCode]
    assert all(len(text) > 4 for row in rows for text in row[2:])


def test_every_reason_code_has_its_answer() -> None:
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (.+?) \| (.+?) \|$", read(ERRORS), flags=re.MULTILINE)
    assert {code: meaning for code, meaning, _ in rows} == REASONS


def test_warnings_that_are_answered_are_given() -> None:
    """Each, as it is quoted, stands in the code that says it."""
    sources = "".join(path.read_text() for path in Path(ROOT, "pipeline").rglob("*.py"))
    said = re.sub(r'"\s+f?"', "", sources)
    quoted = re.findall(r"^\| “(.+?)” \|", read(ERRORS), flags=re.MULTILINE)
    assert len(quoted) > 8
    assert [text for text in quoted if not all(part in said for part in text.split("…"))] == []
