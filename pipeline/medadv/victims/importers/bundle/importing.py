"""How does a MONAI bundle become plain settings of a victim? Network, steps, windows, head and classes, each by its own reader."""

from pathlib import Path

from medadv.common.errors import SpecError
from medadv.victims.importers.bundle.checkpoints import SCRIPTED, read_checkpoint, scripted
from medadv.victims.importers.bundle.configuration import Configuration
from medadv.victims.importers.bundle.detectors import read_detector
from medadv.victims.importers.bundle.files import read_configuration
from medadv.victims.importers.bundle.found import Found
from medadv.victims.importers.bundle.heads import read_head
from medadv.victims.importers.bundle.inferers import read_inferer
from medadv.victims.importers.bundle.networks import FoundNetwork, read_network
from medadv.victims.importers.bundle.outputs import is_picture, read_modality, read_names, read_task
from medadv.victims.importers.bundle.transforms import read_transforms
from medadv.victims.importers.bundle.values import NotReadable, Words
from medadv.victims.importers.imported import Imported


def import_bundle(bundle: Path, trust_code: bool, configuration: str | None = None, head: str | None = None) -> Imported:
    """A bundle as plain settings: nothing of it is run, and nothing is built.

    bundle: its folder.  configuration: file in its `configs/` that says how it infers, `inference` unless given.  trust_code: whether
    entries that only running them can tell are run, and code of the bundle may build its network.  head: the spec's own, for a bundle that
    tells none.

    Raises SpecError, in one line, for what cannot be read or said.
    """
    try:
        return _imported(Found(Configuration(bundle, trust_code, configuration)), head)
    except NotReadable as error:
        raise SpecError(str(error)) from None
    except RecursionError:
        raise SpecError(f"{bundle.name} is nested too deeply") from None


def _imported(found: Found, said: str | None) -> Imported:
    configuration = found.configuration
    path = configuration.folder.root / "configs" / "metadata.json"
    metadata = read_configuration(path) if path.is_file() else {}
    detected = read_detector(found)
    network, program = (detected[0], None) if detected else _network(found)
    found.picture = is_picture(metadata, network)
    if not found.picture and network.spatial_dims == 2 and read_modality(metadata) is None:
        found.note(
            "images of two axes are taken to be stored x first, as CT slices are and as MONAI reads them; for grey pictures, stored y "
            "first, write victim.normalize with transpose: [1, 0] at its beginning"
        )
    read_transforms(found)
    settings = detected[1] if detected else read_inferer(found)
    _refuse_padding(found, settings)
    task = "detection" if detected else read_task(metadata, network)
    head = {} if detected else read_head(found, metadata, network, said)
    victim: Words = {"network": network.network, "arguments": network.arguments}
    if program is None:
        weights = read_checkpoint(found)
        if not weights.is_file():
            found.note(
                f"weights {weights.relative_to(configuration.folder.root)} are not in the bundle: fetch them, or name victim.weights"
            )
        victim |= {"network": str(weights), "arguments": {}} if weights.suffix == SCRIPTED else {"weights": str(weights)}
    victim |= {**head, "normalize": found.steps, **settings}
    if network.code is not None and victim["network"] == network.network:
        victim["code"] = network.code
    modality = read_modality(metadata)
    names = {} if detected else read_names(found, metadata, network, task, head["head"])
    data = {"task": task, **({"modality": modality} if modality else {}), **names}
    return Imported(victim, data, found.preprocess, tuple(found.notes))


def _refuse_padding(found: Found, windows: Words) -> None:
    """Raise SpecError where images are padded further than windows pad them."""
    size = found.padded
    window = windows.get("window")
    same = "window_padding" not in windows and isinstance(window, list) and len(window) == len(size or window)
    if size is not None and not (same and all(one <= other for one, other in zip(size, window or [], strict=True))):
        raise found.configuration.refused(f"images are padded to {size}, which a spec cannot say without windows of at least that size")


def _network(found: Found) -> tuple[FoundNetwork, Path | None]:
    """The network; and the file, where it is a program: a network without a word in a spec is one where the bundle holds it as one."""
    try:
        network = read_network(found)
    except SpecError as error:
        program = scripted(found)
        if program is None:
            raise
        found.note(f"{str(error).partition(': allow')[0]}: models/model.ts is taken, the same network as TorchScript")
        return FoundNetwork(str(program), {}), program
    return network, Path(network.network) if ":" not in network.network else None
