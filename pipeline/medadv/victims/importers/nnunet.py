"""How does a folder that nnU-Net trained become a victim's plain settings? Plans, data set and checkpoints, without nnU-Net.

Everything here follows nnU-Net's own prediction from files: reader, axes, crop, normalisation, tiles, mirroring, mean over folds. What it
does besides, or in another way, is refused by name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from medadv.common.errors import SpecError
from medadv.common.record import Json
from medadv.spec.modality import MODALITIES
from medadv.victims.importers.imported import Imported, Written
from medadv.victims.importers.nnunet_folder import ALL, Fold, Member, fold_folders, model_folder, read_member
from medadv.victims.importers.nnunet_labels import Answers, answers
from medadv.victims.importers.nnunet_original import is_installed, nnunet_logits
from medadv.victims.importers.nnunet_plans import Architecture, Configuration, Dataset, Plans, configuration, read
from medadv.victims.sources.dynamic_networks import NETWORKS, PARTS
from medadv.victims.sources.matching import match
from medadv.victims.sources.registry import build_network

STATE = "network_weights"
"""Where nnU-Net's checkpoints hold the network's tensors."""
VOLUMES: dict[str, str | None] = {"SimpleITKIO": None, "NibabelIO": None, "NibabelIOWithReorient": "RAS", "SimpleITKIOWithReorient": "RAS"}
"""Readers of volumes: the orientation that they bring a file to, None where they leave it. Their arrays have the file's last axis first."""
PICTURES = "NaturalImage2DIO"
STEP = 0.5
"""`tile_step_size` of nnU-Net's prediction: neighbouring tiles share half."""


def nnunet_victim(folder: Path, own: Mapping[str, Json], trust_code: bool) -> Imported:
    """`import_nnunet` with the keys beside `victim.nnunet` in a spec.  Nothing in such a folder is run.

    trust_code: whether nnU-Net itself, where it is installed, may be asked for its own answer.
    """
    fold, name, checkpoint = own.get("fold"), own.get("configuration"), own.get("checkpoint", "final")
    given = fold if isinstance(fold, list) else [fold]
    folds = [each for each in given if isinstance(each, int | str) and not isinstance(each, bool)]
    if fold is not None and (not folds or folds != given):
        raise SpecError(f"fold={fold!r} is a number, a list of numbers, or {ALL!r}")
    if not isinstance(name, str | None) or not isinstance(checkpoint, str):
        raise SpecError(f"configuration={name!r} and checkpoint={checkpoint!r} are names, such as 3d_fullres and final")
    found = import_nnunet(folder, folds or None, name, checkpoint)
    if not trust_code or not is_installed():
        return found
    weights = found.victim["weights"]
    files = [Path(str(each)) for each in (weights if isinstance(weights, list) else [weights])]
    return replace(found, original=partial(nnunet_logits, files))


def import_nnunet(
    folder: Path,
    fold: Fold | Sequence[Fold] | None = None,
    configuration: str | None = None,
    checkpoint: str = "final",
) -> Imported:
    """Settings of the victim that `nnUNetv2_predict` would be with a folder of results.

    folder: of one training (plans.json, dataset.json, fold_0, …), or of a data set's trainings.  fold: a number, several, `all` for the one
    that was trained on every case, or None for all numbered ones.  configuration: which training, where the folder holds several.
    checkpoint: `final`, `best`, `latest`, or the name of a file in each fold's folder.

    Raises SpecError for what is missing or damaged, and by name for what predicts otherwise: cascades, other preprocessors, readers,
    normalisations and networks.
    """
    model = model_folder(folder, configuration)
    files = fold_folders(model, fold, checkpoint)
    plans, dataset = read(Plans, model / "plans.json"), read(Dataset, model / "dataset.json")
    members = [read_member(file) for file in files]
    planned = _planned(plans, members, configuration, model)
    found = answers(dataset, model / "dataset.json")
    channels = len(dataset.channel_names)
    network, arguments = _network(planned, channels, found.heads)
    for member in members:
        _check_tensors(network, arguments, member)
    order, pictures = _order(plans, planned, channels)
    victim: Written = {
        "network": network,
        "arguments": arguments,
        "weights": str(files[0]) if len(files) == 1 else [str(file) for file in files],
        "head": found.head,
        "normalize": [*_moves(order), {"crop": "nonzero"}, *_values(plans, planned, channels)],
        "window": list(planned.patch_size),
        "overlap": 1 - STEP,
        "window_mode": "gaussian",
        "window_places": "nnunet",
    }
    # As in nnU-Net, the first fold speaks for all.
    if members[0].mirror:
        victim["mirror"] = list(members[0].mirror)
    if len(planned.patch_size) == 2 and not pictures:
        victim["slicewise"] = True
    space, notes = ({}, []) if pictures else _space(plans, planned, order)
    said = [_told(model, members, network), *notes, *found.notes]
    return Imported(victim, _data(found, plans, planned, dataset, pictures), space, tuple(said))


