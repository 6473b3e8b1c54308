"""Are there images to train on, to choose by, and to look at last? Asked before the first corpus, since the last are needed hours later."""

from medadv.common.errors import SpecError
from medadv.datasets.layouts import list_samples
from medadv.hardening.specs import final_spec, training_spec, validation_spec
from medadv.hardening.work import Work


def refuse_empty_splits(work: Work) -> None:
    """SpecError where a split that the hardening needs holds nothing, which leaves nothing behind: another spec may begin here."""
    asked = {
        "hardening.split": training_spec(work.spec, 1, None),
        "hardening.validation": validation_spec(work.spec, 0, None),
        "data.split.use": final_spec(work.spec, "victim", None),
    }
    for key, spec in asked.items():
        assert spec.data.split is not None
        try:
            listing = list_samples(spec.data, work.base)
            if not listing.sources and not listing.problems:
                raise SpecError(f"{key}: there are no images of split {spec.data.split.use!r}")
        except SpecError as error:
            work.home.spec.unlink(missing_ok=True)
            raise error from None
