"""What a sweep cost: sessions trained and reused, the tree they form, and disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safe.io.progress import duration
from safe.io.tables import Table
from sweeps.report import search_plots
from sweeps.report.formatting import plural, size
from sweeps.report.gather import Gathered
from sweeps.report.page import Block, Figure, Missing, Section, Text
from sweeps.report.tree import stages, tree
from sweeps.results.accounting import work_account

DiskUse = Mapping[str, tuple[int, int]]


def work(gathered: Gathered) -> Section | Missing:
    """What was trained, and what was spared by sharing."""
    title = "Work and what was shared"
    if not gathered.log.jobs:
        return Missing(title, "nothing has run yet.")
    account = work_account(gathered.log)
    reused = f" and reused {account['sessions_reused']}" if account["sessions_reused"] else ""
    lead = (
        f"The search trained {plural(account['sessions_trained'], 'session')}{reused}. Every combination of settings "
        f"as a run of its own would have trained {account['sessions_naive']}; sharing the settings of prediction "
        f"alone, {account['sessions_unshared_trials']}."
    )
    hours = [name for name in ("cpu_hours", "gpu_hours") if account["total"][name]]
    raced = {"race and baselines": account["race"]} if gathered.spec.raced else {}
    parts = {
        "search": account,
        **raced,
        "final runs and control": account["final"],
        "audit on test": account["audit"],
    }
    rows = [
        [
            label,
            str(part["sessions_trained"]),
            str(part["sessions_reused"]),
            duration(part["seconds"]),
            duration(part["seconds_saved"]),
            *(f"{part[name]:.2f}" for name in hours),
        ]
        for label, part in parts.items()
    ]
    head = ["part", "sessions trained", "sessions reused", "computing", "spared"]
    head += [name.replace("_", " ").upper().replace("HOURS", "hours") for name in hours]
    blocks: list[Block] = [Text(lead), Table(head, rows)]
    counts = stages(gathered)
    if counts:
        caption = "Stages of work by kind, of all runs: computed here, or taken from the store."
        blocks.append(Figure("stages", search_plots.stages(counts), caption))
        table = [
            [
                kind,
                *(f"{row[n]:.0f}" for n in ("computed", "reused")),
                *(duration(row[n]) for n in ("seconds", "saved_seconds")),
            ]
            for kind, row in counts.items()
        ]
        blocks.append(
            Table(["stage", "computed", "reused", "computing", "spared"], table, "Stages by kind", folded=True)
        )
    if 2 <= len(gathered.trials) <= search_plots.WIDEST_TREE:
        figure = search_plots.tree(tree(gathered), plural(len(gathered.trials), "trial"))
        caption = (
            "The tree of training. Upper row: session 1 (slow settings); lower row: later sessions (fast settings); "
            "width: trials that share a piece; hatched: all taken from the store."
        )
        blocks.append(Figure("stage-tree", figure, caption))
    return Section("work", title, blocks)


def disk_use(disk: Mapping[str, tuple[int, int]]) -> Section | Missing:
    """What the sweep's files take."""
    if not disk:
        return Missing("Disk", "the sweep's folder holds no files beside the ledger.")
    total = sum(count for _, count in disk.values())
    rows = [[name, str(number), size(count)] for name, (number, count) in disk.items()]
    rows.append(["together", "", size(total)])
    return Section("disk", "Disk", [Table(["folder", "files", "size"], rows, "Files of this sweep")])


def disk_usage(folder: Path) -> DiskUse:
    """Return (files, bytes) of every subfolder of a sweep's folder, save for the report's own; empty ones left out."""
    usage = {}
    for child in sorted(folder.iterdir()) if folder.is_dir() else []:
        files = [path for path in child.rglob("*") if path.is_file()] if child.is_dir() else []
        if files and child.name != "report":
            usage[child.name] = (len(files), sum(path.stat().st_size for path in files))
    return usage
