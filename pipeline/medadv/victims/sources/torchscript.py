"""Does a TorchScript program only compute? Its code and its objects, looked at before torch compiles any of it.

What torch gets is an archive of what was looked at: the code is printed anew from its parsed form, records that nobody needs to run it
(debug information, traced inputs) are left out.
"""

import ast
import io
import re
from collections.abc import Iterator
from functools import cache

import torch

from medadv.victims.sources.archive import NotComputing, ObjectsRead, archive_of, printable, records_of
from medadv.victims.sources.operators import PRIM, computes

DROPPED = re.compile(r"(extra/.*|traced_inputs(\.pkl|/.*)|.*\.debug_pkl)\Z", re.S)
KEPT = re.compile(r"(version|byteorder|\.data/(version|serialization_id)|data\.pkl|constants\.pkl|(data|constants)/\d+|code/.*\.py)\Z")
PICKLES = ("data", "constants")

STATEMENTS = (
    ast.Module, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return, ast.If, ast.For, ast.While, ast.Pass,
    ast.Expr, ast.Raise, ast.Assert, ast.Break, ast.Continue, ast.With, ast.withitem, ast.arguments, ast.arg,
)  # fmt: skip
EXPRESSIONS = (
    ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.IfExp, ast.Dict, ast.ListComp, ast.comprehension, ast.Compare, ast.Call, ast.keyword,
    ast.Constant, ast.Attribute, ast.Subscript, ast.Starred, ast.Name, ast.List, ast.Tuple, ast.Slice,
    ast.expr_context, ast.boolop, ast.operator, ast.unaryop, ast.cmpop,
)  # fmt: skip
_NAMES = """
    annotate unchecked_cast uninitialized getattr hasattr isinstance range zip enumerate len min max abs all any sum round divmod pow
    sorted ord hash float int bool str complex list dict tuple inf nan infj nanj Any AnyType BFloat16 Bool Device Dict Enum Final Float
    Generator Int Interface Layout List Module ModuleInterface MemoryFormat NamedTuple NoneType Optional QScheme Scalar ScalarType Tensor
    Tuple Union number AssertionError Exception IndexError KeyError NotImplementedError RuntimeError TypeError ValueError
"""
NAMES = frozenset(_NAMES.split())
"""What code may name without making it: words of the language, and types."""
ROOTS = ("torch", "ops", "CONSTANTS", "__torch__")
"""Where operators, constants and the archive's own types are found; only whole dotted names of them are taken."""


def checked_script(data: bytes) -> io.BytesIO:
    """A TorchScript archive that was looked at, for `torch.jit.load`.

    Raises:
        NotComputing: an operator that is not known to only compute, or anything that is no operator, type or tensor.
        ValueError: no such archive.
    """
    kept: dict[str, bytes] = {}
    records = records_of(data)
    if "data.pkl" not in records:
        raise ValueError("no objects")
    for name, content in records.items():
        if DROPPED.match(name):
            continue
        if not KEPT.match(name):
            raise NotComputing(f"it holds {printable(name)}")
        kept[name] = _printed(content) if name.endswith(".py") else content
    for part in PICKLES:
        if f"{part}.pkl" in kept:
            storages = {name.partition("/")[2]: content for name, content in kept.items() if name.startswith(f"{part}/")}
            ObjectsRead(kept[f"{part}.pkl"], storages).load()
    return archive_of(kept)


def _printed(content: bytes) -> bytes:
    """Code as this module understood it: torch's parser shall see nothing else."""
    tree = ast.parse(content.decode("ascii"))
    for node in ast.walk(tree):
        if not isinstance(node, STATEMENTS + EXPRESSIONS):
            raise NotComputing(f"its code holds {type(node).__name__}")
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and not (node.value.isascii() and node.value.isprintable()):
            raise NotComputing("its code holds odd text")
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.decorator_list:
            raise NotComputing("its code holds a decorator")
    _check_dotted(tree)
    _check_names(tree)
    return f"{ast.unparse(tree)}\n".encode()


def _check_dotted(tree: ast.Module) -> None:
    """Whatever stands behind a dot, also in `getattr`, where it may become an operator."""
    for node in _outermost(tree):
        *names, root = _chain(node)
        names.reverse()
        if root == "torch":
            _operator("aten", names)
        elif root == "ops":
            _operator(names[0], names[1:])
        elif root == "__torch__":
            if names[:2] == ["torch", "classes"]:
                raise NotComputing(f"its code uses {'.'.join(['__torch__', *names])}")
        elif root != "CONSTANTS":
            for name in names:
                _attribute(name)
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in ("getattr", "hasattr"):
            said = call.args[1] if len(call.args) > 1 else None
            if not (isinstance(said, ast.Constant) and isinstance(said.value, str)):
                raise NotComputing("its code looks up attributes by computed names")
            if isinstance(call.args[0], ast.Name) and call.args[0].id in ROOTS:
                raise NotComputing(f"its code looks up attributes of {call.args[0].id}")
            _attribute(said.value)


def _outermost(tree: ast.AST) -> Iterator[ast.Attribute]:
    """Dotted names, each once and whole; expressions inside them as well."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Attribute):
            yield node
            while isinstance(node, ast.Attribute):
                node = node.value
            waiting.append(node)
        else:
            waiting.extend(ast.iter_child_nodes(node))


def _chain(node: ast.expr) -> list[str]:
    """Names of a dotted name, last first; the root is empty where it is no name."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return [*names, node.id if isinstance(node, ast.Name) else ""]


def _operator(space: str, names: list[str]) -> None:
    known = computes if space == "aten" else PRIM.__contains__ if space == "prim" else None
    if known is None or len(names) != 1 or not known(names[0]):
        raise NotComputing(f"its code uses the operator {space}::{'.'.join(names)}")


def _attribute(name: str) -> None:
    """`x.name` of a tensor, text or list is the operator of that name."""
    if name in _aten() and not computes(name) and name not in PRIM:
        raise NotComputing(f"its code uses the operator aten::{name}")


@cache
def _aten() -> frozenset[str]:
    """Names of all ATen operators that torch has."""
    return frozenset(s.name.removeprefix("aten::") for s in torch._C._jit_get_all_schemas() if s.name.startswith("aten::"))


def _check_names(tree: ast.Module) -> None:
    """No name but words of the language, types, and what a function makes itself; none of these words is given another meaning."""
    dotted = {id(node) for node in _roots(tree)}
    for scope in ast.walk(tree):
        if isinstance(scope, ast.FunctionDef):
            inside = list(ast.walk(scope))
            made = {node.id for node in inside if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
            made |= {node.arg for node in inside if isinstance(node, ast.arg)}
            if hidden := made & {*ROOTS, "print", "fork", "awaitable"}:
                raise NotComputing(f"its code gives {min(hidden)} another meaning")
            for node in inside:
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id not in made | NAMES and id(node) not in dotted:
                    raise NotComputing(f"its code uses {node.id}")


def _roots(tree: ast.Module) -> Iterator[ast.Name]:
    for node in _outermost(tree):
        root: ast.expr = node
        while isinstance(root, ast.Attribute):
            root = root.value
        if isinstance(root, ast.Name) and root.id in ROOTS:
            yield root
