"""Victims that the user's own code builds; only with --trust-code."""

import importlib
from pathlib import Path

from torch import nn

from medadv.common.errors import MedadvError, SpecError, named_line
from medadv.spec.victim import VictimSettings
from medadv.victims.sources.code import code_sha256, first_on_path


def from_factory(name: str, settings: VictimSettings, base: Path, trust_code: bool) -> tuple[nn.Module, str | None]:
    """The network that a factory builds, and the hash of the code it is built by.

    base: folder that `settings.code` is relative to.  Raises SpecError where code is not trusted, or builds no network.
    """
    if not trust_code:
        raise SpecError(f"victim.network={name!r} runs Python code of yours: allow it with --trust-code")
    root = None if settings.code is None else (base / settings.code).resolve()
    if root is not None and not root.is_dir():
        raise SpecError(f"victim.code: no such folder {root}")
    module, _, factory = name.removeprefix("python:").partition(":")
    try:
        with first_on_path(root, module.partition(".")[0]):
            built = importlib.import_module(module)
            network = getattr(built, factory)(**settings.arguments)
    except MedadvError:
        raise
    except (Exception, SystemExit) as error:  # code of other people may raise anything
        raise SpecError(f"victim.network={name!r} cannot be built ({named_line(error)}): see the factory, or victim.arguments") from None
    if not isinstance(network, nn.Module):
        raise SpecError(f"victim.network={name!r} returned a {type(network).__name__}, not an nn.Module")
    return network, code_sha256(built)
