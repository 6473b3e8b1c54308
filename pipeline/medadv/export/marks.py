"""The words that every exported file carries."""

from medadv.corpus.manifest import Manifest

SERIES = "ADVERSARIAL TEST - SYNTHETIC - NOT FOR CLINICAL USE"
CLEAN_SERIES = "CLEAN COPY - ROBUSTNESS TEST - NOT FOR CLINICAL USE"
MANUFACTURER = "medadv"


def derivation(manifest: Manifest, attack: str | None, sample: str) -> str:
    """How the image came to be, in one paragraph."""
    if attack is None:
        return f"Preprocessed copy of a clean image, sample {sample} of corpus {manifest.content_root[:16]}. Not for clinical use."
    settings = manifest.attacks[attack]
    unit = "HU" if manifest.data.unit == "hu" else "grey levels"
    return (
        f"Adversarial perturbation ({settings.attack}, L-infinity bound {settings.epsilon:g} {unit}) of sample {sample} of corpus "
        f"{manifest.content_root[:16]}, made by {manifest.tool.name} {manifest.tool.version} to test the robustness of "
        "software. Not for clinical use."
    )
