"""What do settings mean, and since when? The version that keeps old shards from being taken for new ones.

It rises whenever the same spec would give other bits than before: other pixels, labels or perturbations; once for changes that land
together. A new setting whose default means what was done before does not raise it (`ADDED` in spec/base.py). The plan freezes it, so a
corpus of an earlier version goes on to verify and reproduce, and is resumed with nothing new; it is neither finished nor grown.
"""

MEANING_VERSION = 6
