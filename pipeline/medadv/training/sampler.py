"""In which order does training read a corpus, or generations of one, and where does it go on after it was stopped?"""

import math
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, islice
from typing import Any, TypeAlias, TypedDict, TypeVar

import numpy as np
from torch import distributed
from torch.utils.data import Sampler

from medadv.common.hashing import hash_value, seed_of
from medadv.training.sampling import Balance
from medadv.training.strata import Drawable, data_sets_of, drawables

Batch = TypeVar("Batch")
Hands: TypeAlias = "Sequence[int | Hands]"
"""Numbers, or lists of numbers, or lists of these."""


class Order(TypedDict):
    """What an epoch's order follows from, but for the epoch."""

    seed: int
    balance: Balance | None
    weights: list[float]
    length: int
    samples: str
    """Hash of what there is to draw."""


class SamplerState(TypedDict):
    """Where a sampler is. Plain values, so that JSON holds it too."""

    epoch: int
    position: int | None
    """Samples of the epoch that all ranks together have trained on; None where nobody counted them."""
    of: Order
    """A sampler with another one does not take this state."""


class CorpusSampler(Sampler[int]):
    """Every sample once an epoch in random order, from one of the corpora that hold it, drawn by weight.

    So the same input in several generations counts once, and its clean image too; a generation that does not hold it (quarantined there)
    leaves it to the others. To read every stored example of every generation once, take the loader's own `shuffle` instead.

    With `balance`, classes come equally often, to within one, and within a class its groups (patients), and within a group its samples:
    dealt, not drawn with replacement as by BalancedSampler. A sample may then come several times an epoch, each time from a corpus drawn
    anew. Classes are labels, each combination of several being one, and foreground or none for masks and boxes. What is one patient in two
    corpora, whose group ids are hashed with keys of their own, is told by the samples that they share.

    Over ranks the order is dealt out in turn: disjoint, equally long, and together the whole. Where the length is no multiple of the ranks,
    the order goes on for the few draws that are missing, which then repeat samples.

    The order follows from seed, epoch, samples, weights and `balance` alone. `set_epoch` moves the data set's epoch too.

    A loader with workers draws ahead of what it has handed over, so that a state has to count what was trained on:

    >>> for batch in sampler.counted(loader):        # doctest: +SKIP
    ...     train(batch)
    ...     save({"sampler": sampler.state_dict(), "model": network.state_dict()})

    or `sampler.state_dict(consumed=steps * batch_size)` where the loop is somebody else's. torchdata's StatefulDataLoader keeps a state a
    batch by itself. After `load_state_dict` the next iteration yields the rest of the epoch, on as many ranks as there are then.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        weights: Sequence[float] | None = None,
        balance: Balance | None = None,
        length: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        seed: int = 0,
    ) -> None:
        """
        Args:
            dataset: a CorpusDataset, a Subset of one, or a ConcatDataset of these; read once for ids and groups, with `balance` labels too.
            weights: of each corpus, in order; a sample comes from those that hold it in these proportions. Equal when None; 0 for one that
                is not read.
            balance: over classes, over groups, or over groups within classes; None for every sample once.
            length: draws an epoch, of all ranks together; as many as there are samples when None.
            rank: of this process; that of torch.distributed when None, 0 where that is not in use.
            world_size: number of ranks, likewise.
            seed: of the order.

        Raises:
            TypeError: another kind of data set.
            ValueError: settings out of range, or nothing to draw.
        """
        if balance not in (None, "class", "group", "class-group"):
            raise ValueError(f"balance={balance!r} must be None, class, group or class-group")
        shared = distributed.is_available() and distributed.is_initialized()
        self.rank = (distributed.get_rank() if shared else 0) if rank is None else rank
        self.world_size = (distributed.get_world_size() if shared else 1) if world_size is None else world_size
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank={self.rank} must lie between 0 and world_size - 1, and world_size is {self.world_size}")
        self.data_sets = data_sets_of(dataset)
        self.weights = _weights(weights, sum(len(each.parts) for each in self.data_sets))
        held: dict[str, list[Drawable]] = defaultdict(list)
        for each in drawables(dataset, labels=balance in ("class", "class-group")):
            if self.weights[each.corpus]:
                held[each.sample].append(each)
        if not held:
            raise ValueError("no sample to draw: the data set is empty, or its corpora have weight 0")
        self.samples = list(held)
        self.examples = list(held.values())
        self.ends = [list(accumulate(self.weights[each.corpus] for each in examples)) for examples in self.examples]
        self.seed, self.epoch = seed, 0
        self.hands = _hands(self.examples, balance)
        self.length = len(self.samples) if length is None else length
        if self.length < 1:
            raise ValueError(f"length={self.length} must be 1 or more")
        known = hash_value([[each.sample, each.corpus, each.group, each.label] for examples in self.examples for each in examples])
        self._of: Order = {"seed": seed, "balance": balance, "weights": self.weights, "length": self.length, "samples": known}
        self._start: int | None = 0  # where the next iteration of this epoch begins
        self._now = _Draws(self, 0)
        self._counted: int | None = None

    def __len__(self) -> int:
        """Draws of this rank in a whole epoch."""
        return -(-self.length // self.world_size)

    def __iter__(self) -> Iterator[int]:
        self._now, self._counted = _Draws(self, self._start), None
        return self._now

    def set_epoch(self, epoch: int) -> None:
        """Draw anew, the data set too; the epoch that a state was loaded for goes on where it was."""
        if epoch != self.epoch:
            self._begin(0)
        self.epoch = epoch
        for each in self.data_sets:
            each.set_epoch(epoch)

    def counted(self, loader: Iterable[Batch]) -> Iterator[Batch]:
        """The loader's batches; each counts as trained on from when it is handed over, for `state_dict`.

        loader: a DataLoader with this sampler, of any kind and with any number of workers.
        Raises ValueError where it does not say how many samples a batch has.
        """
        size = getattr(getattr(loader, "batch_sampler", None), "batch_size", getattr(loader, "batch_size", None))
        if size is None:
            raise ValueError("the loader does not say its batch_size: count samples, and give them to state_dict(consumed=…)")
        for number, batch in enumerate(loader, 1):
            self._counted = number * size
            yield batch

    def state_dict(self, consumed: int | None = None) -> SamplerState:
        """Where the epoch is.

        consumed: samples that this rank has trained on since the loop over the loader began; those of `counted` when None. With neither,
        the state of an epoch that has begun has no position, and only torchdata's loader, which knows it, can go on from it.
        """
        if consumed is not None and consumed < 0:
            raise ValueError(f"consumed={consumed} must be 0 or more")
        known = self._counted if consumed is None else consumed
        start = self._now.start
        if known is None and not self._now.drawn:
            known = 0
        position = None if known is None or start is None else min(start + known * self.world_size, self._end(start))
        return {"epoch": self.epoch, "position": position, "of": self._of}

    def load_state_dict(self, state: SamplerState) -> None:
        """Go on where a state was taken, of this sampler or of one with the same settings; the number of ranks may differ.

        Raises ValueError where the state is of another order.
        """
        for key, value in self._of.items():
            if (other := state["of"].get(key)) != value:
                raise ValueError(f"the state is of a sampler with {key}={other}, this one has {key}={value}: their orders differ")
        self.set_epoch(state["epoch"])
        self._begin(state["position"])

    def order(self) -> Iterator[int]:
        """Indices of this epoch for all ranks together, without end."""
        times: Counter[int] = Counter()
        epoch = self.epoch
        for number in _dealt(self.hands, np.random.default_rng(seed_of("corpus sampler", self.seed, epoch))):
            examples, ends = self.examples[number], self.ends[number]
            if len(examples) == 1:
                yield examples[0].index
                continue
            drawn = seed_of("corpus", self.seed, epoch, self.samples[number], times[number]) / 2**128
            times[number] += 1
            yield examples[min(bisect_right(ends, drawn * ends[-1]), len(ends) - 1)].index

    def _begin(self, position: int | None) -> None:
        self._start = position
        self._now, self._counted = _Draws(self, position), None

    def _end(self, start: int) -> int:
        """Where an iteration ends that began at `start`: every rank has drawn equally often."""
        return start + -(-max(0, self.length - start) // self.world_size) * self.world_size


class _Draws(Iterator[int]):
    """One rank's draws of an epoch. torchdata's loader asks them for their state with every batch that it sends to a worker."""

    def __init__(self, sampler: CorpusSampler, start: int | None) -> None:
        self.sampler, self.start, self.drawn = sampler, start, 0
        self.indices: Iterator[int] | None = None

    def __iter__(self) -> "_Draws":
        return self

    def __next__(self) -> int:
        if self.start is None:
            raise ValueError(
                "the state that was loaded does not say how much of its epoch was trained on: take it inside a loop over "
                "sampler.counted(loader), or as sampler.state_dict(consumed=…)"
            )
        if self.indices is None:
            sampler = self.sampler
            self.indices = islice(sampler.order(), self.start + sampler.rank, sampler._end(self.start), sampler.world_size)
        found = next(self.indices, None)
        if found is None:
            # Only now: whoever merely looked at the first batch of a resumed epoch finds it where it was.
            self.sampler._start = 0
            raise StopIteration
        self.drawn += 1
        return found

    def state_dict(self) -> dict[str, int | None]:
        """Where they are."""
        return {"position": None if self.start is None else self.start + self.drawn * self.sampler.world_size}

    def load_state_dict(self, state: dict[str, int | None]) -> None:
        """Go on there."""
        self.start, self.drawn, self.indices = state["position"], 0, None


def _weights(weights: Sequence[float] | None, corpora: int) -> list[float]:
    if weights is None:
        return [1.0] * corpora
    if len(weights) != corpora:
        raise ValueError(f"weights={list(weights)} must hold one number for each of the {corpora} corpora")
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights):
        raise ValueError(f"weights={list(weights)} must be finite and not below 0")
    return [float(weight) for weight in weights]


def _hands(examples: Sequence[Sequence[Drawable]], balance: Balance | None) -> Hands:
    """Numbers of samples, in lists by class and group as far as these are balanced."""
    if balance is None:
        return list(range(len(examples)))
    groups = _joined(examples)
    tree: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for number, held in enumerate(examples):
        tree[held[0].label if balance != "group" else ""][groups[number] if balance != "class" else ""].append(number)
    by_class = [list(inner.values()) for inner in tree.values()]
    if balance == "class":
        return [inner[0] for inner in by_class]
    return by_class[0] if balance == "group" else by_class


def _joined(examples: Sequence[Sequence[Drawable]]) -> list[str]:
    """The group of each sample: groups that share a sample are one, whatever each corpus calls it."""
    leads: dict[str, str] = {}

    def last(name: str) -> str:
        while leads.get(name, name) != name:
            name = leads[name]
        return name

    for held in examples:
        for each in held:
            leads[last(each.group)] = last(held[0].group)
    return [last(held[0].group) for held in examples]


def _dealt(parts: Hands, draw: np.random.Generator) -> Iterator[int]:
    """Numbers out of nested lists without end: every part of a list comes once before one comes again, in an order drawn each time."""
    hands = [part if isinstance(part, int) else _dealt(part, draw) for part in parts]
    while True:
        for place in draw.permutation(len(hands)).tolist():
            hand = hands[place]
            yield hand if isinstance(hand, int) else next(hand)
