"""From what a person asks for to the specification of a sweep; everything that can be refused early is refused here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from safe.config import Config, load_config, parse_overrides
from safe.config.values import ORDERS
from safe.datasets.facts import canonical_name
from safe.errors import UserError, choices, shortened
from safe.io.sources import import_own
from sweeps.spec.domains import is_number
from sweeps.spec.machine import check_share, gpu_count, ray_address, resources
from sweeps.spec.names import checked_name, default_name
from sweeps.spec.objective import objectives
from sweeps.spec.runs import DEFAULT_SEEDS, RunsSpec
from sweeps.spec.space import Space, parse_space, read_space, with_orders, without_effect
from sweeps.spec.specs import DEFAULT_TRIALS, RULES, Selection, SweepSpec
from sweeps.spec.stopping import stopping

DEFAULT_HOLDOUT_SHARE = 0.2
LEAST_ROUND = 4
# What belongs to one data set.
OWN_CLASSES = ("data.init_classes", "data.increment", "data.sessions", "data.class_order")


def build_spec(
    *,
    name: str | None,
    dataset: str,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    space: Path | Mapping[str, Any] | None = None,
    gpus_per_trial: str | None = None,
    imports: Sequence[str] = (),
    **asked: Any,
) -> SweepSpec:
    """Return the specification that a person asks for.

    Args:
        overrides: `key=value` words, or a mapping of dotted names.
        space: a file, or what one would hold; None is the preset's.
        imports: modules of a user's own; they are imported here, since they may bring what is asked for.
        asked: other fields of `SweepSpec` by name; None, and what is not asked for, is the default: of `trials` for
            grid search every combination, of `audit` yes where stages make it cheap.

    Raises:
        UserError: a name, number, choice, setting or space is not valid.
    """
    import_own(imports)
    asked = checked(asked, SweepSpec)
    search, selection, stages = (asked.get(field, _default(field)) for field in ("search", "selection", "stages"))
    evaluate_on = asked.get("evaluate_on")
    if selection == "test" and asked.get("finalists"):
        raise UserError("--finalists: with --selection test the test images choose, and no race is run; leave it out")
    objectives(asked.get("objective", _default("objective")))
    if stopping(asked.get("stop", _default("stop"))) == "auto":
        _check_auto(search, selection, asked.get("finalists"))
    _check_selection(selection, dataset, asked.get("first_k"), evaluate_on)
    given = plain(overrides, "overrides") if isinstance(overrides, Mapping) else parse_overrides(overrides)
    if "dataset" in given:
        raise UserError(f"choose the data set with --dataset {given['dataset']}")
    if "data.evaluate_on" in given:
        raise UserError(f"data.evaluate_on is decided by --selection, which is one of {', '.join(get_args(Selection))}")
    config = load_config(dataset, overrides=given)
    base = config.flat()
    raw_space, checked_space = _space(space, config, given)
    target = _target(evaluate_on, config, given)
    how = placed(config, gpus_per_trial, asked.get("concurrency"))
    now = datetime.now()
    settled = {
        "name": checked_name(name or default_name(config.dataset, f"{now:%Y%m%d-%H%M%S}")),
        "dataset": config.dataset,
        "trials": _trials(asked.get("trials"), search, checked_space),
        "seeds": asked.get("seeds", DEFAULT_SEEDS),
        "evaluate_on": None if target is None else str(target["dataset"]),
        "target": target,
        "holdout_share": config.data.holdout_share or DEFAULT_HOLDOUT_SHARE,
        "space": raw_space,
        "space_asked": space is not None,
        "base": base,
        "round_size": max(LEAST_ROUND, how["concurrency"]),
        # Without shared work it would train every trial once more; on the test images there is nothing to compare.
        "audit": asked.get("audit", stages) and selection != "test",
        "imports": list(imports),
        "rules": RULES,
        "created": f"{now:%Y-%m-%d %H:%M}",
    }
    return SweepSpec(**{**asked, **settled, **how})


def checked(asked: Mapping[str, Any], spec: type[RunsSpec]) -> dict[str, Any]:
    """Return what is asked for without what is None; refuses numbers out of range and words that are no choice."""
    given = {field: value for field, value in asked.items() if value is not None}
    check_numbers(**given)
    for field, value in given.items():
        kind = spec.model_fields[field].annotation
        if get_origin(kind) is Literal and value not in get_args(kind):
            raise UserError(choices(value, get_args(kind), field))
    return given


def placed(config: Config, gpus_per_trial: str | None, concurrency: int | None) -> dict[str, Any]:
    """Return on what its runs compute, by the fields of a specification: share of a GPU, threads, runs at a time."""
    share = _gpus(gpus_per_trial)
    if ray_address() is None:
        check_share(share, gpu_count() if config.runtime.device != "cpu" else 0)
    threads, concurrency = resources(config, concurrency, share)
    return {"gpus_per_trial": share, "threads": threads, "concurrency": concurrency}


def _default(field: str) -> Any:
    return SweepSpec.model_fields[field].default


def check_numbers(**numbers: Any) -> None:
    """Refuse numbers out of range; what is not a number here is checked elsewhere."""
    for field, number in numbers.items():
        if not is_number(number):
            continue
        limits = SweepSpec.model_fields[field].metadata
        least, most = (
            next((getattr(mark, end) for mark in limits if hasattr(mark, end)), None) for end in ("ge", "le")
        )
        option = f"--{field.replace('_', '-')}"
        if least is None and not 0 < number < float("inf"):
            raise UserError(f"{option} must be above 0, got {number:g}")
        if least is not None and number < least:
            raise UserError(f"{option} must be at least {least}, got {number}")
        if most is not None and number > most:
            raise UserError(f"{option} must be at most {most}, got {shortened(str(number))}")


def _check_selection(selection: str, dataset: str, first_k: int | None, evaluate_on: str | None) -> None:
    for needs, option, value in (("first-k", "--first-k", first_k), ("transfer", "--evaluate-on", evaluate_on)):
        if selection == needs and value is None:
            raise UserError(f"--selection {needs} needs {option}")
        if selection != needs and value is not None:
            raise UserError(f"{option} {value} belongs to --selection {needs}, but the selection is {selection}")
    if evaluate_on is not None and canonical_name(evaluate_on) == canonical_name(dataset):
        raise UserError(f"--evaluate-on {evaluate_on} is the data set of the search itself; name another one")


def _check_auto(search: str, selection: str, finalists: int | None) -> None:
    if search not in ("staged", "tpe"):
        raise UserError(f"--stop auto ends a search between its rounds, and {search} has one; choose staged or tpe")
    if finalists == 0 or selection == "test":
        raise UserError("--stop auto measures the noise of seeds by runs of the race, which this sweep leaves out")


def plain(given: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Return a mapping as it would be read from a file: numbers of numpy are numbers, tuples are lists.

    Raises:
        UserError: it holds something that no file could.
    """
    try:
        return dict(json.loads(json.dumps(given, default=lambda value: value.tolist())))
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{what}= takes numbers, texts, true, false, None and lists of them: {error}") from None


