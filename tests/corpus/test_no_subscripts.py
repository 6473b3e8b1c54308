"""Records are read by attribute: outside `corpus/` and `plan/`, which say what they hold, no string names a part of one."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import medadv

ROOT = Path(medadv.__file__).parent
HOMES = ("corpus", "plan")
RECORDS = {"receipt", "receipts", "manifest", "manifests", "holder", "lock", "hold", "quarantined", "plan", "plans", "sanity"}
READERS = {"read_receipt", "committed", "load_receipt", "read_manifest", "load_manifest", "build_manifest", "read_quarantine"}
READERS |= {"thaw", "generations", "frozen_settings", "read_lock", "alive_holder"}


def parts(node: ast.expr) -> list[str]:
    """The names that an expression goes through: `plans[0].settings` gives plans, settings."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        return [*parts(node.value), node.attr]
    if isinstance(node, ast.Subscript):
        return parts(node.value)
    return parts(node.func) if isinstance(node, ast.Call) else []


def is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def subscripted(source: str) -> Iterator[str]:
    """What names a part of a record by a string."""
    for node in ast.walk(ast.parse(source)):
        named = None
        if isinstance(node, ast.Subscript) and is_text(node.slice):
            named = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get" and node.args:
            named = node.func.value if is_text(node.args[0]) else None
        if named is not None and (RECORDS | READERS) & set(parts(named)):
            yield ast.unparse(node)


@pytest.mark.parametrize(
    "source",
    [
        'receipt["samples"]',
        'receipt.records[0].attacks["pgd"]["success"]',
        'manifest.get("sanity")',
        'self.manifest["shards"]',
        'plans[0].settings["execution"]',
        'plan.spec.get("second_victim", None)',
        'read_manifest(workspace)["sanity"]',
        'read_lock(path).get("token")',
        'holder[f"{key}"]',
    ],
)
def test_what_is_looked_for_is_found(source: str) -> None:
    assert list(subscripted(source))


@pytest.mark.parametrize("source", ["receipt.arrays[key]", "manifest.attacks[attack]", 'file["image"]', "plans[0].settings"])
def test_what_is_no_such_thing_is_not(source: str) -> None:
    assert not list(subscripted(source))


def test_no_record_is_subscripted_by_a_string() -> None:
    paths = [path for path in ROOT.rglob("*.py") if path.relative_to(ROOT).parts[0] not in HOMES]
    assert len(paths) > 100
    found = {f"{path.relative_to(ROOT)}: {text}" for path in paths for text in subscripted(path.read_text())}
    assert found == set()
