"""YAML as it is read and written everywhere: presets, configuration files, search spaces and `key=value` words.

Plain words mean what YAML 1.2's core schema says: `010` is ten, `1e-3` a number, and `yes`, `on`, `1:30`, `1_000` and
`2024-01-31` are text. Only decimal numbers are numbers; `0x10` and `0o17` are text too. What could be read in two
ways is refused: a key that stands twice, an alias, a tag.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Mapping
from typing import Any

import yaml

from safe.errors import UserError

_PLAIN = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
}

_BREAKS = re.compile("[\x85\u2028\u2029]")


class _Loader(yaml.SafeLoader):
    """Without aliases, which let a short page stand for more than any memory holds, tags and repeated keys."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  # those of YAML 1.1, emptied

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Return the next node, unless it is an alias or has a tag."""
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"*{event.anchor} is an alias, which is not taken here; write the value out again")
        if tag := getattr(event, "tag", None):
            raise yaml.YAMLError(f"the tag {tag} is not taken here; write the value alone")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return the mapping, in which every key stands once."""
        known: dict[Hashable, tuple[yaml.Node, yaml.Node]] = {}
        mapping = super().construct_mapping(node, deep)
        for entry in node.value if len(mapping) < len(node.value) else ():
            key = self.construct_object(entry[0], deep=True)
            if key in known:
                raise yaml.YAMLError(f"{key!r} stands twice, {_place(*known[key])} and {_place(*entry)}")
            known[key] = entry
        return mapping

    def construct_number(self, node: yaml.ScalarNode) -> int:
        """Return a whole number; one that is no finite fraction either is refused."""
        number = int(node.value)
        try:
            float(number)
        except OverflowError:
            raise yaml.YAMLError(f"a number of {len(node.value)} digits is too large") from None
        return number


def _place(key: yaml.Node, value: yaml.Node) -> str:
    told = f"as {value.value!r} " if isinstance(value, yaml.ScalarNode) else ""
    return f"{told}in line {key.start_mark.line + 1}"


class _Dumper(yaml.SafeDumper):
    """Puts quotes around every text that YAML 1.1 or `_Loader` would take for something else."""

    def represent_str(self, text: str) -> yaml.ScalarNode:
        """Return the text; one with a line break that only Unicode knows in the quotes that have a sign for it."""
        return self.represent_scalar("tag:yaml.org,2002:str", text, style='"' if _BREAKS.search(text) else None)


for _kind, _words in _PLAIN.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(rf"(?:{_words})\Z"), None)
_Dumper.add_representer(str, _Dumper.represent_str)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_number)


def parse_yaml(text: str, where: str) -> Any:
    """Return what YAML text stands for; None for empty text.

    Raises:
        UserError: it is not YAML, or not of the kind that is taken here; begins with `where`, which names the source.
    """
    try:
        value = yaml.load(text, Loader=_Loader)
        repr(value)  # what cannot be written (a number of 5000 digits) no message about it could show
        return value
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        detail = " ".join(str(error).split())
        raise UserError(f"{where} is not valid YAML: {detail}") from None


def yaml_text(value: Any, **style: Any) -> str:
    """Return YAML that `parse_yaml` reads back as `value`, in its order; `style` goes to `yaml.dump`."""
    return str(yaml.dump(value, Dumper=_Dumper, **{"sort_keys": False, "allow_unicode": True, **style}))


def yaml_line(value: Any) -> str:
    """Return YAML on one line that `parse_yaml` reads back as `value`, whatever letters are in it."""
    return yaml_text(value, default_flow_style=True, width=math.inf).removesuffix("\n...\n").strip()


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping of dotted names as one of sections."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        section, _, leaf = name.rpartition(".")
        (tree.setdefault(section, {}) if section else tree)[leaf] = value
    return tree


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested mapping as one with dotted names; `UserError` if it has a name twice, nested and dotted."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        for leaf, one in (flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value}).items():
            if leaf in flat:
                raise UserError(f"{leaf!r} is set twice, to {flat[leaf]!r} and to {one!r}; write it once")
            flat[leaf] = one
    return flat