def _space(
    asked: Path | Mapping[str, Any] | None, config: Config, given: Mapping[str, Any]
) -> tuple[dict[str, Any], Space]:
    """Return the search space as written and checked.

    A value typed on the command line is meant for every trial: it takes the place of the preset space's entry, and
    with it go the entries that can change nothing any more.
    """
    raw = with_orders(plain(asked, "space") if isinstance(asked, Mapping) else read_space(asked, config.dataset))
    base = config.flat()
    if asked is None:
        raw = {setting: entry for setting, entry in raw.items() if setting not in given}
        raw = {setting: entry for setting, entry in raw.items() if setting not in without_effect(raw, base)}
    elif clash := sorted(set(raw) & set(given)):
        raise UserError(f"set either in the space or as key=value, not both: {', '.join(clash)}")
    return raw, parse_space(raw, base)


def _trials(trials: int | None, search: str, space: Space) -> int:
    """Return how many trials there are: of a grid at most every combination."""
    if search == "grid":
        from sweeps.spec.combinations import combinations

        every = len(combinations(space))
        return min(trials or every, every)
    trials = trials or DEFAULT_TRIALS
    if not space.domains and trials > 1:
        raise UserError("nothing is left to search, so every trial would be the same; ask for one trial (TRIALS=1)")
    from sweeps.spec.combinations import possible

    return possible(trials, search, space)


def _target(evaluate_on: str | None, config: Config, given: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the final runs on another data set start from: its preset, and the settings typed for both."""
    if evaluate_on is None:
        return None
    own = {setting: value for setting, value in given.items() if setting not in OWN_CLASSES or value in ORDERS}
    return {**load_config(evaluate_on, overrides=own).flat(), "data.root": config.data.root}


def _gpus(text: str | None) -> float | Literal["auto"] | None:
    if text is None:
        return None
    if text == "auto":
        return "auto"
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1 and not (share.is_integer() and share > 0):
        raise UserError(f"--gpus-per-trial must be auto, a share in (0, 1] or a whole number, got {text}")
    return share
