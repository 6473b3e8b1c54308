"""What can be drawn, and what is it: which sample of which corpus, of which class, of which patient?"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch.utils.data import ConcatDataset, Subset

from medadv.datasets.labels import Boxes
from medadv.store.reader import read_answer
from medadv.training.dataset import CorpusDataset
from medadv.training.parts import CorpusPart
from medadv.victims.tasks.segmentation import IGNORE


@dataclass(frozen=True)
class Drawable:
    """A stored example."""

    index: int
    """In the data set."""
    corpus: int
    """Place of its corpus among all that are read."""
    sample: str
    """Its id: generations of a corpus have the same for the same input."""
    group: str
    label: str
    """Its class: each combination of several labels is one; foreground or none for masks and boxes. Empty where it was not asked for."""


def data_sets_of(dataset: Any) -> list[CorpusDataset]:
    """The CorpusDatasets inside Subsets and ConcatDatasets, in order. Raises TypeError for another kind of data set."""
    if isinstance(dataset, CorpusDataset):
        return [dataset]
    if isinstance(dataset, Subset):
        return data_sets_of(dataset.dataset)
    if isinstance(dataset, ConcatDataset):
        return [found for part in dataset.datasets for found in data_sets_of(part)]
    raise TypeError(f"this sampler reads a CorpusDataset, a Subset or a ConcatDataset of them, not {type(dataset).__name__}")


def drawables(dataset: Any, *, labels: bool = True) -> list[Drawable]:
    """Every stored example of what `data_sets_of` takes, in order.

    labels: read them, which for masks means all of their voxels.
    """
    if isinstance(dataset, Subset):
        whole = drawables(dataset.dataset, labels=labels)
        found = [whole[index] for index in dataset.indices]
    elif isinstance(dataset, ConcatDataset):
        found, corpora = [], 0
        for part in dataset.datasets:
            found += [_moved(each, corpora) for each in drawables(part, labels=labels)]
            corpora += sum(len(inner.parts) for inner in data_sets_of(part))
    else:
        (inner,) = data_sets_of(dataset)
        found = [each for number, part in enumerate(inner.parts) for each in _stored(part, number, labels)]
    return [Drawable(index, each.corpus, each.sample, each.group, each.label) for index, each in enumerate(found)]


def _moved(each: Drawable, corpora: int) -> Drawable:
    return Drawable(each.index, each.corpus + corpora, each.sample, each.group, each.label)


def _stored(part: CorpusPart, number: int, labels: bool) -> Iterator[Drawable]:
    for path in part.shards.paths:
        file = part.shards.open(path)
        samples, groups = ([bytes(value).decode() for value in file[name][...]] for name in ("sample_id", "group_id"))
        for row, (sample, group) in enumerate(zip(samples, groups, strict=True)):
            yield Drawable(0, number, sample, group, _class(read_answer(file, "label", row)) if labels else "")


def _class(label: Any) -> str:
    if isinstance(label, Boxes):
        return str(len(label.boxes) > 0)
    return str(label.tolist() if label.ndim < 2 else bool(((label != 0) & (label != IGNORE)).any()))
