"""What does a model answer to fresh attacks, and to images that it was not trained on? Corpora by `run`, and measurements beside them."""

from pathlib import Path

from medadv.common.files import write_file
from medadv.hardening.folder import TRAINED, VALIDATION, WEIGHTS, Arm, drop_shards, measurement
from medadv.hardening.measuring import Measurement, image_ids, measured, measured_clean, read_measurement
from medadv.hardening.same import Images, refuse_other_images
from medadv.hardening.specs import alike_before, begins_warm, beside, validation_spec
from medadv.hardening.work import Made, Work
from medadv.spec.run_spec import RunSpec


def moment(work: Work, number: int) -> str | None:
    """Weights that the next corpus is made against: of the model in training after a generation; None for the victim's own."""
    if number == 0:
        return None
    return beside(work.home.generation(number) / (TRAINED if work.settings.averages else WEIGHTS), work.base)


def weights_of(work: Work, number: int, arm: Arm = "hardened") -> str | None:
    """Weights that came out of a generation; None for the victim's own."""
    return None if number == 0 else beside(work.home.generation(number, arm) / WEIGHTS, work.base)


def attacked(work: Work, folder: Path, spec: RunSpec, newest: Made, images: Images = "validation") -> Measurement:
    """Fresh attacks as a corpus, and what they say; read where it was measured before.

    newest: what was trained on.  images: which they are.  SpecError where they are other ones than at first.
    """
    found = read_measurement(measurement(folder))
    if found is None:
        work.corpus(folder, spec)
    refuse_other_images(work, images, folder)
    if found is None:
        found = measured(folder, image_ids(newest.ids()))
        _write(folder, found)
    return found


def validated(work: Work, number: int, newest: Made) -> Measurement:
    """A generation under fresh attacks on validation."""
    spec = validation_spec(work.spec, number, weights_of(work, number))
    return attacked(work, work.home.generation(number) / VALIDATION, spec, newest)


def control_validated(work: Work, number: int, newest: Made) -> Measurement:
    """The control after as many epochs, on clean validation images, as the generation's own validation stored them."""
    folder = work.home.generation(number, "control") / VALIDATION
    found = read_measurement(measurement(folder))
    if found is None:
        victim = work.victim(newest, weights_of(work, number, "control"))
        corpus = work.home.generation(number) / VALIDATION
        found = measured_clean(victim.scored, victim.identity.weights_sha256, corpus, image_ids(newest.ids()), work.device)
        _write(folder, found)
    return found


def drop_older(work: Work, newest: int) -> None:
    """Leave the manifests of generations that nothing reads or starts from any more."""
    if work.settings.keep == "newest":
        # A cold start reads none of those before.
        unread = alike_before(work.spec, newest) if begins_warm(work.spec) else newest - 1
        for number in range(1, unread + 1):
            drop_shards(work.home.corpus(number))
        drop_shards(work.home.generation(newest - 1) / VALIDATION)


def _write(folder: Path, found: Measurement) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_file(measurement(folder), found.model_dump_json().encode() + b"\n")