def _planned(plans: Plans, members: Sequence[Member], asked: str | None, model: Path) -> Configuration:
    """The configuration that the checkpoints were trained as.  Raises SpecError."""
    first = members[0]
    for member in members:
        if member.configuration != first.configuration:
            raise SpecError(
                f"{member.file} was trained as {member.configuration!r}, {first.file} as {first.configuration!r}; "
                "folds of one victim share a configuration"
            )
    if asked is not None and asked != first.configuration:
        raise SpecError(f"configuration={asked!r}: {first.file} was trained as {first.configuration!r}")
    file = model / "plans.json"
    planned = configuration(plans, first.configuration, file)
    where = f"{file}: configuration {first.configuration!r}"
    if planned.previous_stage is not None:
        raise SpecError(
            f"{where} is the second stage of a cascade: its input is also the answer of {planned.previous_stage!r}, which medadv does not "
            "make; attack that stage or 3d_fullres"
        )
    if planned.preprocessor_name != "DefaultPreprocessor":
        raise SpecError(f"{where} has the preprocessor {planned.preprocessor_name!r}; medadv knows DefaultPreprocessor")
    if plans.label_manager != "LabelManager":
        raise SpecError(f"{where} has the label manager {plans.label_manager!r}; medadv knows LabelManager")
    return planned


def _network(planned: Configuration, channels: int, heads: int) -> tuple[str, Written]:
    """Name and arguments, as a spec writes them.  Raises SpecError."""
    architecture: Architecture | None = planned.architecture
    assert architecture is not None
    name = architecture.network_class_name.rpartition(".")[2]
    if name not in NETWORKS:
        raise SpecError(f"the plans' network {architecture.network_class_name!r} is none of {', '.join(NETWORKS)}")
    if unknown := [each for each in architecture.requires_import if each not in PARTS and architecture.arch_kwargs.get(each) is not None]:
        raise SpecError(f"the plans' network takes a class as {unknown[0]!r}; medadv knows {', '.join(PARTS)}")
    given = {key: value for key, value in architecture.arch_kwargs.items() if key != "deep_supervision"}
    return f"nnunet:{name}", {"input_channels": channels, "num_classes": heads, **given}


def _check_tensors(network: str, arguments: Written, member: Member) -> None:
    """Raise SpecError, with the trainer's name, where a checkpoint belongs to another network than the plans' one."""
    with torch.device("meta"):
        own = build_network(network, arguments).state_dict()
    try:
        match(own, member.content, STATE)
    except ValueError as error:
        raise SpecError(
            f"trainer {member.trainer!r} built another network than the plans say, or the plans are not those of "
            f"{member.file}: tensors {error}"
        ) from None


def _order(plans: Plans, planned: Configuration, channels: int) -> tuple[list[int], bool]:
    """Which spatial axis of a stored image is each axis of the network's input, and whether images are pictures.  Raises SpecError."""
    forward, reader = plans.transpose_forward, plans.image_reader_writer
    if sorted(forward) != [0, 1, 2]:
        raise SpecError(f"transpose_forward={forward} is no order of three axes")
    if reader == PICTURES:
        if len(planned.patch_size) != 2 or forward[0] != 0:
            raise SpecError(f"{reader} reads pictures, which take a 2d configuration with transpose_forward 0 first")
        if any(length != 1 for length in planned.spacing):
            raise SpecError(
                f"the folder plans pictures of spacing {planned.spacing}, and {reader} reads them at 1: nnU-Net would resample each"
            )
        return [axis - 1 for axis in forward[1:]], True
    if reader not in VOLUMES:
        raise SpecError(f"the plans' reader {reader!r} is none of {', '.join([*VOLUMES, PICTURES])}")
    if channels != 1:
        raise SpecError(f"the network takes {channels} channels of a volume, which are as many files; medadv reads volumes of one")
    return [2 - axis for axis in forward], False


