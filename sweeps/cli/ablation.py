"""`python -m sweeps ablation` and `variants`: SAFE beside its baselines and bounds, and beside its own variants."""

from __future__ import annotations

import argparse
from functools import partial

from sweeps.cli.asking import add_asking, asked_options
from sweeps.cli.common import add_detail, carry_out, command
from sweeps.spec.specs import AblationSpec
from sweeps.studies.ablation import CATALOGUES, build_ablation, run_ablation

ABOUT = {
    "ablation": "run SAFE beside its baselines and bounds, on the test images",
    "variants": "run the variants that the method leaves open beside the preset, on held-out training images",
}


def _options(catalogue: str, parser: argparse.ArgumentParser) -> None:
    add_asking(parser, AblationSpec)
    known = ", ".join(CATALOGUES[catalogue].variants)
    parser.add_argument("--variants", default="", help=f"comma-separated, of {known} (default: all)")
    parser.set_defaults(catalogue=catalogue)


def _ablation(arguments: argparse.Namespace) -> int:
    asked = asked_options(arguments, AblationSpec)
    results = asked.pop("results")
    variants = [variant for variant in arguments.variants.split(",") if variant]
    spec = build_ablation(catalogue=arguments.catalogue, variants=variants, **asked)
    return carry_out(lambda: run_ablation(spec, results, detail=arguments.detail), spec.name, arguments)


for catalogue, about in ABOUT.items():
    command(catalogue, about, partial(_options, catalogue), add_detail)(_ablation)
