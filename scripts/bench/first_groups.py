#!/usr/bin/env python3
"""A smaller COCO file: of each split the first groups, whole, as many as fit into so many images.

    scripts/bench/first_groups.py ../shared/data/train/polyps/annotations_coco.json polyps.json test=64 train=256
    scripts/bench/first_groups.py ../shared/data/train/polyps/annotations_coco.json chosen.json test=64 train=256 test:validation=128

`test:validation=128` are the next groups of `test`, as a split `validation` of their own: neither final images nor any that a victim of
`train` has seen.
Attacks of a thousand steps, or training in every generation, take days on all frames. Images stay where they are: name their folder in
the spec's data.root.
"""

import argparse
import json
from collections import Counter
from pathlib import Path

from medadv.common.errors import SpecError
from medadv.common.files import writable_file


def main() -> None:
    """Choose and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("splits", nargs="+", metavar="SPLIT[:NAME]=COUNT")
    arguments = parser.parse_args()
    try:
        writable_file(arguments.out)
        wanted = {part: int(count) for part, _, count in (each.partition("=") for each in arguments.splits)}
    except (SpecError, ValueError) as error:
        parser.error(str(error))
    document = json.loads(arguments.annotations.read_text())
    sizes = Counter((image["split"], image["group"]) for image in document["images"])
    room, chosen = dict(wanted), dict[tuple[str, str], str]()
    for (split, group), size in sizes.items():
        part = next((part for part in wanted if part.partition(":")[0] == split and size <= room[part]), None)
        if part is not None:
            room[part] -= size
            chosen[split, group] = part.partition(":")[2] or split
    places = [(image["split"], image["group"]) for image in document["images"]]
    pairs = zip(document["images"], places, strict=True)
    document["images"] = [image | {"split": chosen[place]} for image, place in pairs if place in chosen]
    kept = {image["id"] for image in document["images"]}
    document["annotations"] = [each for each in document["annotations"] if each["image_id"] in kept]
    arguments.out.write_text(json.dumps(document) + "\n")
    for split in sorted(set(chosen.values())):
        print(f"{split}: {sum(image['split'] == split for image in document['images'])} images")


if __name__ == "__main__":
    main()
