"""What the order of the classes does: one configuration over class orders, and over seeds with one order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safe.config import validate
from safe.errors import UserError
from sweeps.ledger.ledger import SweepLog
from sweeps.spec.names import checked_name
from sweeps.spec.options import check_numbers, placed
from sweeps.spec.specs import AblationSpec
from sweeps.studies.catalogues import ORDERS


def build_orders(
    of: SweepLog,
    config: Mapping[str, Any],
    orders: int,
    *,
    name: str | None = None,
    concurrency: int | None = None,
) -> AblationSpec:
    """Return the specification that runs a configuration over `orders` class orders, and over as many seeds.

    Args:
        of: the sweep that it comes from; the results are called `<its name>-orders` unless `name` says otherwise.
        config: what it chose, flat.

    Raises:
        UserError: a name or number is not valid, or the configuration fixes the order.
    """
    check_numbers(seeds=orders, concurrency=concurrency)
    if config["data.class_order"] != "seeded":
        raise UserError(f"{of.spec.name} says by data.class_order how its classes arrive, so there is one order alone")
    return AblationSpec(
        name=checked_name(name or f"{of.spec.name}-orders"),
        dataset=config["dataset"],
        seeds=orders,
        catalogue="orders",
        variants=list(ORDERS.variants),
        base=dict(config),
        imports=of.spec.imports,
        **placed(validate(config), None, concurrency),
    )
