"""YAML that cannot grow: what anchors are repeated into is counted, and so are the digits of numbers."""

from typing import Any

import yaml

MOST_NODES = 100_000
"""Values of a spec with every alias written out."""
MOST_BITS = 64
"""Of a whole number."""


class BoundedLoader(yaml.SafeLoader):
    """The safe loader, which refuses documents that aliases blow up and numbers that are none of a spec."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The next node, after its values were counted, repeated ones as often as they stand there."""
        event = self.peek_event()
        mark: Any = event.start_mark
        node = super().compose_node(parent, index)
        if node is None:
            return None
        if id(node) not in self._sizes:
            if isinstance(event, yaml.AliasEvent):
                raise yaml.composer.ComposerError(None, None, "an alias inside of what it repeats", mark)
            self._sizes[id(node)] = 1 + sum(self._sizes[id(each)] for each in _inside(node))
        if self._sizes[id(node)] > MOST_NODES:
            raise yaml.composer.ComposerError(None, None, f"more than {MOST_NODES} values", mark)
        return node

    def construct_number(self, node: yaml.ScalarNode) -> int:
        """A whole number of at most `MOST_BITS` bits."""
        value: int = self.construct_yaml_int(node)
        if value.bit_length() > MOST_BITS:
            raise yaml.constructor.ConstructorError(None, None, "a number of too many digits", node.start_mark)
        return value


BoundedLoader.add_constructor("tag:yaml.org,2002:int", BoundedLoader.construct_number)


def read_yaml(text: str) -> Any:
    """What a YAML text says.  Raises YAMLError, ValueError (a number of thousands of digits) or RecursionError."""
    return yaml.load(text, BoundedLoader)


def _inside(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [each for pair in node.value for each in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []
