"""Can this network be trained at all? A batch is tried before the first corpus is made, which may take hours."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch

from medadv.common.errors import SpecError, first_line
from medadv.datasets.labels import Boxes
from medadv.datasets.layouts import list_samples
from medadv.datasets.reader import Reader
from medadv.datasets.sample import Sample
from medadv.hardening.specs import training_spec
from medadv.hardening.training import Trainee
from medadv.hardening.work import Work
from medadv.training.collate import collate
from medadv.training.images import label_of, tensor_of
from medadv.victims.loading import VictimRequest
from medadv_transforms import InputError

TRIED_FILES = 20
"""How many inputs are looked at until one can be read: what is wrong with all of them is for the run to tell."""
MOST = 2
"""Images of the batch: as many as batch-norm needs."""


def refuse_untrainable(work: Work) -> None:
    """Try the loss of a batch of stored images, there and back, in training mode.

    SpecError where it fails, which leaves nothing behind: not the spec either, so that another one may begin here. What cannot be read or
    loaded is left to the run, which has more to say of it. The network is another one than is trained, and random states stay.
    """
    sample = next(_samples(work), None)
    if sample is None:
        return
    spec, settings = work.spec, work.settings
    with torch.random.fork_rng():
        request = VictimRequest(spec.victim, spec.data.task, work.base, work.options.trust_code, sample.x_first)
        try:
            model = request.load(work.device, sample.image.shape).scored
        except SpecError:
            return
        trainee = Trainee(model, settings, work.device)
        batch = collate([_item(sample)] * min(MOST, settings.batch_size))
        try:
            trainee.try_batch(batch, settings.beta if settings.loss == "trades" else None)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # whatever the network raises, the user learns that it cannot be trained so
            work.home.spec.unlink(missing_ok=True)
            raise SpecError(
                f"victim.network={spec.victim.network} cannot be trained by hardening.loss={settings.loss} ({first_line(error)}): where it "
                "answers otherwise in training, as with deep supervision or auxiliary outputs, turn that off in victim.arguments; or take "
                "another loss, or hardening.command"
            ) from None


def _samples(work: Work) -> Iterator[Sample]:
    """Images of the split that is trained on, with labels, by path."""
    spec = training_spec(work.spec, 1, None)
    listing = list_samples(spec.data, work.base)
    reader = Reader(listing.root, spec.data, spec.preprocess, spec.victim.head == "sigmoid")
    for source in islice(sorted(listing.sources, key=lambda source: source.images), TRIED_FILES):
        try:
            sample = reader.read(reader.expand(source)[0])
        except (InputError, OSError):
            continue
        if sample.label is not None:
            yield sample


def _item(sample: Sample) -> dict[str, Any]:
    """As CorpusDataset gives it, `adversarial` beside it; with a truth that every network bears, since the run looks at the others."""
    image = tensor_of(sample.image, None)
    item: dict[str, Any] = {"image": image, "adversarial": image}
    if isinstance(sample.label, Boxes):
        side, dims = min(image.shape[1:]), image.ndim - 1
        box = [side / 4] * dims + [3 * side / 4] * dims
        return {**item, "boxes": torch.tensor([box]), "classes": torch.ones(1, dtype=torch.int64)}
    return {**item, "label": label_of(np.zeros_like(np.asarray(sample.label)), None, image.ndim - 1)}
