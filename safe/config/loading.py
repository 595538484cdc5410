"""From preset, file and `key=value` words to a checked `Config`; every fault is told at once."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from safe.config.described import setting_names
from safe.config.settings import Config
from safe.config.values import ORDERS
from safe.datasets.facts import canonical_name
from safe.errors import UserError, nearest, shortened, tell
from safe.io.documents import flatten, nested, parse_yaml
from safe.io.opening import read_regular

FITTING = "vit_small_patch14_dinov2.lvd142m"  # named to those who bring pictures and no backbone
PUBLISHED_CROP = 0.875
ORDER = "data.class_order"
Overrides = Sequence[str] | Mapping[str, Any]


def preset_names() -> tuple[str, ...]:
    """Return the data sets that have a preset, sorted."""
    return tuple(sorted(p.name.removesuffix(".yaml") for p in _presets().iterdir() if p.name.endswith(".yaml")))


def load_config(
    dataset: str | None = None,
    file: str | Path | None = None,
    overrides: Overrides = (),
) -> Config:
    """Return the configuration of a data set's preset, changed by a YAML file, then by overrides.

    Args:
        dataset: name or alias; `None` takes it from the overrides, else the file, else `digits`.
        file: YAML, nested (`slow: {epochs: 5}`) or with dotted names (`slow.epochs: 5`).
        overrides: `key=value` words with YAML values, or a mapping of dotted names.

    Raises:
        UserError: names every unknown key (with the nearest known one) and every value out of range, all at once; or
            `dataset` is one data set and the file's or overrides' setting another.
    """
    config, chosen = _loaded(dataset, file, overrides)
    if os.path.isabs(config.dataset) and not chosen:
        tell(
            "no backbone.name is given, so the small ViT is trained, which knows 32x32 pictures of characters; for "
            "photographs and drawings take a pre-trained one, for example "
            f"backbone.name={FITTING} backbone.image_size=224"
        )
    return config


def preset(dataset: str) -> dict[str, Any]:
    """Return every setting of a data set as nobody changed it, for comparison; see `load_config`."""
    return _loaded(dataset, None, ())[0].flat()


def _loaded(dataset: str | None, file: str | Path | None, overrides: Overrides) -> tuple[Config, bool]:
    """Return what `load_config` does, and whether a backbone was named."""
    from_file = _read_file(Path(file)) if file is not None else {}
    from_words = dict(overrides) if isinstance(overrides, Mapping) else parse_overrides(overrides)
    changes = with_order({**from_file, **from_words})
    _refuse_beside(changes)
    setting = str(changes.get("dataset", dataset or "digits"))
    name = canonical_name(setting if dataset is None else dataset)
    if canonical_name(setting) != name:
        raise UserError(f"--dataset {dataset}, but dataset={setting} is set too; name it once")
    own_file = _presets() / f"{name}.yaml"
    flat = flatten(parse_yaml(own_file.read_text("utf-8"), f"preset {name}") or {}) if name in preset_names() else {}
    if changes.get("backbone.name", own := flat.get("backbone.name")) != own:
        # What a preset says of its network is not true of another one.
        flat = {name: value for name, value in flat.items() if not name.startswith("backbone.")}
    return validate({**flat, **changes, "dataset": name}), "backbone.name" in changes


def with_order(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings in which the file of `data.class_order`, if there is one, is replaced by the names in it.

    Lines end at a line break alone, so that a name may hold any other letter; empty ones are passed over.

    Raises:
        UserError: the file cannot be read.
    """
    order = flat.get(ORDER)
    if not isinstance(order, str) or order in ORDERS or not os.path.exists(os.path.expanduser(order)):
        return dict(flat)  # of a file that is not there the check of the value tells
    try:
        text = read_regular(Path(order).expanduser()).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{ORDER}: cannot read {order}: {error}") from None
    names = [name for line in text.split("\n") if (name := line.removesuffix("\r"))]
    if not names:
        raise UserError(f"{ORDER}: {order} is empty; it takes one class name a line")
    return {**flat, ORDER: names}


def with_kept_order(overrides: Overrides, kept: Callable[[], Any], file: Path | None = None) -> Overrides:
    """Return the overrides; where the order of classes is a file that is gone, with the order that a run kept.

    A notice tells so. `kept` gives that order, or something else where there is none; it is asked for a file that is
    gone alone. The order may stand in the configuration `file` too.
    """
    given = overrides if isinstance(overrides, Mapping) else parse_overrides(overrides)
    order = {**({} if file is None else _read_file(file)), **given}.get(ORDER)
    lacking = isinstance(order, str) and order not in ORDERS and not os.path.exists(os.path.expanduser(order))
    if not lacking or not isinstance(names := kept(), list | tuple):
        return overrides
    tell(f"{ORDER}={order} is not there; what began with it goes on in the order of {len(names)} classes that it kept")
    return {**given, ORDER: list(names)}


