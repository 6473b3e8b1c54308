"""Which samples an epoch sees: classes in balance, and no patient more often than another."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from torch.utils.data import Sampler

from medadv.common.hashing import seed_of
from medadv.training.strata import drawables

Balance = Literal["class", "group", "class-group"]


class BalancedSampler(Sampler[int]):
    """Draws indices with replacement: first a class, then one of its groups (patients), then one of the group's samples, each uniformly.

    Classes are labels for classification (each combination of several labels is one), and foreground or none for masks and boxes.
    The draws follow from seed and epoch alone.
    """

    def __init__(self, dataset: Any, balance: Balance = "class-group", length: int | None = None, seed: int = 0) -> None:
        """
        Args:
            dataset: a CorpusDataset, a Subset of one, or a ConcatDataset of these; read once for its labels and groups.
            balance: over classes, over groups, or over groups within classes.
            length: draws an epoch; as many as there are samples when None.
            seed: of the draws.

        Raises:
            TypeError: another kind of data set.
            ValueError: no such balance.
        """
        if balance not in ("class", "group", "class-group"):
            raise ValueError(f"balance={balance!r} must be class, group or class-group")
        tree: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for each in drawables(dataset):
            tree[each.label if "class" in balance else ""][each.group if "group" in balance else ""].append(each.index)
        self.strata = [[groups[name] for name in sorted(groups)] for _, groups in sorted(tree.items())]
        self.length, self.seed, self.epoch = len(dataset) if length is None else length, seed, 0

    def __len__(self) -> int:
        return self.length

    def set_epoch(self, epoch: int) -> None:
        """Draw anew."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        draw = np.random.default_rng(seed_of("sampler", self.seed, self.epoch))
        for _ in range(self.length):
            groups = self.strata[int(draw.integers(len(self.strata)))]
            samples = groups[int(draw.integers(len(groups)))]
            yield samples[int(draw.integers(len(samples)))]
