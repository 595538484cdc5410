"""`python -m sweeps plan`: what a sweep will cost, before anything runs."""

from __future__ import annotations

import argparse
import json
import time

from rich.console import Console

from safe.datasets.facts import dataset_info
from safe.errors import UserError, tell
from safe.io.progress import SILENCE_S
from safe.types import Working
from sweeps.cli.asking import add_asking, asked_options
from sweeps.cli.common import command
from sweeps.spec.devices import DEVICES, SHARE, parse_devices


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-probe", action="store_true", help="estimate no time, which takes a few seconds")
    parser.add_argument("--on", metavar="DEVICE", help=f"reckon the time for GPUs, as h100x8: {', '.join(DEVICES)}")
    parser.add_argument("--json", action="store_true", help="one object for programs")


@command("plan", "print what a sweep will cost, before anything runs", add_asking, _options)
def _plan(arguments: argparse.Namespace) -> int:
    import torch

    from safe.data.loading import survey
    from safe.training.build import resolve_device
    from sweeps.studies.asked import sweep_spec
    from sweeps.studies.forecast import Reckoned, Rounds
    from sweeps.studies.plan import plan_of
    from sweeps.studies.plan_shown import cost_of, outcome, show_counts, show_time
    from sweeps.studies.probe import probe
    from sweeps.studies.sweep import check_early

    spec = sweep_spec(**asked_options(arguments))
    on = parse_devices(arguments.on) if arguments.on else None
    root, lacking = spec.base["data.root"], None
    try:
        survey(spec.dataset, root)
    except UserError as error:
        if dataset_info(spec.dataset).train_images is None:  # nothing is published that could stand for it
            raise
        lacking = error
    if on is None and lacking is None:
        check_early(spec)
    planned = plan_of(spec)
    config, console = planned.refits[0], Console(markup=False, emoji=False, quiet=arguments.json)
    machine = torch.device("cuda") if on else resolve_device(config.runtime.device)
    cost = cost_of(config, machine)
    show_counts(planned, cost, machine, console)
    rounds, workers, how = None, spec.concurrency, ""
    if on is not None:
        device, workers = on
        rounds = Rounds(planned, Reckoned(device))
        how = f"reckoned for {arguments.on} by {SHARE:.0%} of its published peak, not measured"
    elif not arguments.no_probe and lacking is None:
        console.print("timing a few batches on this machine ...")
        rounds = Rounds(planned, probe(spec.base, _Spoken(console)))
        how = f"{spec.threads} threads each; from a probe of a few batches, so rough"
    if rounds is not None:
        show_time(planned, rounds, workers, how, console)
    elif lacking is not None:
        tell(f"{str(lacking).splitlines()[0]} Counts are of what is published; --on h100x8 reckons a time.")
    if arguments.json:
        print(json.dumps(outcome(planned, cost, rounds, workers), indent=2, allow_nan=False))
    return 0


class _Spoken:
    """Says how far the timed batches are, every ten seconds: a large network takes some time for each."""

    def __init__(self, console: Console) -> None:
        self._console, self._said = console, time.monotonic()

    def __call__(self, working: Working) -> None:
        if time.monotonic() - self._said >= SILENCE_S:
            self._said = time.monotonic()
            self._console.print(working.in_words())
