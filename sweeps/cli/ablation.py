"""`python -m sweeps ablation`, `variants` and `orders`: SAFE beside its baselines and bounds, beside variants of its
own, and what a sweep chose over orders of the classes."""

from __future__ import annotations

import argparse
from functools import partial

from sweeps.cli.asking import add_asking, asked_options
from sweeps.cli.common import add_detail, add_name, carry_out, command, named_sweep
from sweeps.cli.export import chosen_config
from sweeps.spec.specs import AblationSpec
from sweeps.studies.ablation import CATALOGUES, build_ablation, run_ablation
from sweeps.studies.orders import build_orders

ABOUT = {
    "ablation": "run SAFE beside its baselines and bounds, on the test images",
    "variants": "run the variants that the method leaves open beside the preset, on held-out training images",
}

DEFAULT_ORDERS = 5


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


def _orders_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--orders", type=int, default=DEFAULT_ORDERS, help="of each kind (default: %(default)s)")
    parser.add_argument("--out-name", help="name of its results (default: <sweep>-orders)")
    parser.add_argument("--concurrency", type=int, help="runs at the same time (default: one per GPU, else per core)")


@command(
    "orders",
    "run what a sweep chose over class orders and over seeds, on the test images",
    _orders_options,
    add_detail,
    add_name,
)
def _orders(arguments: argparse.Namespace) -> int:
    log, _ = named_sweep(arguments)
    spec = build_orders(
        log, chosen_config(log), arguments.orders, name=arguments.out_name, concurrency=arguments.concurrency
    )
    return carry_out(lambda: run_ablation(spec, arguments.results, detail=arguments.detail), spec.name, arguments)
