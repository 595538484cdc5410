"""MLflow's pages about a sweep: what stands there is what the ledger and the journal say."""

from __future__ import annotations

import re
from collections.abc import Callable
from statistics import fmean, stdev
from typing import Any

import pytest

from benchmarks.driving import Browser
from sweeps.ledger.job_log import JobLog
from sweeps.results.summary import sweep_summary
from sweeps.spec.titles import run_name, title_of
from tracking.mlflow_pages import charted

from .conftest import Swept

Keep = Callable[[str], None]

NAMED = (
    "return [...document.querySelectorAll('a, button, [role=button]')].find(e => e.innerText.trim() === arguments[0])"
)
FIELD = "return document.querySelector(`input[placeholder='${arguments[0]}']`)"
LINKS = "return [...document.querySelectorAll(`${arguments[0]} a`)].map(a => [a.innerText.trim(), a.href])"
CHOICE = "return [...document.querySelectorAll('[role=treeitem], .ant-tree-treenode, li, label, span')]"
COLUMN = """
const cells = [...document.querySelectorAll('[role=gridcell]')].filter(c => c.getAttribute('col-id') === arguments[0])
const place = cell => Number(cell.closest('[role=row]').getAttribute('row-index'))
const words = cell => (cell.querySelector('a') || cell).innerText.trim()
return cells.sort((one, other) => place(one) - place(other)).map(words)
"""
METRIC = """
const link = [...document.querySelectorAll('a')].find(a => a.innerText.trim() === arguments[0])
return link && link.closest('[role=row], tr').innerText.trim().split(/\\s+/)
"""
CHARTS = """
const charts = [...document.querySelectorAll('.js-plotly-plot')].filter(chart => chart.data?.[0]?.x)
return Object.fromEntries(charts.map(({data: [line]}) => [line.metricKey, line.x.map((x, i) => [x, line.y[i]])]))
"""
PICTURE = """
const picture = [...document.images].find(i => i.src.startsWith('blob:') && i.complete && i.naturalWidth > 0)
return picture && fetch(picture.src).then(answer => answer.arrayBuffer()).then(bytes => ({
  width: picture.naturalWidth, height: picture.naturalHeight, bytes: [...new Uint8Array(bytes)]}))
"""
TABLE = """
const rows = [...document.querySelectorAll('table tr')].map(row => [...row.cells].map(cell => cell.innerText.trim()))
return rows.length > 5 && rows.filter(row => row.some(cell => cell))
"""
FIRST_CHART = "return document.querySelector('.js-plotly-plot')?.data?.[0]?.metricKey"
PARAM = """
const cell = [...document.querySelectorAll('[role=cell], td')].find(cell => cell.innerText.trim() === arguments[0])
return cell && cell.nextElementSibling.innerText.trim()
"""
# The value of a metric on a data set, by model. MLflow writes the quotes in a column's id as &quot;.
OF_MODELS = """
const id = cell => cell.getAttribute('col-id').replaceAll('&quot;', '"')
const row = cell => cell.closest('[role=row]').getAttribute('row-index')
const asked = `metrics.{"metricKey":"${arguments[0]}","datasetName":"${arguments[1]}"`
const cells = [...document.querySelectorAll('[role=gridcell]')].filter(cell => cell.innerText.trim())
const named = cells.filter(cell => id(cell) === 'name')
const names = Object.fromEntries(named.map(cell => [row(cell), cell.querySelector('a').innerText.trim()]))
const values = cells.filter(cell => id(cell).startsWith(asked))
return Object.fromEntries(values.map(cell => [names[row(cell)], Number(cell.innerText)]))
"""
SCROLL = "document.querySelector('.ag-center-cols-viewport').scrollLeft = arguments[0]"
COLUMNS_WIDTH = 50_000  # in pixels, more than all columns of models have
BY_NEWEST = "orderByKey=attributes.start_time&orderByAsc=false"
BY_SCORE = "orderByKey=metrics.%60val%2Faverage_accuracy%60&orderByAsc=false"
ESCAPE = "\ue00c"


def named(job: JobLog) -> str:
    """Return what a run is called in MLflow."""
    return run_name(job.title, job.config)


@pytest.fixture(scope="module")
def mlflow(window: Browser, ui: str) -> Browser:
    """Open MLflow for the first time: choose what the pages are for, and close the assistant."""
    window.open(ui)
    window.click(NAMED, "Model training")
    window.click("return document.querySelector('[aria-label=Close]')")
    return window