def _refuse_beside(changes: Mapping[str, Any]) -> None:
    """Refuse settings that say twice how classes arrive; a whole configuration, which says everything, is none."""
    if changes.keys() >= set(setting_names()):
        return
    said, why, others = "data.sessions", "says what every session brings", ["data.init_classes", "data.increment"]
    if changes.get(said) is None:
        said, why, others = ORDER, "says how the classes arrive", ["class_order_seed"]
        if changes.get(said, "seeded") == "seeded":
            return
    if double := [name for name in others if name in changes]:
        told = " and ".join(f"{name}={changes[name]}" for name in double)
        raise UserError(f"{said} {why}, and beside it {told} would change nothing; leave one of them out")


def completed(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings that were written down, with what runs did before there was a setting for it."""
    small = flat.get("backbone.name") == Config().backbone.name
    before = {
        "backbone.input_norm": "none",
        "backbone.crop_pct": "pretrained" if small else PUBLISHED_CROP,
        "head.ridge_choice": "split",
    }
    return {**Config().flat(), **before, **flat}


def settings_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flat settings that a saved state was trained with, `completed`.

    Raises:
        UserError: the state holds no settings, or something else in their place.
    """
    try:
        tree = json.loads(state["config"])
    except (KeyError, TypeError, ValueError):
        tree = None
    if not isinstance(tree, dict):
        raise UserError("the state does not hold the settings it was trained with; it was not written by this project")
    return completed(flatten(tree))


def validate(flat: Mapping[str, Any]) -> Config:
    """Return the `Config` of a mapping of dotted names; see `load_config` for what is raised."""
    known = setting_names()
    problems = [f"unknown setting {name!r}.{_hint(name, known)}" for name in flat if name not in known]
    config: Config | None = None
    try:
        config = Config.model_validate(nested({name: value for name, value in flat.items() if name in known}))
    except ValidationError as error:
        problems += _problems(error)
    if problems or config is None:
        raise UserError("\n".join(["the configuration is not valid:", *(f"  - {p}" for p in problems)]))
    return config


def parse_overrides(words: Iterable[str]) -> dict[str, Any]:
    """Return `key=value` words as a mapping; values are YAML, so `1e-3`, `true` and `[1, 2]` have their types.

    Raises:
        UserError: a word is no `key=value`, its value is no YAML or has a comment in it, or a key stands twice.
    """
    parsed: dict[str, Any] = {}
    told: dict[str, str] = {}
    for word in words:
        key, equals, text = word.partition("=")
        name = key.strip()
        if not equals or not name:
            raise UserError(f"cannot read {word!r}: write settings as key=value, for example fast.epochs=3")
        if name in told:
            raise UserError(f"{name} is set twice, by {told[name]!r} and by {word!r}; give it once")
        told[name], value = word, parse_yaml(text, f"the value of {name!r}")
        if isinstance(value, str | None) and text.count("#") > (value or "").count("#"):
            quoted = shlex.quote(f'{name}="{text}"')
            raise UserError(f"the value of {word!r} would end before its #; write: {quoted}")
        parsed[name] = value
    return parsed


def _presets() -> Any:
    return files("safe") / "presets"


def _read_file(path: Path) -> dict[str, Any]:
    try:
        text = read_regular(path).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the configuration file {path}: {error}") from None
    tree = parse_yaml(text, str(path))
    if tree is None:
        return {}
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
        raise UserError(f"{path} must hold settings (`name: value`), got {type(tree).__name__}")
    try:
        return flatten(tree)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _hint(name: str, known: Sequence[str]) -> str:
    by_leaf = {k.rpartition(".")[2]: k for k in known}
    leaf = name.rpartition(".")[2]
    if leaf in by_leaf:
        return f" Did you mean {by_leaf[leaf]!r}?"
    return nearest(name, known) or f" Sections: {', '.join(dict.fromkeys(k.split('.')[0] for k in known))}."


def _problems(error: ValidationError) -> list[str]:
    """One line per pydantic error: dotted name, what was given, what is allowed."""
    lines: dict[str, str] = {}
    for item in error.errors():
        # A union reports one error per member, its location extended by the member's name: one line is enough.
        parts = [str(p) for p in item["loc"]]
        name = ".".join(parts[:2]) if len(parts) > 1 and parts[0] in Config.model_fields else ".".join(parts)
        message = item["msg"].removeprefix("Value error, ")
        given = "" if item["type"] == "value_error" else f", got {shortened(repr(item['input']))}{_plainly(item)}"
        # A rule about several settings of a section begins with one of their names, one about sections names them all.
        section = name in Config.model_fields and name not in setting_names()
        told = f"{name}{'.' if section else ': '}{message}" if name else message
        lines[name] = f"{lines[name]}; or {message}" if name in lines else f"{told}{given}"
    return list(lines.values())


def _plainly(item: Mapping[str, Any]) -> str:
    """Return how to write what YAML takes for text but a setting does not; nothing for other faults."""
    if not isinstance(item["input"], str):
        return ""
    if item["type"] == "bool_type":
        return " (write true or false)"
    digits = item["type"] in ("int_type", "float_type") and any(letter.isdigit() for letter in item["input"])
    return " (write numbers in decimal, without quotes)" if digits else ""
