"""`python -m sweeps run`: run, continue or extend a sweep; `resume`: go on with one as its ledger has it; `extend`:
more trials, seeds, space or budget for one that is there."""

from __future__ import annotations

import argparse
from datetime import datetime
from pathlib import Path
from typing import Any

from safe.datasets.facts import canonical_name
from safe.errors import UserError
from sweeps.cli.asking import add_asking, asked_options, flag, placeholder, reader
from sweeps.cli.common import add_detail, add_name, add_results, carry_out, command, go_on, named_sweep
from sweeps.ledger.known import known_sweep
from sweeps.spec.marks import option_words, options
from sweeps.spec.names import default_name
from sweeps.spec.options import check_numbers
from sweeps.spec.space import parse_space, read_space
from sweeps.spec.specs import Spec, SweepSpec

NUMBERS = [name for name, option in options(SweepSpec).items() if option.extends]


@command("run", "run, continue or extend a sweep", add_asking, add_detail)
def _run(arguments: argparse.Namespace) -> int:
    from sweeps.studies.asked import run_sweep

    # Chosen here, so that what is said after an interrupt can name the sweep.
    name = arguments.name or default_name(canonical_name(arguments.dataset), f"{datetime.now():%Y%m%d-%H%M%S}")
    asked = {**asked_options(arguments), "name": name, "detail": arguments.detail}
    return carry_out(lambda: run_sweep(**asked).log, name, arguments)


@command("resume", "go on with a sweep where it ended, and try again what failed", add_name, add_detail)
def _resume(arguments: argparse.Namespace) -> int:
    log, _ = named_sweep(arguments)
    return go_on(log.spec, arguments, lacks=not log.finished, retry_failed=True)


def _larger(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name")
    for name in NUMBERS:
        words = f"{option_words(SweepSpec, name)}: more than so far"
        parser.add_argument(flag(name), type=reader(name), metavar=placeholder(name), help=words)
    parser.add_argument("--space", type=Path, help="search space in YAML that holds the present one")


@command("extend", "give a sweep more trials, seeds, space or budget, and run them", _larger, add_detail, add_results)
def _extend(arguments: argparse.Namespace) -> int:
    log, _ = known_sweep(arguments.results, arguments.name)
    given = {name: value for name in NUMBERS if (value := getattr(arguments, name)) is not None}
    return go_on(extended(log.spec, given, arguments.space), arguments)


def extended(spec: Spec, numbers: dict[str, Any], space: Path | None) -> Spec:
    """Return the specification with larger numbers and a wider space.

    Raises:
        UserError: nothing is asked for, a number is not larger, or an ablation has no such thing. Whether the space
            holds the present one is checked when the sweep goes on.
    """
    if not numbers and space is None:
        raise UserError("say what to extend: --trials, --seeds, --space, --max-sessions or --max-hours")
    check_numbers(**numbers)
    for name, value in numbers.items():
        option = flag(name)
        if name not in type(spec).model_fields:
            raise UserError(f"{spec.name!r} is an ablation, which has no {option}; it can be given more --seeds")
        now = getattr(spec, name)
        if now is None:
            raise UserError(f"{option} {value}: {spec.name!r} has no such limit")
        if value <= now:
            raise UserError(f"{option} must be more than the {now} that {spec.name!r} has, got {value}")
    changes = dict(numbers)
    if space is not None:
        if not isinstance(spec, SweepSpec):
            raise UserError(f"{spec.name!r} is an ablation, which has no --space; it can be given more --seeds")
        changes["space"] = read_space(space, spec.dataset)
        parse_space(changes["space"], spec.base)
    if isinstance(spec, SweepSpec) and "trials" in numbers:
        from sweeps.spec.combinations import possible  # brings torch

        larger = spec.model_copy(update=changes)
        changes["trials"] = possible(larger.trials, larger.search, larger.parsed_space())
        if changes["trials"] <= spec.trials:
            raise UserError(f"--trials: {spec.name!r} has all trials that its space holds; give it a wider --space")
    return spec.model_copy(update=changes)
