"""Does an exported program (`.pt2`) only compute? Its graph and its tensors, looked at before torch reads any of it.

What torch gets is an archive of what was looked at, without what it could run as Python: guards, metadata, pickles of others.
"""

import ast
import io
import json
import re
from typing import Any

from medadv.victims.sources.archive import NotComputing, archive_of, as_weights, printable, records_of
from medadv.victims.sources.operators import SYMBOLS, computes

PLAIN = re.compile(r"(archive_format|archive_version|byteorder|\.data/(version|serialization_id))\Z")
DROPPED = re.compile(r"extra/.*\Z", re.S)
MODEL = re.compile(r"models/\w+\.json\Z")
CONFIG = re.compile(r"data/(weights|constants)/\w+_config\.json\Z")
PICKLED = re.compile(r"data/(weights|constants|sample_inputs)/\w+\.pt\Z")
TENSOR = re.compile(r"data/(weights/weight|constants/tensor)_\d+\Z")

WORD = re.compile(r"[\w.,\-+<>=:/ ]{0,200}\Z", re.ASCII)
"""Text that stands for itself, in arguments and names of parameters: no brackets, quotes or line ends."""
NAME = re.compile(r"[A-Za-z_]\w*\Z", re.ASCII)
ATEN = re.compile(r"torch\.ops\.aten\.(\w+)\.(\w+)\Z", re.ASCII)
RUNS = ("as_graph", "as_operator", "as_custom_obj")
CONTAINERS = (None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict")

_FUNCTIONS = """
    Abs Add And CeilDiv CeilToInt CleanDiv Eq Equality FloorDiv FloorToInt FloatTrueDiv Ge GreaterThan Gt Identity IntTrueDiv Integer Le
    LessThan Lt Max Min Mod ModularIndexing Mul Ne Not Or PythonMod Rational RoundToInt StrictGreaterThan StrictLessThan ToFloat
    TruncToInt Unequality Where ceiling floor
"""
FUNCTIONS = frozenset(_FUNCTIONS.split())
"""What may be called in a symbolic size, beside `Symbol` and `Pow`."""
EXPRESSION_LENGTH = 2000
HIGHEST_POWER = 16
MOST_DIGITS = 20


def checked_export(data: bytes) -> io.BytesIO:
    """The archive of an exported program that was looked at, for `torch.export.load`.

    Raises:
        NotComputing: an operator that is not known to only compute, or anything that is no graph of operators over tensors.
        ValueError: no such archive.
    """
    records = records_of(data)
    if records.get("archive_format") != b"pt2":
        raise ValueError("no exported program of torch 2.8 or later")
    kept = {}
    for name, content in records.items():
        if PLAIN.match(name) or TENSOR.match(name):
            kept[name] = content
        elif PICKLED.match(name):
            kept[name] = as_weights(content, f"its {name.split('/')[1].replace('_', ' ')}")
        elif MODEL.match(name):
            kept[name] = _model(content)
        elif CONFIG.match(name):
            kept[name] = content
        elif not DROPPED.match(name):
            raise NotComputing(f"it holds {printable(name)}")
    for name in filter(CONFIG.match, tuple(kept)):
        kept |= _tensors(name, kept)
    return archive_of(kept)


def _tensors(name: str, records: dict[str, bytes]) -> dict[str, bytes]:
    """The list of weights or constants, and those of them that are pickled."""
    config = json.loads(records[name])
    _walk(config, "")
    found = {name: json.dumps(config).encode()}
    for entry in config["config"].values():
        path = f"{name.rpartition('/')[0]}/{entry['path_name']}"
        if not TENSOR.match(path):
            raise NotComputing("its constants are pickled Python objects")
        if entry["use_pickle"] and path in records:
            found[path] = as_weights(records[path], f"its {name.split('/')[1]}")
    return found


def _model(content: bytes) -> bytes:
    model = json.loads(content)
    # Python of the file, which torch would run. Guards that torch makes of the graph's sizes still hold, such as that of a batch of one.
    model["guards_code"] = []
    for node in model["graph_module"]["graph"]["nodes"]:
        node["metadata"] = {}
        target = str(node["target"])
        aten = ATEN.match(target)
        if target not in SYMBOLS and not (aten and computes(aten.group(1))):
            raise NotComputing(f"its graph uses {printable(target)}")
        del node["target"]
        _walk(node, "")
        node["target"] = target
    graph = model["graph_module"]
    for call in graph["module_call_graph"]:
        for key in ("in_spec", "out_spec") if call.get("signature") else ():
            _container(json.loads(call["signature"][key])[1])
    _walk({**model, "graph_module": {**graph, "graph": {**graph["graph"], "nodes": []}}}, "")
    return json.dumps(model).encode()


def _walk(value: Any, key: str) -> None:
    """Hold every text, by the key that it stands under, against what it may say."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in RUNS:
                raise NotComputing("its graph holds graphs, operators or objects as arguments")
            _text(name, "")
            _walk(inner, name)
    elif isinstance(value, list):
        for inner in value:
            _walk(inner, key)
    elif isinstance(value, str):
        _text(value, key)


def _text(text: str, key: str) -> None:
    if key in ("in_spec", "out_spec"):
        return
    if key == "expr_str":
        _expression(text)
    elif not (NAME if key in ("name", "as_name", "forward_arg_names") and text else WORD).match(text):
        raise NotComputing(f"its graph names {printable(text)}")


def _container(spec: Any) -> None:
    """How inputs are packed: only tuples, lists and dictionaries."""
    context = json.loads(spec["context"]) if isinstance(spec["context"], str) else spec["context"]
    words = context if isinstance(context, list) else [] if context is None else [context]
    if spec["type"] not in CONTAINERS or not all(isinstance(word, str) and NAME.match(word) for word in words):
        raise NotComputing(f"its inputs are packed as {printable(str(spec['type']))}")
    for inner in spec["children_spec"]:
        _container(inner)


def _expression(text: str) -> None:
    """A symbolic size, which torch evaluates as Python: arithmetic on names and small numbers."""
    try:
        tree = ast.parse(text, mode="eval") if len(text) <= EXPRESSION_LENGTH else None
    except (SyntaxError, ValueError):
        tree = None
    if tree is None or not _arithmetic(tree.body):
        raise NotComputing(f"a size of it is computed by {printable(text)}")


def _arithmetic(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, bool | int | float) and len(repr(node.value)) <= MOST_DIGITS
    if isinstance(node, ast.Name):
        return True
    if isinstance(node, ast.UnaryOp):
        return _arithmetic(node.operand)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        return _power(node.left, node.right)
    if isinstance(node, ast.BinOp):
        known = isinstance(node.op, ast.Add | ast.Sub | ast.Mult | ast.Div | ast.FloorDiv | ast.Mod)
        return known and _arithmetic(node.left) and _arithmetic(node.right)
    if isinstance(node, ast.Compare):
        return all(map(_arithmetic, (node.left, *node.comparators)))
    if isinstance(node, ast.Call):
        called = node.func.id if isinstance(node.func, ast.Name) else ""
        if called == "Symbol":
            return _symbol(node)
        if called == "Pow":
            return len(node.args) == 2 and _power(*node.args) and not node.keywords
        return called in FUNCTIONS and not node.keywords and all(map(_arithmetic, node.args))
    return False


def _symbol(node: ast.expr) -> bool:
    """`s0`, or `Symbol('s0', positive=True, integer=True)`."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Symbol" and len(node.args) == 1:
        name, said = node.args[0], [keyword.value for keyword in node.keywords]
        named = isinstance(name, ast.Constant) and isinstance(name.value, str) and NAME.match(name.value)
        return bool(named) and all(isinstance(value, ast.Constant) and isinstance(value.value, bool) for value in said)
    return isinstance(node, ast.Name)


def _power(base: ast.expr, exponent: ast.expr) -> bool:
    """A low power of a symbol: those of numbers grow beyond any memory."""
    if isinstance(exponent, ast.Call) and isinstance(exponent.func, ast.Name) and exponent.func.id == "Integer" and len(exponent.args) == 1:
        exponent = exponent.args[0]
    if isinstance(exponent, ast.UnaryOp) and isinstance(exponent.op, ast.USub):
        exponent = exponent.operand
    return _symbol(base) and isinstance(exponent, ast.Constant) and isinstance(exponent.value, int) and exponent.value <= HIGHEST_POWER
