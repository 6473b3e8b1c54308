"""What has been understood of a bundle so far? Steps, how images are stored for them, and lines for the reader."""

from dataclasses import dataclass, field
from typing import Any

from medadv.victims.importers.bundle.configuration import Configuration
from medadv.victims.importers.bundle.values import Component, Value, Words


@dataclass
class Found:
    """Filled transform by transform.

    image: key of the image in the bundle's dictionaries.  picture: whether images are colour pictures, which MONAI reads x first.
    preprocess: how images are stored, in a spec's own words.  steps: of `victim.normalize`.  notes: a line each.
    """

    configuration: Configuration
    picture: bool = False
    image: str = "image"
    steps: list[Words] = field(default_factory=list)
    preprocess: Words = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    padded: list[int] | None = None
    """Lengths that the last transform pads an image to with zeros, where it does."""

    def argument(self, transform: Component, name: str, default: Value = None) -> Any:
        """An argument of a transform as JSON says it; one alone for one image where there is a list of them for several."""
        value = self.configuration.plain(transform.argument(name, default), f"{transform.key}::{name}")
        return default if value is None else value

    def of_image(self, transform: Component, name: str, default: Value = None) -> Any:
        """The same where MONAI takes one value, or one a key."""
        value = self.argument(transform, name, default)
        if not isinstance(value, list):
            return value
        keys = self.keys(transform)
        return value[keys.index(self.image)] if len(value) == len(keys) else value[0] if value else default

    def keys(self, transform: Component) -> list[str]:
        """The entries of a sample that a transform changes."""
        keys = self.configuration.plain(transform.argument("keys", []), f"{transform.key}::keys")
        return [str(key) for key in keys] if isinstance(keys, list) else [str(keys)]

    def step(self, name: str, value: Any, **options: Any) -> None:
        """One more step; options that are off are left out."""
        if self.padded is not None:
            raise self.configuration.refused(
                f"padding to {self.padded} before {name} has no word in a spec; as the last step windows may do it"
            )
        self.steps.append({name: value, **{key: option for key, option in options.items() if option not in (None, False)}})

    def note(self, text: str) -> None:
        """A line for whoever uses the bundle, once."""
        if text not in self.notes:
            self.notes.append(text)
