"""The words that every exported file carries."""

from medadv.corpus.manifest import Manifest
from medadv.spec.modality import UNITS, amount

SERIES = "ADVERSARIAL TEST - SYNTHETIC - NOT FOR CLINICAL USE"
CLEAN_SERIES = "CLEAN COPY - ROBUSTNESS TEST - NOT FOR CLINICAL USE"
MANUFACTURER = "medadv"
PATIENT = "TEST^ROBUSTNESS"
"""Of clean copies too, so that one patient has one name."""


def derivation(manifest: Manifest, attack: str | None, sample: str) -> str:
    """How the image came to be, in one paragraph."""
    if attack is None:
        return f"Preprocessed copy of a clean image, sample {sample} of corpus {manifest.content_root[:16]}. Not for clinical use."
    settings = manifest.attacks[attack]
    bound = amount(settings.epsilon, UNITS[manifest.data.unit])
    return (
        f"Adversarial perturbation ({settings.attack}, L-infinity bound {bound}) of sample {sample} of corpus "
        f"{manifest.content_root[:16]}, made by {manifest.tool.name} {manifest.tool.version} to test the robustness of "
        "software. Not for clinical use."
    )


def about_patient(burned_in: str | None) -> str:
    """What a header says of the patient. burned_in: what the source's header said of annotation burnt into the pixels, None for nothing."""
    said = f"the source's header said {burned_in} of" if burned_in else "nobody looked for"
    return f"This header was written anew and names nobody. The pixels are a data set's: {said} annotation burnt into them."
