"""`python -m sweeps orders`: how much of the spread of a chosen configuration is the order of the classes."""

from __future__ import annotations

import argparse

from sweeps.cli.common import add_detail, add_name, carry_out, command, named_sweep
from sweeps.cli.export import chosen_config
from sweeps.studies.ablation import run_ablation
from sweeps.studies.orders import build_orders

DEFAULT_ORDERS = 5


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--orders", type=int, default=DEFAULT_ORDERS, help="of each kind (default: %(default)s)")
    parser.add_argument("--out-name", help="name of its results (default: <sweep>-orders)")
    parser.add_argument("--concurrency", type=int, help="runs at the same time (default: one per GPU, else per core)")


@command(
    "orders",
    "run what a sweep chose over class orders and over seeds, on the test images",
    _options,
    add_detail,
    add_name,
)
def _orders(arguments: argparse.Namespace) -> int:
    log, _ = named_sweep(arguments)
    spec = build_orders(
        log, chosen_config(log), arguments.orders, name=arguments.out_name, concurrency=arguments.concurrency
    )
    return carry_out(lambda: run_ablation(spec, arguments.results, detail=arguments.detail), spec.name, arguments)
