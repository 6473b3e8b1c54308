"""Where the real images are, and a series of phantom CT slices to break."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images; the test is skipped where there is none."""
    root = Path(os.environ.get("MEDADV_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if not root.is_dir():
        pytest.skip("no real images: set MEDADV_DATA")
    return root
