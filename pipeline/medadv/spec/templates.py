"""Which run specs are there to copy, and how does one become a user's own?"""

import re
from pathlib import Path

from medadv.common.errors import SpecError
from medadv.common.shipped import nearest, shipped

MARK = "   # <- "
YOURS = {
    "path": "where your images are listed or lie, relative to this file",
    "licence": "of your images",
    "weights": "of this network, relative to this file",
    "output": "",
}
"""Lines that a user has to look at, and what is said beside them."""
LINE = re.compile(rf"^(\s*)({'|'.join(YOURS)}): (.+)$")


def template_names() -> list[str]:
    """Names of all templates, in order."""
    return sorted(path.stem for path in shipped("specs").glob("*.yaml"))


def find_template(name: str) -> Path:
    """The file of a template, by its name or a word of it (`polyps`).

    Raises SpecError: none has it, or several do.
    """
    meant = nearest(name, template_names())
    if len(meant) == 1:
        return shipped("specs") / f"{meant[0]}.yaml"
    said = "is several" if meant else "is none"
    raise SpecError(f"--template {name}: {said} of the templates; take {', '.join(meant or template_names())}")


def own_spec(template: Path, data: str) -> str:
    """A template's text with the paths that somebody has who begins with it, and marks on what they have to set.

    data: folder of the images, relative to where the spec will lie; what the template reads lies in it by the same name.
    """
    return "".join(f"{_own_line(line, data)}\n" for line in template.read_text(encoding="utf-8").splitlines())


def _own_line(line: str, data: str) -> str:
    found = LINE.match(line)
    if found is None:
        return line
    indent, key, value = found.groups()
    if key == "path":
        # A listing is a file in the folder; images by themselves are the folder.
        value = f"{data}/{Path(value).name}" if Path(value).suffix else data
    elif key in ("weights", "output"):
        # Specs of the repository lead to folders beside it; a user's lie where the spec does.
        value = value.replace("../", "")
    return f"{indent}{key}: {value}{MARK}{YOURS[key]}" if YOURS[key] else f"{indent}{key}: {value}"
