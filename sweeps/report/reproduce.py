"""How to get the same numbers again: commands, the chosen configuration, versions, digests and seeds."""

from __future__ import annotations

import shlex
from typing import Any

from safe.config.loading import preset
from safe.errors import UserError
from safe.io.documents import nested, yaml_line, yaml_text
from safe.io.tables import Table
from sweeps.report.formatting import exact
from sweeps.report.gather import Gathered
from sweeps.report.page import Block, Code, Section, Text
from sweeps.spec.configs import final_config, refit_config
from sweeps.spec.marks import Mark, marked, options
from sweeps.spec.runs import PLACES
from sweeps.spec.specs import SweepSpec


def reproduce(gathered: Gathered) -> Section:
    """Return the commands and everything that the numbers depend on."""
    spec, log = gathered.spec, gathered.log
    blocks: list[Block] = [
        Text("The same sweep again, under a new name:"),
        Code(f"{sweep_command(spec)}\npython -m sweeps show {spec.name}"),
        Code(yaml_text(dict(spec.space)).rstrip(), "space.yaml"),
    ]
    if gathered.winner is not None:
        blocks.append(Text("The chosen configuration, as the first final run trained it:"))
        blocks.append(
            Code(f"python -m sweeps export {spec.name} --out winner.yaml\npython -m safe train --config winner.yaml")
        )
        blocks.append(Code(yaml_text(nested(_final(gathered))).rstrip(), "winner.yaml"))
    facts = [["search seed", str(spec.search_seed)], ["threads of a run", str(spec.threads)]]
    if gathered.finals:
        for name, what in (("seed", "seeds of the final runs"), ("class_order_seed", "their class order seeds")):
            facts.append([what, ", ".join(str(job.config[name]) for job in gathered.finals)])
    facts += [[name.replace("_", " "), value] for name, value in provenance(gathered).items()]
    facts += [[name, exact(value)] for name, value in sorted(log.environment.items())]
    if log.tracking is not None:
        facts += [["MLflow experiment", exact(log.tracking.get("experiment"))]]
        facts += [["MLflow parent run", exact(log.tracking.get("parent_run_id"))]]
    blocks.append(Table(["what", "value"], facts, "What the numbers depend on"))
    return Section("reproduce", "How to reproduce", blocks)


def sweep_command(spec: SweepSpec) -> str:
    """Return the command that runs the sweep again; settings that differ from the preset are spelt out."""
    left_out = {"name", "space", *marked(SweepSpec, Mark.MANNER)}
    words = ["python", "-m", "sweeps", "run", "--dataset", spec.dataset, "--name", f"{spec.name[:58]}-again"]
    for name in options(SweepSpec):
        value, default = getattr(spec, name), SweepSpec.model_fields[name].default
        if name in left_out or (value == default and name != "search"):
            continue
        words += [f"--no-{name}"] if value is False else [f"--{name.replace('_', '-')}", str(value)]
    words += [word for module in spec.imports for word in ("--import", module)]
    if spec.round_size != SweepSpec.model_fields["round_size"].default:
        words += ["--concurrency", str(spec.round_size)]  # a search proposes as many trials at once as run at a time
    return shlex.join([*words, "--space", "space.yaml", *overrides(spec)])


def overrides(spec: SweepSpec) -> list[str]:
    """Return `key=value` words for what a sweep's base configuration changes in its data set's preset."""
    try:
        before = preset(spec.dataset)
    except UserError:  # a folder that is not here, or a preset that is gone: everything is spelt out
        before = {}
    left_out = ("dataset", "data.evaluate_on", *(spec.space))
    changed = {k: v for k, v in spec.base.items() if before.get(k, ...) != v and k not in left_out}
    changed |= {"runtime.threads": spec.threads}
    return [f"{name}={yaml_line(value)}" for name, value in changed.items()]


def provenance(gathered: Gathered) -> dict[str, str]:
    """Return the digests of data and weights, and the class order of the first run that has them."""
    jobs = [*gathered.finals, *gathered.log.jobs.values()]
    first = next((job for job in jobs if job.sessions), None)
    return {name: exact(value) for name, value in first.sessions[0].provenance.items()} if first else {}


def _final(gathered: Gathered) -> dict[str, Any]:
    """Return the configuration of the first final run, with paths as they were typed."""
    assert gathered.winner is not None
    spec, winner = gathered.spec, gathered.winner
    config = final_config(refit_config(spec, winner.config, winner.prediction), 0)
    typed = spec.target or spec.base
    return {**config, **{name: typed[name] for name in (*PLACES, "backbone.weights")}}
