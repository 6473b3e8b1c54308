"""What does a bundle's configuration say? Macros, references and expressions, resolved where they are asked for, with nothing built."""

import ast
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medadv.common.errors import SpecError
from medadv.victims.importers.bundle.expressions import Expression
from medadv.victims.importers.bundle.files import KINDS, Folder, find_configuration, read_configuration
from medadv.victims.importers.bundle.trusted import evaluated
from medadv.victims.importers.bundle.values import Component, NotReadable, Unreadable, Value, Words, plain

SEPARATOR = "::"
REFERENCE = re.compile(r"@\w*(?:::\w*)*")
RELATIVE = re.compile(r"(?P<sign>[@%])(?P<levels>(?:::)+)")
FILE = re.compile(rf"^(?P<file>.*\.(?:{'|'.join(kind[1:] for kind in KINDS)}))(?:::(?P<place>.*))?$", re.IGNORECASE)
NO_ARGUMENTS = ("_target_", "_disabled_", "_requires_", "_desc_", "_mode_")
DEEPEST = 40
"""References that lead to one another."""
KNOWN_MODULES = {"monai": "monai", "torch": "torch", "np": "numpy", "numpy": "numpy", "os": "os", "copy": "copy", "math": "math"}


class Configuration:
    """A configuration file, read lazily: whatever nobody asks for may be as odd as it likes."""

    def __init__(self, bundle: Path, trust_code: bool, name: str | None = None) -> None:
        self.file = find_configuration(bundle, name)
        self.folder, self.trust_code = Folder(bundle), trust_code
        self.raw = read_configuration(self.file)
        # Where the bundle lies is known, whatever its author's machine called it.
        self.raw["bundle_root"] = str(self.folder.root)
        self._modules = {**KNOWN_MODULES, **imports(self.raw.get("imports"))}
        self._known: dict[str, Value] = {}
        self._open: list[str] = []
        self._files: dict[str, Words] = {}

    def has(self, name: str) -> bool:
        """Whether there is such an entry."""
        try:
            self._raw_at(name)
        except NotReadable:
            return False
        return True

    def get(self, name: str) -> Value:
        """What an entry stands for; `Unreadable` where that cannot be said."""
        name = name.replace("#", SEPARATOR)
        if name not in self._known:
            self._known[name] = self._resolved(name)
        return self._known[name]

    def written(self, name: str) -> str:
        """The text of an entry, macros unfolded."""
        return str(self._unfolded(self._raw_at(name), name))

    def plain(self, value: Value, key: str) -> Any:
        """A value as JSON can say it.  Raises SpecError, in one line, where it cannot be known or said."""
        if isinstance(value, Unreadable) and value.code and self.trust_code:
            value = evaluated(self.raw, value.key, self.folder.root)
        try:
            return plain(value, key)
        except NotReadable as error:
            raise self.refused(str(error), code=error.code) from None

    def refused(self, why: str, *, code: bool = False) -> SpecError:
        """The error for an entry that has no plain form.  code: whether --trust-code would help."""
        advice = ": allow running it with --trust-code" if code and not self.trust_code else ""
        return SpecError(f"{self.file.name}: {why}{advice}")

    def inside(self, path: str, key: str) -> Path:
        """A file of the bundle.  Raises SpecError where the path leads out of it."""
        try:
            return self.folder.inside(path)
        except NotReadable as error:
            raise self.refused(f"{key}: {error}") from None

    # What an expression may ask for.

    def refer(self, name: str) -> Value:
        """What a reference stands for.  Raises NotReadable where that cannot be said."""
        value = self.get(name)
        if isinstance(value, Unreadable):
            raise NotReadable(f"@{name}: {value.why}" if value.key == name else f"{value.key}: {value.why}", code=value.code)
        return value

    def module(self, name: str) -> str | None:
        """The library that a name was imported as."""
        return self._modules.get(name)

    def exists(self, path: str) -> bool:
        """Whether a file of the bundle is there."""
        return self.folder.inside(path).exists()

    def tensors(self, path: str) -> Value:
        """What a checkpoint of the bundle holds, as plain values."""
        return self.folder.tensors(path)

    # From text to values.

    def _resolved(self, name: str) -> Value:
        if name in self._open:
            return Unreadable(name, f"refers to itself ({' -> '.join([*self._open[self._open.index(name) :], name][-4:])})")
        if len(self._open) >= DEEPEST:
            return Unreadable(name, f"stands behind more than {DEEPEST} references")
        self._open.append(name)
        try:
            return self._value(self._raw_at(name), name)
        except NotReadable as error:
            return Unreadable(name, str(error), error.code)
        except RecursionError:
            return Unreadable(name, "is nested too deeply")
        finally:
            self._open.pop()

    def _raw_at(self, name: str) -> Any:
        held: Any = self.raw
        walked = ""
        for part in name.split(SEPARATOR):
            held = _part(self._unfolded(held, walked), part)
            walked = f"{walked}{SEPARATOR}{part}" if walked else part
        return held

    def _unfolded(self, raw: Any, key: str, left: int = DEEPEST) -> Any:
        """What a macro stands for: a copy of another entry, of this file or of one beside it."""
        while isinstance(raw, str) and raw.startswith("%"):
            if left == 0:
                raise NotReadable(f"stands behind more than {DEEPEST} macros")
            place = absolute(raw, key)[1:]
            if found := FILE.match(place):
                file = str(self.folder.inside(str(self.file.parent / found["file"])))
                if not Path(file).is_file():
                    file = str(self.folder.inside(found["file"]))
                self._files[file] = self._files.get(file) or read_configuration(Path(file))
                raw = self._files[file]
                for part in found["place"].split(SEPARATOR) if found["place"] else []:
                    raw = _part(raw, part)
            else:
                raw = self._raw_at(place)
            left -= 1
        return raw

    def _value(self, raw: Any, key: str) -> Value:
        raw = self._unfolded(raw, key)
        if isinstance(raw, dict):
            return self._component(raw, key) if "_target_" in raw else self._entries(raw, key)
        if isinstance(raw, list):
            inside = [(each, self._guarded(each, f"{key}{SEPARATOR}{number}")) for number, each in enumerate(raw)]
            return [value for each, value in inside if not _switched_off(each, value)]
        if not isinstance(raw, str):
            return raw
        text = absolute(raw, key)
        if text.startswith("$"):
            names = {f"_{number}_referred_": name[1:] for number, name in enumerate(sorted(set(REFERENCE.findall(text)), key=len)[::-1])}
            for stand_in, name in names.items():
                text = text.replace(f"@{name}", stand_in)
            return Expression(text[1:], key, names, self).value()
        return self.refer(text[1:]) if REFERENCE.fullmatch(text) else raw

    def _guarded(self, raw: Any, key: str) -> Value:
        """The value of a part: what cannot be read says so in its place, and harms nobody who does not need it."""
        try:
            return self._value(raw, key)
        except NotReadable as error:
            return Unreadable(key, str(error), error.code)

    def _entries(self, raw: Mapping[str, Any], key: str) -> dict[str, Value]:
        inside = {str(name): (each, self._guarded(each, f"{key}{SEPARATOR}{name}")) for name, each in raw.items()}
        return {name: value for name, (each, value) in inside.items() if not _switched_off(each, value)}

    def _component(self, raw: Mapping[str, Any], key: str) -> Value:
        off = self._value(raw.get("_disabled_", False), f"{key}{SEPARATOR}_disabled_")
        if off is True or (isinstance(off, str) and off.strip().lower() == "true"):
            return None
        target = self._value(raw["_target_"], f"{key}{SEPARATOR}_target_")
        if not isinstance(target, str) or raw.get("_mode_", "default") != "default":
            raise NotReadable("is built in a way of its own", code=True)
        return Component(target, key, self._entries({name: each for name, each in raw.items() if name not in NO_ARGUMENTS}, key))


