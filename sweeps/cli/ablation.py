"""`python -m sweeps ablation` and `variants`: SAFE beside its baselines and bounds, and beside its own variants."""

from __future__ import annotations

import argparse

from safe.cli.parser import Parser
from sweeps.cli.common import add_dataset, add_detail, add_imports, add_results, carry_out
from sweeps.studies.ablation import CATALOGUES, build_ablation, run_ablation

DEFAULT_SEEDS = 5
ABOUT = {
    "ablation": "run SAFE beside its baselines and bounds, on the test images",
    "variants": "run the variants that the method leaves open beside the preset, on held-out training images",
}


def register(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the commands to the parser."""
    for catalogue, about in ABOUT.items():
        known = ", ".join(CATALOGUES[catalogue].variants)
        command = commands.add_parser(catalogue, help=about)
        add_dataset(command)
        command.add_argument(
            "--seeds", type=int, default=DEFAULT_SEEDS, help="runs of every variant (default: %(default)s)"
        )
        command.add_argument("--name", help=f"name of its results (default: <data set>-{catalogue})")
        command.add_argument("--variants", default="", help=f"comma-separated, of {known} (default: all)")
        command.add_argument(
            "--concurrency", type=int, help="runs at the same time (default: one per GPU, else per core)"
        )
        command.add_argument("settings", nargs="*", metavar="key=value", help="settings of all of them: fast.epochs=3")
        add_detail(command)
        add_imports(command)
        add_results(command)
        command.set_defaults(command=_ablation, catalogue=catalogue)


def _ablation(arguments: argparse.Namespace) -> int:
    spec = build_ablation(
        dataset=arguments.dataset,
        seeds=arguments.seeds,
        catalogue=arguments.catalogue,
        name=arguments.name,
        variants=[variant for variant in arguments.variants.split(",") if variant],
        overrides=arguments.settings,
        concurrency=arguments.concurrency,
        imports=arguments.imports,
    )
    return carry_out(lambda: run_ablation(spec, arguments.results, detail=arguments.detail), spec.name, arguments)
