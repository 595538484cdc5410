"""The report: one HTML page about a sweep, or about two side by side, that opens anywhere without a network.

    ledger ─► gather (plain data) ─► *_plots (figures) ─► sections (text, tables, figures) ─► page (HTML)

The functions here import plotly only when they are called.
"""

from __future__ import annotations

from pathlib import Path

from safe.io.writable import whole
from sweeps.ledger.folders import FILE_NAME, FOLDER
from sweeps.ledger.ledger import SweepLog


def write_report(log: SweepLog, folder: Path) -> Path:
    """Write the report of a sweep into `folder / "report"` and return its file.

    Args:
        log: what the ledger says; the same ledger gives the same page.
        folder: of the sweep; what its subfolders hold on disk goes into the page.

    Raises:
        UserError: the log is an ablation's, which has its own table.
    """
    from sweeps.report.cost import disk_usage
    from sweeps.report.losses import read_confused
    from sweeps.report.page import render
    from sweeps.report.sections import report_page

    return _write(folder / FOLDER / FILE_NAME, render(report_page(log, disk_usage(folder), read_confused(log, folder))))


def write_comparison(first: SweepLog, second: SweepLog, folder: Path) -> Path:
    """Write two sweeps side by side into `folder` and return the file; see `write_report` for what is raised."""
    from sweeps.report.compare import comparison_page
    from sweeps.report.page import render

    return _write(folder / f"{first.spec.name}-vs-{second.spec.name}.html", render(comparison_page(first, second)))


def _write(file: Path, text: str) -> Path:
    with whole(file) as draft:  # a browser that has the old page open never reads half of the new one
        draft.write_text(text, "utf-8")
    return file
