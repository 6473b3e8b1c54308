"""Which tensors of a checkpoint are a network's? The nested dictionary and the prefix that fit best, and what is left over."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from torch import Tensor

PREFERRED = ("state_dict", "model", "model_state_dict", "network", "network_weights")
"""Names of the dictionary that counts where several fit equally well, such as weights and their moving average."""

COUNTERS = ("num_batches_tracked", "total_ops", "total_params")
"""Last names of tensors that count batches or operations: no answer depends on them."""

DEEPEST = 3
MOST_PREFIXES = 8
"""How many prefixes are tried where none is asked for: every one costs a look at all tensors."""
SHOWN = 3


@dataclass(frozen=True)
class Match:
    """Tensors by the network's own names, and how they were found.

    place: names of nested dictionaries, outermost first.  beside: tensors without the prefix, so of something else.  equal: other places
    whose tensors fit as well.
    """

    tensors: dict[str, Tensor]
    place: tuple[str, ...]
    prefix: str
    beside: int
    equal: tuple[str, ...]

    @property
    def note(self) -> str | None:
        """One line for whoever gave the checkpoint; None where its names are the network's own."""
        said = [f"from {'.'.join(self.place)!r}"] if self.place and self.place not in {(name,) for name in PREFERRED} else []
        said += [f"with the prefix {self.prefix!r}"] if self.prefix else []
        said += [f"{self.beside} tensors beside it left out"] if self.beside else []
        said += [f"{', '.join(map(repr, self.equal))} would fit as well"] if self.equal else []
        return "weights taken " + ", ".join(said) if said else None


def match(own: Mapping[str, Tensor], loaded: Any, wanted: str | None = None) -> Match:
    """The tensors of `loaded` that fit a network best.

    own: the network's state.  loaded: what the checkpoint holds, a dictionary of tensors or of such dictionaries.  wanted: name of the
    nested dictionary to take, dotted where it lies deeper, with the prefix behind it where several have one.

    Raises ValueError, saying which names are missing, not known or of another shape, with the nearest ones.
    """
    around = _around(own)
    bare = {name.removeprefix(around): value for name, value in own.items()}
    names = {name for _, tensors in dictionaries(loaded) for name in tensors}
    if around and not any(around in name for name in names) and any(end in bare for name in names for end in (name, *_endings(name))):
        # The network is wrapped, as VISTA3D is around its prompts, and its weights were saved as those of what is inside.
        inside = match(bare, loaded, wanted)
        return replace(inside, tensors={around + name: value for name, value in inside.tensors.items()})
    found = [
        _beneath(own, tensors, place, prefix)
        for place, tensors in dictionaries(loaded)
        for prefix in _prefixes(own, tensors, MOST_PREFIXES if wanted is None else None)
        if wanted in (None, ".".join(place), _name(place, prefix))
    ]
    if not found:
        held = sorted({".".join(place) for place, _ in dictionaries(loaded) if place})
        where = f"no dictionary of tensors called {wanted!r}" if wanted else "no tensors"
        raise ValueError(f"it holds {where}" + (f"; there are {', '.join(held)}" if held else ""))
    fitting = {id(each): _fitting(own, each) for each in found}
    most = max(fitting.values())
    best = sorted((each for each in found if fitting[id(each)] == most), key=_rank)
    first = best[0]
    if problems := _problems(own, first):
        raise ValueError(problems)
    equal = tuple(_name(each.place, each.prefix) for each in best[1:] if not _same(each, first))
    return Match({name: first.tensors[name] for name in own if name in first.tensors}, first.place, first.prefix, first.beside, equal)


def _around(own: Mapping[str, Tensor]) -> str:
    """What all names begin with, up to the first dot; empty where they begin differently."""
    first = {name.partition(".")[0] for name in own}
    return f"{first.pop()}." if len(first) == 1 and all("." in name for name in own) else ""


def dictionaries(loaded: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Every dictionary that holds tensors, with its place."""
    if not isinstance(loaded, Mapping) or len(place) > DEEPEST:
        return
    tensors = {name: value for name, value in loaded.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if tensors:
        yield place, tensors
    for name, value in loaded.items():
        if isinstance(name, str):
            yield from dictionaries(value, (*place, name))


def _prefixes(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], most: int | None) -> list[str]:
    """No prefix, and those that the most names would have; all where `most` is None."""
    last = {name.rpartition(".")[2]: name for name in own}
    seen = Counter[str]()
    for name in tensors:
        # Any of the network's names with the same last part may end this one; the longest that does leaves the prefix.
        if name.rpartition(".")[2] in last:
            seen.update({name[: -len(each)] for each in _endings(name) if each in own and len(each) < len(name)})
    return ["", *(prefix for prefix, _ in seen.most_common(most))]


def _endings(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[first:]) for first in range(1, len(parts)))


def _beneath(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], place: tuple[str, ...], prefix: str) -> Match:
    inside = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    known = {name: value for name, value in inside.items() if name in own or name.rpartition(".")[2] not in COUNTERS}
    return Match(known, place, prefix, len(tensors) - len(inside), ())


def _fitting(own: Mapping[str, Tensor], found: Match) -> int:
    return sum(name in own and own[name].shape == value.shape for name, value in found.tensors.items())


def _rank(found: Match) -> tuple[bool, bool, int, int, str]:
    """Least surprise first: no moving average, then the top or a name that everyone uses, then the shorter prefix."""
    outermost, name = found.place[0] if found.place else "", _name(found.place, found.prefix)
    preference = PREFERRED.index(outermost) if outermost in PREFERRED else len(PREFERRED)
    return "ema" in name.lower(), bool(found.place) and outermost not in PREFERRED, preference, len(found.prefix), name


def _name(place: tuple[str, ...], prefix: str) -> str:
    return ".".join([*place, *prefix.split(".")[:-1]])


def _same(one: Match, other: Match) -> bool:
    return one.tensors.keys() == other.tensors.keys() and all(value.equal(other.tensors[name]) for name, value in one.tensors.items())


def _problems(own: Mapping[str, Tensor], found: Match) -> str:
    needed = [name for name in own if name.rpartition(".")[2] not in COUNTERS]
    missing = sorted(set(needed) - found.tensors.keys())
    extra = sorted(found.tensors.keys() - own.keys())
    shapes = [
        f"{name} {list(value.shape)} for {list(own[name].shape)}"
        for name, value in found.tensors.items()
        if name in own and own[name].shape != value.shape
    ]
    parts = [f"{len(names)} {what} ({_some(names)})" for what, names in _named(missing, extra, shapes) if names]
    near = [f"{name} is near {', '.join(close)}" for name in missing[:1] if (close := get_close_matches(name, extra, SHOWN, 0.5))]
    return "; ".join(parts + near)


def _named(missing: list[str], extra: list[str], shapes: list[str]) -> tuple[tuple[str, list[str]], ...]:
    return ("missing", missing), ("not known to the network", extra), ("of another shape", shapes)


def _some(names: list[str]) -> str:
    return f"{', '.join(names[:SHOWN])}{', …' if len(names) > SHOWN else ''}"
