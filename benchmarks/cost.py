"""`python -m benchmarks.cost [REHEARSAL.json]`: write the tables of docs/cost.md.

Of every data set whose numbers are published, what its preset takes is reckoned; nothing runs. What a rehearsal has
measured gets a table too.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.page import replaced, table
from safe.config import Config, load_config
from safe.datasets.facts import DATASETS
from safe.io.progress import duration
from safe.training.cost import run_bytes, session_costs
from sweeps.spec.devices import DEVICES, SHARE
from sweeps.spec.options import build_spec
from sweeps.studies.forecast import Reckoned, Rounds, SessionSeconds
from sweeps.studies.plan import plan_of

PAGE = Path(__file__).parents[1] / "docs" / "cost.md"
ON = ("h100", "a100", "4090")
NOWHERE = "data.root=/nowhere"


class Operations:
    """A `Pace` of one operation a second, by which a schedule's work is operations."""

    def session_seconds(self, config: Config) -> Sequence[SessionSeconds]:
        """Return the operations of each session of a run."""
        return [SessionSeconds(cost.step_flops, *map(sum, cost.closing)) for cost in session_costs(config)]


def reckoned(names: Sequence[str]) -> str:
    """Return the tables of some data sets: what a run takes, what a default sweep does, and hours on one GPU."""
    runs, sweeps = [], []
    for name in names:
        config = load_config(name, overrides=[NOWHERE])
        costs, taken = session_costs(config), run_bytes(config, torch.device("cuda"))
        runs.append(
            {
                "data set": name,
                "sessions": len(costs),
                "gradient steps": f"{sum(cost.steps for cost in costs):,}",
                "images trained on": f"{sum(cost.trained for cost in costs):,}",
                "images read": f"{sum(cost.frozen + cost.read for cost in costs):,}",
                "PFLOP": sum(cost.flops for cost in costs) / 1e15,
                "GPU memory, GB": taken.memory / 1e9,
                "states, GB": taken.states / 1e9,
                "decoded images, GB": taken.pixels / 1e9,
            }
        )
        plan = plan_of(build_spec(name="cost", dataset=name, overrides=[NOWHERE]))
        row: dict[str, Any] = {"data set": name, "PFLOP": Rounds(plan, Operations()).on(1).seconds / 1e15}
        for device in ON:
            pace = Reckoned(DEVICES[device])
            alone, whole = sum(map(sum, pace.session_seconds(config))), Rounds(plan, pace).on(1).seconds
            row |= {f"{device}: a run": duration(alone), f"{device}: a sweep": duration(whole)}
        sweeps.append(row)
    asked = f"{plan.spec.search}, {plan.spec.trials} trials, {plan.spec.seeds} seeds"
    return (
        f"### reckoned\n\nOne run of the preset on all training images:\n\n{table(runs)}\n"
        f"A default sweep ({asked}; with race, audit, final runs, rival and control), and both on one GPU at "
        f"{SHARE:.0%} of its published peak, reckoned and not measured:\n\n{table(sweeps)}"
    )


def rehearsed(report: Mapping[str, Any]) -> str:
    """Return the table of a rehearsal."""
    rows = [
        {
            "sweep": phase["name"],
            "first step after, s": phase["first_step_seconds"],
            "in all, s": phase["seconds"],
            "driver, MB": phase["driver_mb"],
            "workers, MB": phase["workers_mb"],
            **{f"{what}, MB": size for what, size in phase["disk_mb"].items()},
        }
        for phase in report["phases"]
    ]
    settings = " ".join([f"backbone {report['backbone']}", *report["settings"]])
    return (
        f"### rehearsal\n\nLike {report['like']}: {report['pictures']:,} pictures; {report['cores']} cores, "
        f"{settings}\n\n{table(rows)}"
    )


def main(argv: Sequence[str]) -> int:
    """Write the page; 0."""
    names = [name for name, info in DATASETS.items() if info.train_images is not None and not info.embedded]
    sections = {"reckoned": reckoned(names)}
    for file in argv:
        sections["rehearsal"] = rehearsed(json.loads(Path(file).read_text("utf-8")))
    PAGE.write_text(replaced(PAGE.read_text("utf-8"), sections), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