@pytest.fixture(scope="module")
def experiment(ui: str, swept: Swept) -> str:
    """Return the address of the experiment."""
    assert swept.log.tracking is not None
    return f"{ui}/#/experiments/{swept.log.tracking['experiment_id']}"


@pytest.fixture(scope="module")
def addresses(mlflow: Browser, experiment: str, names: set[str]) -> dict[str, str]:
    """Return the addresses of the runs by name, from a table that is sorted by a metric, which does not nest."""
    mlflow.open(f"{experiment}/runs?{BY_SCORE}")
    mlflow.shows(*names)
    return dict(mlflow.run(LINKS, "[role=gridcell]"))


@pytest.fixture(scope="module")
def names(swept: Swept) -> set[str]:
    """Return what the sweep and its runs are called."""
    return {title_of(swept.log.spec), *map(named, swept.log.jobs.values())}


def test_the_list_leads_to_the_experiment_of_the_data_set(
    mlflow: Browser, ui: str, experiment: str, swept: Swept, keep: Keep
) -> None:
    mlflow.open(f"{ui}/#/experiments")
    mlflow.shows("Time created", "digits")
    keep("1-experiments")
    mlflow.click(NAMED, "digits")
    mlflow.shows(title_of(swept.log.spec))
    assert mlflow.run("return location.href").startswith(f"{experiment}/runs")


def test_the_parent_unfolds_into_its_runs(mlflow: Browser, experiment: str, names: set[str], keep: Keep) -> None:
    assert len(names) == 1 + 4 + 4 + 2 + 2  # the sweep, trials, their audits, final runs and controls
    mlflow.open(f"{experiment}/runs?{BY_NEWEST}")
    (parent,) = (name for name in names if name.startswith("digits · grid"))
    mlflow.shows(parent)
    assert {name for name, _ in mlflow.run(LINKS, "[role=gridcell]")} == {parent}
    mlflow.click("return document.querySelector('[role=gridcell] button')")
    mlflow.shows(*names)
    keep("2-runs")
    assert {name for name, address in mlflow.run(LINKS, "[role=gridcell]") if "/runs/" in address} == names


def test_the_runs_sort_by_a_metric_of_the_summary(mlflow: Browser, experiment: str, swept: Swept, keep: Keep) -> None:
    scores = {
        trial["id"]: trial["sessions"][-1]["val/average_accuracy"] for trial in sweep_summary(swept.log)["trials"]
    }
    ranked = sorted(scores, key=lambda trial: -scores[trial])
    assert len(set(scores.values())) == 4
    assert ranked != sorted(scores)
    mlflow.open(f"{experiment}/runs?{BY_SCORE}")
    mlflow.shows(*(named(swept.log.jobs[trial]) for trial in ranked))
    mlflow.click("return [...document.querySelectorAll('button')].find(e => e.innerText.startsWith('Columns'))")
    mlflow.type("val/average_accuracy", FIELD, "Search columns")
    mlflow.click(f"{CHOICE}.filter(e => e.innerText === 'val/average_accuracy').pop()")
    mlflow.type(ESCAPE, FIELD, "Search columns")
    scored = [str(scores[trial]) for trial in ranked]
    # The run of the sweep has no score of its own, so trials stand in front.
    mlflow.becomes([*scored, *["-"] * 9], COLUMN, "metrics.`val/average_accuracy`")
    keep("3-sorted")
    order = [name for name in mlflow.run(COLUMN, "attributes.`Run Name`") if name != title_of(swept.log.spec)]
    assert order[:4] == [named(swept.log.jobs[trial]) for trial in ranked]


def test_the_page_of_the_sweep_tells_its_result(
    mlflow: Browser, addresses: dict[str, str], swept: Swept, keep: Keep
) -> None:
    log = swept.log
    title, finals = title_of(log.spec), log.of_kind("final")
    mlflow.open(addresses[title])
    mlflow.shows("Description", "Child runs")
    mlflow.click(NAMED, "Show more")
    mlflow.click(NAMED, "Load more")
    mlflow.shows(*map(named, log.jobs.values()))
    keep("4-sweep")
    assert log.selected is not None
    accuracies = [job.sessions[-1].metrics["test/accuracy"] for job in finals]
    mlflow.shows(
        log.selected["trial"],
        f"{100 * fmean(accuracies):.1f} ± {100 * stdev(accuracies):.1f}",
        f"search: {log.sessions_trained} sessions trained, {log.sessions_reused} reused",
        "safe-digits version 1 is the champion",
    )
    links = dict(mlflow.run(LINKS, ""))
    assert {named(job): links[named(job)] for job in log.jobs.values()} == {
        named(job): addresses[named(job)] for job in log.jobs.values()
    }
    points = swept.tables.metrics.query("run == '' and key == 'test/accuracy'")["value"]
    assert points.iloc[-1] == fmean(accuracies)
    last = f"{finals[0].id}-session-{len(finals[0].sessions):02d}"  # the model beside its metric
    assert mlflow.until(METRIC, "test/accuracy") == ["test/accuracy", str(fmean(accuracies)), last]


