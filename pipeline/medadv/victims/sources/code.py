"""Which code builds a factory's network, and is it still the same? Imported from its folder, and hashed with what lies beside it."""

import ast
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from medadv.common.hashing import hash_file, hash_value

INSTALLED = ("site-packages", "dist-packages")


@contextmanager
def first_on_path(root: Path | None, package: str) -> Iterator[None]:
    """Modules are looked for in `root` first; a package of that name from another folder is put aside for good."""
    if root is None:
        yield
        return
    for name in [each for each in sys.modules if each.partition(".")[0] == package]:
        if not _lies_in(sys.modules[name], root):
            del sys.modules[name]
    sys.path.insert(0, str(root))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(root))


def imported(module: str, root: Path | None) -> ModuleType:
    """A module by its dotted name, looked for in `root` first."""
    with first_on_path(root, module.partition(".")[0]):
        return importlib.import_module(module)


def code_sha256(module: ModuleType) -> str | None:
    """Hash of a module's source, and of the source of what it imports from beside it; None where it has none.

    Beside it: from the folder that its top-level package lies in, or from that package alone where it is installed. Source is read, not
    run, and named by its place under that folder, so the hash is the same wherever the folder lies.
    """
    file = getattr(module, "__file__", None)
    if file is None or not file.endswith(".py"):
        return None
    path, name = Path(file).resolve(), module.__name__
    root = path.parents[name.count(".") + (path.name == "__init__.py")]
    only = name.partition(".")[0] if any(part in INSTALLED for part in root.parts) else None
    found: dict[Path, None] = {}
    waiting = [path, *_packages(path, root)]
    while waiting:
        each = waiting.pop()
        if each in found or (only is not None and each.relative_to(root).parts[0] not in (only, f"{only}.py")):
            continue
        found[each] = None
        for wanted in _imports(each, root):
            waiting += [wanted, *_packages(wanted, root)]
    return hash_value(sorted([each.relative_to(root).as_posix(), hash_file(each)] for each in found))


def _imports(path: Path, root: Path) -> Iterator[Path]:
    """Files beneath `root` that a source file imports, late imports included."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return
    package = list(path.relative_to(root).parts[:-1])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            # `from package import name`: the name may be a module, or stand in the package.
            names = [start, *(f"{start}.{each.name}" for each in node.names)]
        else:
            continue
        for name in names:
            yield from _file(name, root)


def _file(name: str, root: Path) -> Iterator[Path]:
    place = root.joinpath(*name.split("."))
    for each in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
        if name and each.is_file() and each.resolve().is_relative_to(root):
            yield each.resolve()


def _packages(path: Path, root: Path) -> Iterator[Path]:
    """`__init__.py` of every package that a file lies in."""
    for parent in path.parents:
        if parent == root or not parent.is_relative_to(root):
            return
        if (parent / "__init__.py").is_file():
            yield parent / "__init__.py"


def _lies_in(module: ModuleType, root: Path) -> bool:
    places = [getattr(module, "__file__", None), *getattr(module, "__path__", [])]
    return any(place is not None and Path(place).resolve().is_relative_to(root.resolve()) for place in places)