def _part(held: Any, name: str) -> Any:
    if isinstance(held, dict) and name in held:
        return held[name]
    if isinstance(held, list) and name.isdecimal() and int(name) < len(held):
        return held[int(name)]
    raise NotReadable(f"there is no {name!r}")


def _switched_off(raw: Any, value: Value) -> bool:
    return value is None and isinstance(raw, dict) and "_target_" in raw


def absolute(text: str, key: str) -> str:
    """A text whose relative references (@#, %##) start at the top.  key: where it stands."""
    text = text.replace("#", SEPARATOR) if text.startswith(("$", "@", "%")) else text
    levels = key.split(SEPARATOR)

    def up(found: re.Match[str]) -> str:
        count = len(found["levels"]) // len(SEPARATOR)
        if count > len(levels):
            raise NotReadable(f"{text!r} refers to something above the top")
        return found["sign"] + "".join(f"{level}{SEPARATOR}" for level in levels[:-count])

    return RELATIVE.sub(up, text)


def imports(statements: Any) -> dict[str, str]:
    """What names stand for which libraries, by the import statements of a configuration; nothing is imported."""
    found: dict[str, str] = {}
    for text in statements if isinstance(statements, list) else []:
        try:
            tree = ast.parse(str(text).removeprefix("$").strip()[:1000])
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        for node in tree.body:
            if isinstance(node, ast.Import):
                found |= {
                    each.asname or each.name.partition(".")[0]: each.name if each.asname else each.name.partition(".")[0]
                    for each in node.names
                }
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
    return found
