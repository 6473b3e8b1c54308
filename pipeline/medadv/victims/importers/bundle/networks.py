"""Which network does a bundle build, and with which arguments? By name where it is known; the bundle's own code with --trust-code."""

from collections.abc import Mapping
from dataclasses import dataclass

import torchvision

from medadv.victims.importers.bundle.found import Found
from medadv.victims.importers.bundle.values import Component, Unreadable, Value, Words
from medadv.victims.sources.monai_networks import MONAI_NETWORKS
from medadv.victims.sources.registry import DOWNLOADS

PLACES = ("network_def", "network", "net", "model")
DROPPED: dict[str, tuple[str, ...]] = {"swinunetr": ("img_size",)}
"""Arguments that MONAI once took and refuses now, and that change nothing about the network's numbers."""
RENAMED: dict[str, dict[str, str]] = {"unetr": {"pos_embed": "proj_type"}, "vit": {"pos_embed": "proj_type"}}
LEFT_OUT = (*sorted(DOWNLOADS), "progress")
"""Arguments that fetch weights, and the one that shows how far that is."""
SPACE = ("arch_code", "channel_mul", "num_blocks", "num_depths")


@dataclass(frozen=True)
class FoundNetwork:
    """network: as a spec names it.  arguments: JSON.  code: folder of the bundle's own code.  classes: outputs, where it says so."""

    network: str
    arguments: Words
    code: str | None = None

    @property
    def classes(self) -> int | None:
        """Outputs of the network, where its arguments say so."""
        named = [self.arguments.get(name) for name in ("out_channels", "num_classes", "label_prompt")]
        return next((len(each) if isinstance(each, list) else int(each) for each in named if each is not None), None)

    @property
    def spatial_dims(self) -> int | None:
        """Axes of its images, where its arguments say so."""
        value = self.arguments.get("spatial_dims")
        return value if isinstance(value, int) else None

    @property
    def channels(self) -> int | None:
        """Channels of its input, where its arguments say so."""
        value = self.arguments.get("in_channels", self.arguments.get("n_input_channels"))
        return value if isinstance(value, int) else None


def read_network(found: Found) -> FoundNetwork:
    """The network.  Raises SpecError where it is not known, which names the key and says whether --trust-code helps."""
    configuration = found.configuration
    place = next((name for name in PLACES if configuration.has(name)), None)
    if place is None:
        raise configuration.refused(f"it names no network (looked for {', '.join(PLACES)})")
    value = configuration.get(place)
    if not isinstance(value, Component):
        why = f"{value.key}: {value.why}" if isinstance(value, Unreadable) else f"{place} is no network"
        raise configuration.refused(why, code=isinstance(value, Unreadable) and value.code)
    if value.target == "torch.jit.load":
        path = configuration.folder.inside(str(configuration.plain(value.argument("f"), f"{place}::f")))
        return FoundNetwork(str(path), {})
    if value.is_monais("DiNTS"):
        return FoundNetwork("monai:DiNTS", _dints(found, value))
    if value.is_monais("vista3d132"):
        return FoundNetwork("monai:vista3d132", {**_plain(found, value.named, value), "label_prompt": _prompts(found)})
    return _by_name(found, value)


def _by_name(found: Found, value: Component) -> FoundNetwork:
    family, _, name = value.target.rpartition(".")
    lower = name.lower()
    if (not family or family.startswith("monai.")) and lower in MONAI_NETWORKS:
        return FoundNetwork(f"monai:{name}", _adapted(found, lower, _plain(found, value.named, value)))
    if family.startswith("torchvision.models") and name in torchvision.models.list_models():
        return FoundNetwork(f"torchvision:{name}", _adapted(found, lower, _plain(found, value.named, value)))
    if value.target == "timm.create_model":
        arguments = _plain(found, value.named, value)
        return FoundNetwork(f"timm:{arguments.pop('model_name')}", _adapted(found, lower, arguments))
    if not family:
        raise found.configuration.refused(f"{value.key} is {name}, which no MONAI network is called that a spec can build")
    top = value.target.partition(".")[0]
    root = found.configuration.folder.root
    own = (root / top).is_dir() or (root / f"{top}.py").is_file()
    if not found.configuration.trust_code:
        whose = "the bundle's own code" if own else f"code of {top}"
        raise found.configuration.refused(f"{value.key} is {value.target}, {whose}", code=True)
    return FoundNetwork(f"python:{family}:{name}", _plain(found, value.named, value), str(root) if own else None)


def _plain(found: Found, named: Mapping[str, Value], value: Component) -> Words:
    return {name: found.configuration.plain(each, f"{value.key}::{name}") for name, each in named.items()}


def _adapted(found: Found, name: str, arguments: Words) -> Words:
    """The same for today's libraries: old arguments dropped or renamed, downloads left out, each with a line."""
    for old in [each for each in arguments if each in DROPPED.get(name, ())]:
        found.note(
            f"argument {old}={arguments.pop(old)!r} of {name} is dropped: MONAI takes none of that name any more, sizes follow the input"
        )
    for old, new in RENAMED.get(name, {}).items():
        if old in arguments:
            arguments[new] = arguments.pop(old)
            found.note(f"argument {old} of {name} is called {new} now")
    for each in [name for name in LEFT_OUT if name in arguments]:
        if arguments.pop(each):
            found.note(f"argument {each} would download weights and is left out: the bundle's own take their place")
    return arguments


def _dints(found: Found, value: Component) -> Words:
    """DiNTS in its searched topology: the codes of the search become arguments."""
    space = value.argument("dints_space")
    if not isinstance(space, Component) or not space.is_monais("TopologyInstance"):
        raise found.configuration.refused(f"{value.key}::dints_space is no TopologyInstance, the topology that a search ended with")
    own = {name: each for name, each in value.named.items() if name != "dints_space"}
    topology = {name: space.argument(name) for name in SPACE if name in space.named}
    rest = {name: each for name, each in space.named.items() if name not in (*SPACE, "device", "use_downsample")}
    if rest:
        raise found.configuration.refused(f"{space.key}::{next(iter(rest))} of a topology has no word in a spec")
    downsample = {name: each for name, each in space.named.items() if name == "use_downsample"}
    return _plain(found, {**topology, **downsample, **own}, value)


def _prompts(found: Found) -> list[int]:
    """Classes that VISTA3D is asked for: those of the bundle's example, groups as their members."""
    example = found.configuration.get("input_dict") if found.configuration.has("input_dict") else None
    asked = example.get("label_prompt") if isinstance(example, dict) else None
    asked = found.configuration.plain(asked, "input_dict::label_prompt") or []
    groups = found.configuration.plain(found.configuration.get("subclass"), "subclass") if found.configuration.has("subclass") else {}
    prompts = [int(each) for prompt in asked for each in groups.get(str(prompt), [prompt])]
    if not prompts:
        raise found.configuration.refused("input_dict::label_prompt asks VISTA3D for no class: name them in victim.arguments.label_prompt")
    found.note(f"VISTA3D is asked for class {', '.join(map(str, prompts))}, as in the bundle's example: other classes by victim.arguments")
    return prompts
