"""How an epsilon is written in reports, pages and tables."""

import pytest

from medadv.spec.modality import UNITS, amount


@pytest.mark.parametrize(
    ("value", "unit", "told"),
    [
        (60.0, "hu", "60 HU"),
        (1.0, "hu", "1 HU"),
        (2.0, "level8", "2 grey levels"),
        (1.0, "level8", "1 grey level"),
        (1.5, "level8", "1.5 grey levels"),
    ],
)
def test_one_grey_level_is_no_plural(value: float, unit: str, told: str) -> None:
    assert amount(value, UNITS[unit]) == told
