"""Which groups of a split are cut off, and which are left? Drawn by seed, whole: no patient stands on both sides."""

from dataclasses import replace

from medadv.common.errors import SpecError
from medadv.common.hashing import seed_of
from medadv.datasets.source import Listing, Source
from medadv.spec.data import PartSettings


def part_of(listing: Listing, part: PartSettings) -> Listing:
    """The listing with the samples of one side. What cannot be used stays listed on both.

    SpecError: fewer than two groups, of which none could be left.
    """
    groups = sorted({_group(source) for source in listing.sources})
    if len(groups) < 2:
        raise SpecError(f"data.part cuts groups off, and there is {len(groups)} of them: it takes two at least")
    # By rank and not by a threshold: of few groups, too, the share is cut off.
    drawn = sorted(groups, key=lambda group: (seed_of("part", part.seed, group), group))
    cut = set(drawn[: min(len(groups) - 1, max(1, round(part.share * len(groups))))])
    kept = [source for source in listing.sources if (_group(source) in cut) == (part.take == "cut")]
    return replace(listing, sources=kept)


def _group(source: Source) -> str:
    """A group's name, or the first image where a sample has none."""
    return f"image {source.images[0]}" if source.group is None else f"group {source.group}"
