"""What does an expression of a bundle's configuration say? Its syntax tree is walked over an allow-list; Python evaluates none of it."""

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Protocol

from medadv.victims.importers.bundle.functions import BUILT_IN, CONSTANTS, KEPT, flat, is_number, is_plain, joined, power
from medadv.victims.importers.bundle.signatures import by_name
from medadv.victims.importers.bundle.values import Call, Component, NotReadable, Symbol, Unreadable, Value, bounded

LONGEST = 10_000
"""Characters of an expression."""
DEEPEST = 50
"""Levels of its syntax tree."""

BINARY: dict[type[ast.operator], Callable[[Value, Value], Value]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: power,
}
UNARY: dict[type[ast.unaryop], Callable[[Value], Value]] = {ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Not: operator.not_}
COMPARE: dict[type[ast.cmpop], Callable[[Value, Value], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda item, held: item in held,
    ast.NotIn: lambda item, held: item not in held,
}
SAME = ("to", "cuda", "cpu", "eval", "float")
"""Methods of a network that leave it what it is."""
LIBRARIES = ("monai", "torchvision", "timm", "scripts", "ignite")
"""Whose calls are kept as components: whether they may be built is for others to say."""


class Surroundings(Protocol):
    """What an expression may ask for."""

    def refer(self, name: str) -> Value:
        """What a reference stands for."""
        ...

    def module(self, name: str) -> str | None:
        """The library that a name was imported as."""
        ...

    def exists(self, path: str) -> bool:
        """Whether a file of the bundle is there."""
        ...

    def tensors(self, path: str) -> Value:
        """What a checkpoint of the bundle holds, as plain values."""
        ...


class Expression:
    """One expression. text: without the leading dollar.  references: what stands in it as a name for each reference."""

    def __init__(self, text: str, key: str, references: Mapping[str, str], around: Surroundings) -> None:
        self.key, self.references, self.around = key, references, around
        if len(text) > LONGEST:
            raise NotReadable(f"an expression of more than {LONGEST} characters")
        try:
            self.tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise NotReadable("is no expression", code=True) from None

    def value(self) -> Value:
        """What it says.  Raises NotReadable where it says more than an allow-listed node can."""
        return self._at(self.tree, DEEPEST)

    def _at(self, node: ast.expr, left: int) -> Value:
        if left == 0:
            raise NotReadable("an expression that is nested too deeply")
        reader = READERS.get(type(node))
        if reader is None:
            raise NotReadable(f"holds {WORDS.get(type(node), type(node).__name__)}", code=True)
        try:
            return bounded(reader(self, node, left - 1))
        except NotReadable:
            raise
        except (TypeError, ValueError, ArithmeticError, LookupError, MemoryError, RecursionError) as error:
            raise NotReadable(f"does not compute ({type(error).__name__})") from None

    def _constant(self, node: ast.Constant, left: int) -> Value:
        if not isinstance(node.value, bool | int | float | str | None):
            raise NotReadable(f"holds {type(node.value).__name__}")
        return node.value

    def _binary(self, node: ast.BinOp, left: int) -> Value:
        compute = BINARY.get(type(node.op))
        if compute is None:
            raise NotReadable(f"holds the operator {type(node.op).__name__}", code=True)
        one, two = self._at(node.left, left), self._at(node.right, left)
        if not (is_number(one) and is_number(two)):
            return joined(type(node.op).__name__, one, two)
        return compute(one, two)

    def _unary(self, node: ast.UnaryOp, left: int) -> Value:
        compute, value = UNARY.get(type(node.op)), self._at(node.operand, left)
        if compute is None or not (is_number(value) or (isinstance(node.op, ast.Not) and is_plain(value))):
            raise NotReadable(f"holds the operator {type(node.op).__name__} on {type(value).__name__}", code=True)
        return compute(value)

    def _boolean(self, node: ast.BoolOp, left: int) -> Value:
        stop = isinstance(node.op, ast.Or)
        value: Value = None
        for each in node.values:
            value = self._truth(self._at(each, left))
            if bool(value) is stop:
                break
        return value

    def _truth(self, value: Value) -> Value:
        if not is_plain(value):
            raise NotReadable(f"asks whether {type(value).__name__.lower()} is true", code=True)
        return value

    def _comparison(self, node: ast.Compare, left: int) -> bool:
        value = self._at(node.left, left)
        for symbol, each in zip(node.ops, node.comparators, strict=True):
            other = self._at(each, left)
            if not COMPARE[type(symbol)](flat(value), flat(other)):
                return False
            value = other
        return True

    def _condition(self, node: ast.IfExp, left: int) -> Value:
        return self._at(node.body if self._truth(self._at(node.test, left)) else node.orelse, left)

    def _subscript(self, node: ast.Subscript, left: int) -> Value:
        held = self._at(node.value, left)
        if isinstance(node.slice, ast.Slice):
            ends = [None if end is None else self._at(end, left) for end in (node.slice.lower, node.slice.upper, node.slice.step)]
            index: Value = slice(*ends)
        else:
            index = self._at(node.slice, left)
        if not isinstance(held, list | tuple | dict | str):
            raise NotReadable(f"takes a part of {type(held).__name__.lower()}", code=True)
        return held[index]

    def _list(self, node: ast.List | ast.Tuple | ast.Set, left: int) -> Value:
        values: list[Value] = []
        for each in node.elts:
            values += self._at(each.value, left) if isinstance(each, ast.Starred) else [self._at(each, left)]
        return values

    def _dictionary(self, node: ast.Dict, left: int) -> Value:
        values: dict[Value, Value] = {}
        for name, each in zip(node.keys, node.values, strict=True):
            values |= self._at(each, left) if name is None else {self._at(name, left): self._at(each, left)}
        return values

    def _text(self, node: ast.JoinedStr, left: int) -> Value:
        parts = [self._at(part.value if isinstance(part, ast.FormattedValue) else part, left) for part in node.values]
        odd = [p for p in node.values if isinstance(p, ast.FormattedValue) and (p.conversion != -1 or p.format_spec is not None)]
        if odd or not all(isinstance(part, str | int | float) for part in parts):
            raise NotReadable("holds formatted text", code=True)
        return "".join(map(str, parts))

    def _name(self, node: ast.Name, left: int) -> Value:
        if node.id in self.references:
            return self.around.refer(self.references[node.id])
        module = self.around.module(node.id)
        if module is None:
            raise NotReadable(f"uses {node.id}", code=True)
        return Symbol(module)

    def _attribute(self, node: ast.Attribute, left: int) -> Value:
        held = self._at(node.value, left)
        if node.attr.startswith("_") or not isinstance(held, Symbol):
            raise NotReadable(f"takes .{node.attr} of {type(held).__name__.lower()}", code=True)
        name = f"{held.name}.{node.attr}"
        return CONSTANTS.get(name, Symbol(name))

    def _call(self, node: ast.Call, left: int) -> Value:
        if isinstance(node.func, ast.Name) and node.func.id in BUILT_IN and node.func.id not in self.references:
            return BUILT_IN[node.func.id](*self._arguments(node, left), **self._named(node, left))
        if isinstance(node.func, ast.Attribute):
            held = self._at(node.func.value, left)
            if not isinstance(held, Symbol):
                return self._method(held, node.func.attr, node, left)
        function = self._at(node.func, left)
        if not isinstance(function, Symbol):
            raise NotReadable(f"calls {type(function).__name__.lower()}", code=True)
        return self._library(function.name, node, left)

    def _library(self, name: str, node: ast.Call, left: int) -> Value:
        if name in ("torch.device", "torch.cuda.is_available"):
            # Where it ran is no part of what it computes.
            return False if name.endswith("available") else Symbol(name)
        if name in ("torch.load", "os.path.exists", "os.path.isfile"):
            path = self._at(node.args[0] if node.args else node.keywords[0].value, left)
            if not isinstance(path, str):
                raise NotReadable(f"calls {name} on {type(path).__name__.lower()}", code=True)
            return self.around.tensors(path) if name == "torch.load" else self.around.exists(path)
        arguments = self._arguments(node, left)
        if name == "os.path.join" and arguments and all(isinstance(part, str) for part in arguments):
            return "/".join([*(part.rstrip("/") for part in arguments[:-1]), arguments[-1]])
        if name in KEPT and len(arguments) == 1:
            return arguments[0]
        if name == "torch.jit.load" or name.partition(".")[0] in LIBRARIES:
            try:
                return Component(name, self.key, by_name(name, arguments, self._named(node, left)))
            except NotReadable as error:
                # It may be one of several, of which somebody needs the others.
                return Unreadable(self.key, str(error))
        raise NotReadable(f"calls {name}", code=True)

    def _method(self, held: Value, name: str, node: ast.Call, left: int) -> Value:
        if isinstance(held, Unreadable):
            raise NotReadable(held.why)
        if isinstance(held, Component) and not name.startswith("_"):
            if name in SAME:
                return held
            try:
                held.calls.append(Call(name, by_name(f"{held.target}.{name}", self._arguments(node, left), self._named(node, left))))
            except NotReadable as error:
                held.calls.append(Call(name, Unreadable(self.key, str(error), error.code)))
            return Component(f"{held.target}.{name}", self.key, {})
        if isinstance(held, dict) and name in ("keys", "values", "items", "get"):
            found = getattr(held, name)(*self._arguments(node, left))
            return found if name == "get" else [list(each) if isinstance(each, tuple) else each for each in found]
        if isinstance(held, list | int | float) and name in ("tolist", "numpy", "item"):
            return held
        raise NotReadable(f"calls .{name} of {type(held).__name__.lower()}", code=True)

    def _arguments(self, node: ast.Call, left: int) -> list[Value]:
        if any(isinstance(each, ast.Starred) for each in node.args):
            raise NotReadable("calls with arguments of a list", code=True)
        return [self._at(each, left) for each in node.args]

    def _named(self, node: ast.Call, left: int) -> dict[str, Value]:
        if any(each.arg is None for each in node.keywords):
            raise NotReadable("calls with arguments of a dictionary", code=True)
        return {str(each.arg): self._at(each.value, left) for each in node.keywords}


READERS: dict[type[ast.expr], Callable[..., Value]] = {
    ast.Constant: Expression._constant,
    ast.BinOp: Expression._binary,
    ast.UnaryOp: Expression._unary,
    ast.BoolOp: Expression._boolean,
    ast.Compare: Expression._comparison,
    ast.IfExp: Expression._condition,
    ast.Subscript: Expression._subscript,
    ast.List: Expression._list,
    ast.Tuple: Expression._list,
    ast.Dict: Expression._dictionary,
    ast.JoinedStr: Expression._text,
    ast.Name: Expression._name,
    ast.Attribute: Expression._attribute,
    ast.Call: Expression._call,
}
WORDS: dict[type[ast.expr], str] = {
    ast.Lambda: "a function of its own",
    ast.ListComp: "a list that is computed",
    ast.DictComp: "a dictionary that is computed",
    ast.SetComp: "a set that is computed",
    ast.GeneratorExp: "a list that is computed",
    ast.NamedExpr: "an assignment",
    ast.Set: "a set",
}