@pytest.mark.parametrize("wanted", ["val/.*accuracy$", "zz/train/.*/ce$"])
def test_charts_of_a_trial_are_its_sessions_and_epochs(
    mlflow: Browser, addresses: dict[str, str], swept: Swept, keep: Keep, wanted: str
) -> None:
    trial = sweep_summary(swept.log)["trials"][1]
    job = swept.log.jobs[trial["id"]]
    expected: dict[str, list[list[float]]] = {}
    for session, metrics in enumerate(trial["sessions"], start=1):
        for name, value in metrics.items():
            expected.setdefault(name, []).append([session, value])
    for step, terms in (entry for record in job.sessions for entry in record.losses):
        for name, value in terms.items():
            expected.setdefault(charted(name), []).append([step, value])
    expected = {name: points for name, points in expected.items() if re.match(wanted, name)}
    assert len(expected) == (7 if wanted.startswith("val") else 2)
    mlflow.open(f"{addresses[named(job)]}/model-metrics")
    mlflow.type(wanted, FIELD, "Search metric charts")
    mlflow.becomes(expected, CHARTS)
    keep(f"5-charts-{wanted.partition('/')[0]}")


def test_the_heat_map_and_its_table_are_among_the_artefacts(
    mlflow: Browser, addresses: dict[str, str], swept: Swept, keep: Keep
) -> None:
    job = swept.log.of_kind("final")[0]
    mlflow.open(f"{addresses[named(job)]}/artifacts/plots/accuracy_matrix.png")
    picture: dict[str, Any] = mlflow.until(PICTURE)
    keep("6-heat-map")
    file = swept.folder / "runs" / job.id / "plots" / "accuracy_matrix.png"
    assert bytes(picture["bytes"]) == file.read_bytes()
    assert picture["width"] > 300
    assert picture["height"] > 300
    mlflow.open(f"{addresses[named(job)]}/artifacts/tables/accuracy_matrix.csv")
    _, *rows = mlflow.until(TABLE)
    keep("6-table")
    assert [[float(cell) for cell in row[1:] if cell] for row in rows] == [list(record.row) for record in job.sessions]


def test_the_model_is_registered_as_champion(mlflow: Browser, ui: str, swept: Swept, keep: Keep) -> None:
    mlflow.open(f"{ui}/#/models")
    mlflow.click(NAMED, "Try it now")  # closes what MLflow says about its registry the first time
    mlflow.click(NAMED, "safe-digits")
    mlflow.shows("Version 1", "@ champion")
    keep("7-model")
    mlflow.click(NAMED, "Version 1")
    assert swept.log.selected is not None
    mlflow.shows("final 0", "@ champion", str(swept.log.selected["score"]))
    keep("7-version")


def test_the_printed_link_opens_on_the_trials_best_first(
    mlflow: Browser, told: list[str], swept: Swept, keep: Keep
) -> None:
    (link,) = (line.split()[-1] for line in told if "viewStateShareKey" in line)
    scores = of_trials(swept, "val/average_accuracy")
    ranked = sorted(scores, key=lambda trial: -scores[trial])
    mlflow.open(link)
    mlflow.shows(*(named(swept.log.jobs[trial]) for trial in ranked))
    keep("10-printed-link")
    assert mlflow.run(COLUMN, "metrics.`val/average_accuracy`")[:4] == [str(scores[trial]) for trial in ranked]
    assert mlflow.run(COLUMN, "attributes.`Run Name`")[:4] == [named(swept.log.jobs[trial]) for trial in ranked]


def test_the_first_chart_of_a_trial_is_its_accuracy(
    mlflow: Browser, addresses: dict[str, str], swept: Swept, keep: Keep
) -> None:
    mlflow.open(f"{addresses[named(swept.log.jobs['trial-00'])]}/model-metrics")
    mlflow.becomes("val/accuracy", FIRST_CHART)
    keep("11-first-chart")


