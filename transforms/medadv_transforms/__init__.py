"""MONAI transforms of medadv: loading, geometry checks, cropping, units, differentiable normalisation."""
