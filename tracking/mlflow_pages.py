"""What MLflow's pages show and where: names of metrics, addresses of pages, a prepared table of runs.

None of it is promised by MLflow; it was read in the pages of `tracking.compat.SEEN_WITH` and looked at there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

LOCAL_SERVER = "http://127.0.0.1:5000"  # where a server is unless its port is taken
TABLES_TAG = "mlflow.loggedArtifacts"
VIEW_TAG = "mlflow.sharedViewState."  # of an experiment, followed by the view's name
TAG, PARAM, METRIC = "tags", "params", "metrics"  # what a column can show

_TRAINING = "workflowType=machine_learning"  # the pages for training; without it those for traces
_FIRST = ("best", "test", "val", "system")  # the last has a page of its own
_LAST = "zz/"
_NAME, _CREATED = "attributes.`Run Name`", "runDateAndNestInfo"
_NAME_WIDTH = 210


def charted(metric: str) -> str:
    """Return what a metric is called in MLflow.

    Its pages sort charts by group, what stands before the last "/". Groups that judge a run shall come first, so the
    others (losses, times, memory) are called `zz/...`.
    """
    group, slash, _ = metric.partition("/")
    return f"{_LAST}{metric}" if slash and group not in _FIRST else metric


def uncharted(name: str) -> str:
    """Return the metric that is called `name` in MLflow."""
    return name.removeprefix(_LAST)


def run_page(tracking: Mapping[str, Any], inside: str = "") -> str:
    """Return where a server shows a run, to be put behind its address; empty where MLflow's ids are not known.

    Args:
        tracking: has `experiment_id` and `parent_run_id`.
        inside: a part of the page, such as `/artifacts/FILE`.
    """
    experiment, run = tracking.get("experiment_id"), tracking.get("parent_run_id")
    return f"/#/experiments/{experiment}/runs/{run}{inside}?{_TRAINING}" if experiment and run else ""


def table_page(tracking: Mapping[str, Any]) -> str:
    """Return where a server shows the table of an experiment's runs, by the prepared `view` if there is one."""
    experiment, view = tracking.get("experiment_id"), tracking.get("view")
    if not experiment:
        return ""
    return f"/#/experiments/{experiment}/runs?{_TRAINING}" + (f"&viewStateShareKey={view}" if view else "")


def shown_as_tables(paths: Iterable[str]) -> dict[str, str]:
    """Return the tag that has MLflow draw these artefacts as tables: JSON of `columns`, names, and `data`, rows."""
    tables = [{"path": path, "type": "table"} for path in paths]
    return {TABLES_TAG: json.dumps(tables)} if tables else {}


def column(kind: str, name: str) -> str:
    """Return what the table calls a column of one of the kinds TAG, PARAM and METRIC."""
    return f"{kind}.`{charted(name) if kind == METRIC else name}`"


def table_view(
    query: str, columns: Sequence[tuple[str, str]], sort: str, *, ascending: bool = False
) -> dict[str, object]:
    """Return a view of the table of runs, with a first chart that draws its params against the metric `sort`.

    Args:
        query: which runs, in the language of MLflow's search.
        columns: kind and name of each, in order.
    """
    ids = [column(*one) for one in columns]
    widths = {id: 30 + 7 * len(name) for id, (_, name) in zip(ids, columns, strict=True)}  # of the heading
    chart = {
        "type": "PARALLEL",
        "uuid": "settings",
        "metricSectionId": "settings",
        "displayName": f"settings and {sort}",
        "selectedParams": [name for kind, name in columns if kind == PARAM],
        "selectedMetrics": [charted(sort)],
        "showAllRuns": False,
        "deleted": False,
        "isGenerated": False,
    }
    groups = dict.fromkeys(("settings", charted(sort).rpartition("/")[0], "val", "test"))
    sections = [{"uuid": name, "name": name, "display": True, "isReordered": True} for name in groups]
    return {
        "searchFilter": query,
        "orderByKey": column(METRIC, sort),
        "orderByAsc": ascending,
        "selectedColumns": ids,
        "columnOrder": [_NAME, *ids, _CREATED, "duration"],
        "columnWidths": {_NAME: _NAME_WIDTH, **widths},
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": [chart],
        "compareRunSections": sections,
        "isAccordionReordered": True,
    }
