"""Victims that the user's own code builds; only with --trust-code."""

import importlib

from torch import nn

from medadv.common.errors import SpecError, first_line
from medadv.spec.victim import VictimSettings


def from_factory(name: str, settings: VictimSettings, trust_code: bool) -> nn.Module:
    if not trust_code:
        raise SpecError(f"victim.network={name!r} runs Python code of yours: allow it with --trust-code")
    module, _, factory = name.removeprefix("python:").partition(":")
    try:
        network = getattr(importlib.import_module(module), factory)(**settings.arguments)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise SpecError(f"victim.network={name!r} cannot be built: {first_line(error)}") from None
    if not isinstance(network, nn.Module):
        raise SpecError(f"victim.network={name!r} returned a {type(network).__name__}, not an nn.Module")
    return network
