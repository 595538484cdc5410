"""`python -m sweeps orders`: how much of the spread of a chosen configuration is the order of the classes."""

from __future__ import annotations

import argparse

from safe.cli.parser import Parser
from sweeps.cli.common import add_detail, add_name, carry_out, named_sweep
from sweeps.cli.export import chosen_config
from sweeps.studies.ablation import run_ablation
from sweeps.studies.orders import build_orders

DEFAULT_ORDERS = 5


def register(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command to the parser."""
    about = "run what a sweep chose over class orders and over seeds, on the test images"
    command = commands.add_parser("orders", help=about)
    command.add_argument("--orders", type=int, default=DEFAULT_ORDERS, help="of each kind (default: %(default)s)")
    command.add_argument("--out-name", help="name of its results (default: <sweep>-orders)")
    command.add_argument("--concurrency", type=int, help="runs at the same time (default: one per GPU, else per core)")
    add_detail(command)
    add_name(command)
    command.set_defaults(command=_orders)


def _orders(arguments: argparse.Namespace) -> int:
    log, _ = named_sweep(arguments)
    spec = build_orders(
        log, chosen_config(log), arguments.orders, name=arguments.out_name, concurrency=arguments.concurrency
    )
    return carry_out(lambda: run_ablation(spec, arguments.results, detail=arguments.detail), spec.name, arguments)