def _moves(order: list[int]) -> list[Written]:
    return [] if order == sorted(order) else [{"transpose": order}]


def _values(plans: Plans, planned: Configuration, channels: int) -> list[Written]:
    """Steps of the normalisation.  Raises SpecError."""
    schemes, masks = planned.normalization_schemes, planned.use_mask_for_norm
    if not len(schemes) == len(masks) == channels:
        raise SpecError(f"{channels} channels, but {len(schemes)} normalization_schemes and {len(masks)} values of use_mask_for_norm")
    each = [_scheme(plans, str(channel), scheme, masked) for channel, (scheme, masked) in enumerate(zip(schemes, masks, strict=True))]
    if any(other != each[0] for other in each):
        raise SpecError(f"channels are normalised in different ways ({', '.join(schemes)}), which no step says")
    return each[0]


def _scheme(plans: Plans, channel: str, scheme: str, masked: bool) -> list[Written]:
    if scheme == "CTNormalization":
        known = plans.intensities.get(channel)
        if known is None:
            raise SpecError(f"CTNormalization needs foreground_intensity_properties_per_channel of channel {channel}")
        return [
            {"clip": [known.percentile_00_5, known.percentile_99_5]},
            {"zscore": {"mean": [known.mean], "std": [max(known.std, 1e-8)]}},
        ]
    if scheme == "ZScoreNormalization":
        return [{"zscore": "image", "per_channel": True, **({"nonzero": "filled"} if masked else {})}]
    if scheme == "RescaleTo01Normalization":
        return [{"minmax": [0, 1], "per_channel": True}]
    if scheme == "RGBTo01Normalization":
        return [{"scale": [0, 255, 0, 1]}]
    if scheme == "NoNormalization":
        return []
    raise SpecError(
        f"normalisation {scheme!r} is none of CTNormalization, ZScoreNormalization, RescaleTo01Normalization, "
        "RGBTo01Normalization and NoNormalization"
    )


def _space(plans: Plans, planned: Configuration, order: list[int]) -> tuple[Written, list[str]]:
    """preprocess settings that give volumes the voxels that the network was trained on, and what differs from nnU-Net there."""
    orientation = VOLUMES[plans.image_reader_writer]
    along = [None] * (len(order) - len(planned.spacing)) + list(planned.spacing)
    spacing = [along[order.index(axis)] for axis in range(len(order))]
    told = " x ".join("its own" if each is None else f"{each:g}" for each in spacing)
    note = (
        f"volumes are brought to {told} mm (x, y, z) linearly, and attacked and scored there; nnU-Net resamples what it normalised, by "
        "splines, and its answers back (no difference where a file has that spacing)"
    )
    return {"spacing": spacing, **({} if orientation is None else {"orientation": orientation})}, [note]


def _data(found: Answers, plans: Plans, planned: Configuration, dataset: Dataset, pictures: bool) -> Written:
    """What a spec's data says, as far as the training set decides it."""
    data: Written = {"task": "segmentation"}
    if found.label_map is not None:
        data["label_map"] = found.label_map
    else:
        data["classes"] = found.classes
    names = [name.lower() for name in dataset.channel_names.values()]
    hounsfield = next(name for name, rules in MODALITIES.items() if rules.hu_window)
    if not pictures and (planned.normalization_schemes == ["CTNormalization"] or names == [hounsfield]):
        data["modality"] = hounsfield
    return data


def _told(model: Path, members: Sequence[Member], network: str) -> str:
    folds = ", ".join(member.file.parent.name for member in members)
    mean = ", mean of their logits" if len(members) > 1 else ""
    mirrored = "mirrored" if members[0].mirror else "not mirrored"
    return f"nnU-Net: {members[0].configuration} of {model.name} ({members[0].trainer}), {folds}{mean}; {network}, {mirrored}"
