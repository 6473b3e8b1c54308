"""What is in a MONAI bundle? Its configuration read as data, and what that means in a spec's own words."""

from medadv.victims.importers.bundle.importing import import_bundle

__all__ = ["import_bundle"]
