"""The hardening as JSON and one page."""

import json

from medadv.common.files import write_file
from pathlib import Path
from medadv.hardening.folder import Home
from medadv.hardening.record import Hardening


def write_hardening(home: Home, record: Hardening) -> list[Path]:
    write_file(home.record, (json.dumps(record.model_dump(mode="json", by_alias=True), indent=1, ensure_ascii=False) + "\n").encode())
    return [home.record]