def test_the_params_of_the_sweep_are_the_chosen_configuration(
    mlflow: Browser, addresses: dict[str, str], swept: Swept, keep: Keep
) -> None:
    config = swept.log.of_kind("final")[0].config
    mlflow.open(addresses[title_of(swept.log.spec)])
    for setting in ("slow.lr", "fast.lr", "aggregation.temperature", "slow.epochs"):
        mlflow.type(setting, FIELD, "Search parameters")
        mlflow.becomes(str(config[setting]), PARAM, setting)
    keep("12-params")


def of_trials(swept: Swept, metric: str, session: int = 0) -> dict[str, float]:
    """Return a metric of every trial that has it, by trial: after a session from 1, by default after the last."""
    return {trial["id"]: trial["sessions"][session - 1][metric] for trial in sweep_summary(swept.log)["trials"]}


def of_models(swept: Swept, split: str) -> dict[str, float]:
    """Return the accuracy of every session that is a model, by its name: of the best trials, or of final runs."""
    log = swept.log
    if split == "test":
        jobs = log.of_kind("final")
        return {f"{j.id}-session-{r.session:02d}": r.metrics["test/accuracy"] for j in jobs for r in j.sessions}
    scores = of_trials(swept, "val/average_accuracy")
    best = sorted(scores, key=lambda trial: -scores[trial])[:3]
    sessions = range(1, len(log.jobs[best[0]].sessions) + 1)
    return {f"{t}-session-{s:02d}": of_trials(swept, "val/accuracy", s)[t] for t in best for s in sessions}


@pytest.mark.parametrize(("split", "dataset"), [("val", "digits-holdout"), ("test", "digits-test")])
def test_models_have_the_accuracy_of_their_session_below_the_data_that_judged_it(
    mlflow: Browser, experiment: str, swept: Swept, keep: Keep, split: str, dataset: str
) -> None:
    expected = of_models(swept, split)
    mlflow.open(f"{experiment}/models?workflowType=machine_learning")
    mlflow.shows(*expected)
    for place in range(0, COLUMNS_WIDTH, 500):
        mlflow.run(SCROLL, place)
        if mlflow.run(OF_MODELS, f"{split}/accuracy", dataset):
            break
    keep(f"13-models-{split}")
    mlflow.becomes(expected, OF_MODELS, f"{split}/accuracy", dataset)


@pytest.mark.parametrize(("split", "dataset"), [("val", "digits-holdout"), ("test", "digits-test")])
def test_models_of_a_data_set_rank_by_a_metric_as_in_the_ledger(
    ui: str, swept: Swept, split: str, dataset: str
) -> None:
    """Through the server, whose own page neither sorts nor filters models."""
    from mlflow import MlflowClient

    client, expected = MlflowClient(ui), of_models(swept, split)
    assert swept.log.tracking is not None
    experiments = [swept.log.tracking["experiment_id"]]
    metrics = [metric for model in client.search_logged_models(experiments) for metric in model.metrics or []]
    (digest,) = {metric.dataset_digest for metric in metrics if metric.dataset_name == dataset}
    order = {"field_name": f"metrics.{split}/accuracy", "dataset_name": dataset, "ascending": False}
    judged = {"dataset_name": dataset, "dataset_digest": digest}  # a server wants the digest too
    page = client.search_logged_models(experiments, datasets=[judged], order_by=[order])
    assert {model.name for model in page} == set(expected)
    assert [expected[model.name] for model in page] == sorted(expected.values(), reverse=True)


def test_the_description_leads_to_the_report(
    mlflow: Browser, addresses: dict[str, str], swept: Swept, keep: Keep
) -> None:
    parent = addresses[title_of(swept.log.spec)]
    mlflow.open(parent)
    mlflow.shows("report/report.html")
    link = dict(mlflow.run(LINKS, ""))["report/report.html"]
    assert link == f"{parent}/artifacts/report/report.html?workflowType=machine_learning"
    mlflow.open(link)
    with mlflow.inside("return document.querySelector('iframe')"):
        mlflow.until("return document.querySelectorAll('.plot .main-svg').length > 0")
        assert swept.log.selected is not None
        mlflow.shows("Answer", swept.log.selected["trial"])
        plots = (
            "return [document.querySelectorAll('.plot').length, document.querySelectorAll('.js-plotly-plot').length]"
        )
        there, drawn = mlflow.run(plots)
        assert there == drawn > 5
    keep("8-report")


def test_no_page_asked_another_machine(mlflow: Browser, ui: str) -> None:
    asked = mlflow.requests()
    assert any(address.startswith(f"{ui}/") for address in asked)
    assert {a for a in asked if not a.startswith((f"{ui}/", "blob:", "data:", "about:"))} == set()
