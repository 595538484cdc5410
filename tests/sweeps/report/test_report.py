"""The page: what it says, that nothing in it is markup that should not be, and that it needs nothing from elsewhere."""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
import re
import shlex
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from plotly.offline import get_plotlyjs_version
from rich.console import Console

from safe.config import load_config, validate
from safe.errors import UserError
from safe.io.tables import Table
from sweeps.cli import main, parser
from sweeps.cli.asking import asked_options
from sweeps.ledger.job_log import JobLog
from sweeps.ledger.jobs import Kind
from sweeps.ledger.ledger import Ledger, SweepLog
from sweeps.report import search_plots, write_report
from sweeps.report.axes import Axis
from sweeps.report.cost import disk_usage
from sweeps.report.gather import Matrix
from sweeps.report.learned import learned_lines
from sweeps.report.losses import read_confused
from sweeps.report.page import Facts, Figure, Page, Section, Text, render
from sweeps.report.reproduce import sweep_command
from sweeps.report.run_plots import UNSEEN, matrix, scale_ends
from sweeps.report.sections import report_page
from sweeps.report.terminal import ON_TEST, describe, show
from sweeps.report.tree import Node
from sweeps.report.words import forgetting_words
from sweeps.results import selection
from sweeps.results.confused import HEADER, PICTURE, TABLE, Pair, table_of
from sweeps.results.importance import importance_record
from sweeps.results.summary import summary_metrics, sweep_summary
from sweeps.spec.specs import AblationSpec
from sweeps.studies.asked import sweep_spec

from .made_up import SPACE, make_log

SCORED = selection._scored
EVIL = "<script>alert(1)</script>"


class Outline(HTMLParser):
    """What a browser would find: elements with their attributes, and the text of each script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts.append(data)
        elif self._inside != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


def sections(log: SweepLog) -> dict[str, Section]:
    return {section.id: section for section in report_page(log, {}).shown}


def tables(section: Section) -> list[Table]:
    return [block for block in section.blocks if isinstance(block, Table)]


def words(section: Section) -> str:
    return " ".join(block.text for block in section.blocks if isinstance(block, Text))


@pytest.fixture(scope="module")
def log() -> SweepLog:
    return make_log(audit=True)


@pytest.fixture(scope="module")
def page(log: SweepLog) -> str:
    return render(report_page(log, {"runs": (3, 1_500_000)}))


# ---------------------------------------------------------------- what it says


def test_the_answer_comes_first(log: SweepLog) -> None:
    first = report_page(log, {}).shown[0]
    assert first.id == "answer"
    *told, facts, honest, final, _, settings = first.blocks
    assert [block.text for block in told] == learned_lines(log)  # type: ignore[union-attr]
    # Level 0.8992 (trial 01) and 0, 1, 2 points by seed, less 1.5 points after 4 sessions.
    assert facts.facts[0] == ("89.4 ± 1.0 %", "final accuracy", "test images, mean ± std over 3 seeds")  # type: ignore
    # Differences to the control: 9.92 - (0, 1, 2) points; half width 4.303 * 1 / sqrt(3).
    assert facts.facts[1] == ("+8.9 ± 2.5", "points against the control", "better, beyond noise")  # type: ignore
    assert isinstance(honest, Text)
    assert "Honest: only held-out training images (20 % of each class)" in honest.text
    assert isinstance(final, Table)
    rows = {row[0]: row[1:] for row in final.rows}
    assert rows["final accuracy (%)"] == [
        "89.4 ± 1.0", "87.4 ± 1.0", "86.4 ± 1.0", "80.5 ± 2.0", "+8.9 ± 2.5", "better, beyond noise"
    ]  # fmt: skip
    assert rows["forgetting (%)"][-2:] == ["0.0 ± 0.0", "within noise"]
    assert isinstance(settings, Table)
    assert ["pet.kind", "ssf", "adapter", "changed"] in settings.rows


def test_a_difference_within_noise_is_called_so() -> None:
    log = make_log()
    for repeat, accuracy in enumerate((0.99, 0.80, 0.90)):
        log.jobs[f"control-{repeat}"].sessions[-1].metrics["test/accuracy"] = accuracy
    facts = next(block for block in sections(log)["answer"].blocks if isinstance(block, Facts))
    assert facts.facts[1][2] == "within noise"  # type: ignore[union-attr]


def test_selection_on_test_is_said_on_every_figure_and_table() -> None:
    made = report_page(make_log(selection="test"), {"runs": (1, 1)})
    assert made.banners == [f"Attention: {ON_TEST}."]
    assert "Not honest" in words(made.shown[0])
    for section in made.shown:
        for block in section.blocks:
            if isinstance(block, Figure):
                assert "selected on test" in block.caption
                assert any(a.text == "selected on test" for a in block.figure.layout.annotations)
            elif isinstance(block, Table):
                assert "selected on test" in block.caption


def test_every_figure_has_its_main_numbers_in_a_table(log: SweepLog) -> None:
    figures = 0
    for name, section in sections(log).items():
        count = sum(isinstance(block, Figure) for block in section.blocks)
        figures += count
        assert not count or tables(section) or name == "parallel", name  # that one's table is the leaderboard
    assert figures == 11


def test_the_leaderboard_is_sorted_marked_and_cut(log: SweepLog) -> None:
    board = tables(sections(log)["leaderboard"])[0]
    assert board.marked == 0
    assert [row[0] for row in board.rows][:3] == ["trial-01", "trial-08", "trial-05"]
    scores = [float(row[list(board.head).index("average accuracy (%)")]) for row in board.rows]
    assert scores == sorted(scores, reverse=True)
    assert len(board.rows) == 12


def test_the_optimism_gap_is_that_of_the_audit(log: SweepLog) -> None:
    # On test the chosen trial is 3 points below its level, so trial 08 is best there; averages over sessions are 0.75
    # points below the levels, 0.8 + 0.1 sin(1.7) and 0.8 + 0.1 sin(13.6).
    assert [list(row) for row in tables(sections(log)["optimism"])[0].rows] == [
        ["chosen by the test images", "trial-08", "87.8"],
        ["chosen honestly", "trial-01", "86.2"],
        ["gap", "", "1.7"],
    ]


def test_work_is_counted(log: SweepLog) -> None:
    section = sections(log)["work"]
    # 12 trials of 4 sessions at 3 temperatures; half of them took their first session from the store.
    assert "trained 42 sessions and reused 6" in words(section)
    assert "would have trained 144; sharing the settings of prediction alone, 48" in words(section)
    assert [row[:3] for row in tables(section)[0].rows] == [
        ["search", "42", "6"],
        ["final runs and control", "24", "0"],
        ["audit on test", "48", "0"],
    ]


def test_slow_settings_judged_alone_are_ranked() -> None:
    log = make_log(slow=3, search="staged", carried=1, slow_candidates=3)
    for trial in log.of_kind("trial"):
        trial.config["slow.diag_weight"] = log.jobs["slow-01"].config["slow.diag_weight"]
    made = sections(log)["slow-settings"]
    # 0.8 + 0.1 sin(1.7 index) less 0.75 points over the sessions and 2 points for the slow learner.
    assert [list(row) for row in tables(made)[0].rows] == [
        ["slow-01", "0.01", "87.2", "1", "carried on"],
        ["slow-00", "1e-3", "77.2", "1", ""],
        ["slow-02", "0.1", "74.7", "1", ""],
    ]


def test_several_objectives_have_a_pareto_front() -> None:
    log = make_log(objective="average_accuracy,forgetting")
    table = tables(sections(log)["pareto"])[0]
    # Every trial forgets alike, so one point dominates all.
    assert [row[0] for row in table.rows] == ["trial-01"]
    assert "one objective" in next(m.why for m in report_page(make_log(), {}).missing if m.title == "Pareto front")


def test_a_better_other_temperature_is_chosen_and_marked(log: SweepLog) -> None:
    section = sections(log)["prediction"]
    table = tables(section)[0]
    assert table.marked == 0
    assert [row[0] for row in table.rows] == ["1", "0.1", "10"]
    figure = next(block.figure for block in section.blocks if isinstance(block, Figure))
    star = next(trace for trace in figure.data if trace.name == "chosen")
    assert star.x == (1.0,)
    assert star.y[0] == pytest.approx(float(table.rows[0][1]), abs=0.05)


def test_what_accuracy_is_lost_to_by_session(log: SweepLog) -> None:
    """Groups lose a point a session, half of it to other sessions; old groups give one of 50 images to the last."""
    section = sections(log)["losses"]
    assert "Of 2.0 points of forgetting, 1.0 are really forgotten and 1.0 are more confusion" in words(section)
    assert "Among the classes of its own session alone, 90.2 % of the images are right." in words(section)
    lost, spreads, sessions = tables(section)
    assert lost.rows == [["1", "3.0", "1.5", "1.5"], ["2", "2.0", "1.0", "1.0"], ["3", "1.0", "0.5", "0.5"]]
    assert [row[:3] for row in spreads.rows] == [
        [name, "2.0 ± 0.0", "1.0 ± 0.0"] for name in ("SAFE", "slow learner", "fast learner")
    ]
    assert sessions.rows[0] == ["1", "98.0", "0.0", "0.0", "2.0"]
    assert sessions.rows[3] == ["4", "0.0", "0.0", "0.0", "100.0"]
    bars = next(block.figure for block in section.blocks if isinstance(block, Figure))
    assert bars.layout.barmode == "relative"
    assert [list(trace.y) for trace in bars.data] == [[pytest.approx(value) for value in (1.5, 1.0, 0.5)]] * 2


def test_a_ledger_that_knows_nothing_of_single_sessions_says_so() -> None:
    log = make_log()
    for job in log.jobs.values():
        job.sessions[:] = [replace(record, within=(), confusion=()) for record in job.sessions]
    assert "losses" not in sections(log)
    missing = {entry.title: entry.why for entry in report_page(log, {}).missing}
    assert missing["Why accuracy is lost"] == "no final run tells what was right among the classes of one session."


def test_the_most_confused_classes_stand_with_their_images(log: SweepLog, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "final-01-0"
    for file, content in ((run / TABLE, b""), (run / PICTURE, b"\x89PNG")):
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
    pairs = [Pair("a<b", 1, "c", 3, 7, 50)]
    with (run / TABLE).open("w", newline="") as stream:
        csv.writer(stream).writerows([HEADER, *table_of(pairs)])
    page = render(report_page(log, {}, read_confused(log, tmp_path)))
    assert "a&lt;b" in page
    assert "7 of 50" in page
    image = next(attributes for tag, attributes in Outline(page).elements if tag == "img")
    assert image["src"] == "data:image/png;base64,iVBORw=="
    assert image["alt"]
    assert read_confused(log, tmp_path / "elsewhere") is None


def test_the_foot_says_what_forgetting_is(page: str) -> None:
    foot = page[page.index("<footer>") : page.index("</footer>")]
    for words in ("earlier session", "may be negative", "mammoth and PILOT", "Really forgotten", "More confusion"):
        assert words in foot


# ---------------------------------------------------------------- how it is made


def test_plotly_is_in_it_once_and_nothing_is_loaded(page: str) -> None:
    outline = Outline(page)
    (packed,) = (script for script in outline.scripts if len(script) > 500_000)
    library = gzip.decompress(base64.b64decode(packed)).decode()
    # The figures are written by the Python package for the plotly.js that it names: renewed together.
    assert library.startswith(f"/**\n* plotly.js (cartesian - minified) v{get_plotlyjs_version()}\n* Copyright")
    assert len(page) < 800_000
    for tag, attributes in outline.elements:
        assert tag not in ("iframe", "object", "embed", "base", "img"), tag
        for name, value in attributes.items():
            if name in ("src", "href", "action", "srcset", "data"):
                assert value is not None
                assert value.startswith("#") or value == "data:,", (tag, name, value)
    styles = re.findall(r"<style>(.*?)</style>", page, re.S)
    assert not re.search(r"@import|url\(", "".join(styles))
    policy = next(a["content"] for t, a in outline.elements if t == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy


def test_figures_are_data_with_a_place_each(page: str) -> None:
    outline = Outline(page)
    places = [a["id"] for tag, a in outline.elements if tag == "div" and a.get("class") == "plot"]
    data = [a["data-plot"] for tag, a in outline.elements if tag == "script" and "data-plot" in a]
    assert places == data
    assert len(places) == 11
    ids = [a["id"] for _, a in outline.elements if "id" in a]
    assert len(set(ids)) == len(ids)
    specs = [json.loads(script) for script in outline.scripts if script.startswith("{")]
    assert len(specs) == 11
    assert {trace["type"] for spec in specs for trace in spec["data"]} <= {"scatter", "bar", "heatmap"}


def test_the_same_ledger_gives_the_same_page(page: str) -> None:
    assert render(report_page(make_log(audit=True), {"runs": (3, 1_500_000)})) == page


def test_boxes_of_the_tree_fill_every_row_and_stand_below_what_they_begin_from() -> None:
    leaf = {"trained": 3, "children": []}
    a = Node(
        {"slow.epochs": 1},
        [Node({}, trials=["t-0", "t-2"], **leaf), Node({}, trials=["t-5"], **leaf)],
        ["t-0", "t-2", "t-5"],
    )
    b = Node({"slow.epochs": 2}, [Node({}, trials=["t-1"], **leaf)], ["t-1"], reused=1)
    (boxes,) = search_plots.tree([a, b], "4 trials").data
    assert list(zip(boxes.y, boxes.base, boxes.x, strict=True)) == [
        (0, 0, 4), (1, 0, 3), (2, 0, 2), (2, 2, 1), (1, 3, 1), (2, 3, 1)
    ]  # fmt: skip
    assert boxes.text[1] == "slow epochs 1<br>3 trials"
    assert boxes.marker.pattern.shape == ("", "", "", "", "/", "")


def test_names_are_never_markup() -> None:
    names = [f"net-{index}{EVIL}" for index in range(2)]
    log = make_log(dataset=EVIL, space={**SPACE, "backbone.name": {"choice": names}})
    log.apply({"type": "tracking", "experiment": EVIL, "parent_run_id": EVIL, "tracking_uri": EVIL})
    log.apply({"type": "environment", "tags": {EVIL: EVIL}})
    log.apply({"type": "status", "job": "trial-02", "status": "FAILED", "reason": EVIL})
    for index, job in enumerate(log.jobs.values()):
        job.config["backbone.name"] = names[index % 2]
        job.sessions[0] = replace(job.sessions[0], provenance={"class_order": EVIL})
    page = report_page(log, {EVIL: (1, 1)})
    text = render(page)
    outline = Outline(text)
    assert text.count("<script") == text.count("</script") == outline.count("script")
    assert outline.count("script") == 2 + sum(isinstance(b, Figure) for s in page.shown for b in s.blocks)
    assert not any("alert(1)" in script for script in outline.scripts if "<" in script and len(script) < 100_000)
    assert outline.text.count(EVIL) >= 6  # shown as it is written
    # plotly reads markup in texts of figures: there it must be written as entities.
    for section in page.shown:
        for block in section.blocks:
            if isinstance(block, Figure):
                assert "<script" not in block.figure.to_json().replace("\\u003c", "<")


@pytest.mark.parametrize("trials", [1, 1000])
def test_any_number_of_trials_makes_a_page_of_bounded_size(trials: int) -> None:
    log = make_log(trials=trials, sessions=2)
    made = report_page(log, {})
    text = render(made)
    assert len(text.encode()) < 1_500_000
    sections = {section.id: section for section in made.shown}
    board = tables(sections["leaderboard"])[0]
    assert len(board.rows) == min(trials, 50)
    missing = {entry.title: entry.why for entry in made.missing}
    if trials == 1:
        assert missing["Importance of each setting"] == "needs at least 6 finished trials, there are 1."
        assert "Trials across their settings" in missing
    else:
        assert "the first 50 of 1000" in board.caption
        assert "The best 300 of 1000 finished trials" in sections["parallel"].blocks[0].caption  # type: ignore[union-attr]
        assert all(getattr(block, "id", "") != "stage-tree" for block in sections["work"].blocks)


def test_importances_that_the_ledger_keeps_are_not_reckoned_again(monkeypatch: pytest.MonkeyPatch) -> None:
    log = make_log()
    page = render(report_page(log, {}))
    log.importance = importance_record(log)
    monkeypatch.delattr("optuna.importance.PedAnovaImportanceEvaluator")
    assert render(report_page(log, {})) == page


def test_an_unfinished_sweep_says_what_is_missing() -> None:
    log = make_log()
    log.selected, log.finished = None, False
    for job in log.jobs.values():
        if job.kind != "trial":
            job.status = "RUNNING"
        elif job.id > "trial-04":
            job.status, job.sessions = "RUNNING", []
    made = report_page(log, {})
    missing = {entry.title: entry.why for entry in made.missing}
    assert "nothing is chosen yet" in missing["Answer"]
    assert missing["Importance of each setting"] == "needs at least 6 finished trials, there are 5."
    board = tables(next(s for s in made.shown if s.id == "leaderboard"))[0]
    assert [row[-1] for row in board.rows] == ["finished"] * 5 + ["running"] * 7
    assert "Not in this report" in Outline(render(made)).text


def test_a_sweep_that_has_just_begun_has_a_page() -> None:
    log = SweepLog(make_log(trials=1).spec)
    made = report_page(log, {})
    assert [section.id for section in made.shown] == ["reproduce"]
    assert render(made).count("<script") == 0  # no figure, so no plotly either


# ---------------------------------------------------------------- reproducing


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "base": {"fast.epochs": 3, "data.crop_scale": [0.5, 1.0]},
            "objective": "accuracy,forgetting",
            "search_seed": 5,
        },
        {"search": "staged", "slow_candidates": 9, "carried": 2, "round_size": 7, "stop": "asha", "audit": False},
        {"selection": "first-k", "first_k": 2, "search": "tpe", "max_sessions": 100, "control": False},
    ],
)
def test_the_command_asks_for_the_same_sweep(
    changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = load_config("digits", overrides=changes.pop("base", {})).flat()
    spec = make_log(trials=3, sessions=1, **changes).sweep_spec.model_copy(update={"base": base})
    monkeypatch.chdir(tmp_path)
    Path("space.yaml").write_text(json.dumps(spec.space))
    again = sweep_spec(**asked_options(parser().parse_args(shlex.split(sweep_command(spec))[3:])))
    threads = {"runtime.threads": 1}
    assert again.comparable() | threads == spec.comparable() | threads
    assert (again.trials, again.seeds, again.round_size) == (spec.trials, spec.seeds, spec.round_size)
    assert (again.control, again.audit, again.max_sessions) == (spec.control, spec.audit, spec.max_sessions)


def test_winner_yaml_is_the_first_final_run(log: SweepLog, tmp_path: Path) -> None:
    codes = {b.title: b.text for b in sections(log)["reproduce"].blocks if getattr(b, "kind", "") == "code"}
    (tmp_path / "winner.yaml").write_text(codes["winner.yaml"])
    config = load_config(file=tmp_path / "winner.yaml")
    chosen = {**log.jobs["trial-01"].config, "aggregation.temperature": 1.0}
    assert config == validate({**chosen, "data.evaluate_on": "test", "data.holdout_share": 0.0})


def test_versions_digests_and_seeds_are_told() -> None:
    log = make_log()
    log.apply({"type": "environment", "tags": {"version.torch": "9.9", "git.commit": "abc"}})
    rows = dict(tables(sections(log)["reproduce"])[-1].rows)  # type: ignore[arg-type]
    assert rows["version.torch"] == "9.9"
    assert rows["git.commit"] == "abc"
    assert rows["seeds of the final runs"] == "0, 1, 2"
    assert rows["data digest"] == "d" * 16


# ---------------------------------------------------------------- files and commands


def test_the_command_writes_the_page_beside_the_ledger(
    finished_sweep: Callable[[], Ledger], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished_sweep()
    assert main(["report", "demo", "--results", str(tmp_path)]) == 0
    file = tmp_path / "sweeps" / "demo" / "report" / "report.html"
    assert capsys.readouterr().out == f"report: {file}\n"
    text = Outline(file.read_text("utf-8")).text
    assert "final accuracy 62.5 ± 17.7 %" in text
    assert [path.name for path in file.parent.iterdir()] == ["report.html"]
    assert disk_usage(file.parents[1]) == {}
    assert main(["report", "demo", "--results", str(tmp_path)]) == 0  # again over the old one


def test_an_unknown_name_and_an_ablation_are_refused(
    finished_sweep: Callable[[], Ledger], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished_sweep()
    assert main(["report", "dema", "--results", str(tmp_path)]) == 2
    assert "Did you mean 'demo'?" in capsys.readouterr().err
    base: dict[str, Any] = load_config("digits").flat()
    spec = AblationSpec(name="x", dataset="digits", seeds=1, base=base, threads=1, concurrency=1, variants=["safe"])
    with pytest.raises(UserError, match="'x' is an ablation"):
        write_report(SweepLog(spec), tmp_path)


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium to open the page in")
def test_a_browser_draws_every_figure(page: str, tmp_path: Path) -> None:
    assert BROWSER is not None
    file = tmp_path / "report.html"
    file.write_text(page, "utf-8")
    words = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    words += ["--virtual-time-budget=30000"]  # plotly is unpacked first
    done = subprocess.run([BROWSER, *words, file.as_uri()], capture_output=True, timeout=120)
    outline = Outline(done.stdout.decode())
    drawn = [a for tag, a in outline.elements if "js-plotly-plot" in (a.get("class") or "")]
    assert len(drawn) == 11
    assert outline.text.count("SAFE") > 3


def test_the_page_links_to_its_runs_on_a_server() -> None:
    log = make_log(trials=4)
    for uri, server in (("http://ml:5000", "http://ml:5000"), ("sqlite:////x/mlflow.db", "http://127.0.0.1:5000")):
        log.tracking = {"tracking_uri": uri, "experiment_id": "7", "parent_run_id": "abc", "view": "demo"}
        outline = Outline(render(report_page(log, {})))
        assert [a["href"] for tag, a in outline.elements if tag == "a" and a["href"][0] != "#"] == [  # type: ignore
            f"{server}/#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey=demo",
            f"{server}/#/experiments/7/runs/abc?workflowType=machine_learning",
        ]
        assert ("make ui" in outline.text) is (uri != server)
    log.tracking = {"tracking_uri": "sqlite:////x/mlflow.db", "experiment_id": None, "parent_run_id": None}
    outline = Outline(render(report_page(log, {})))
    assert not [a for tag, a in outline.elements if tag == "a" and str(a["href"])[0] != "#"]


def test_every_figure_can_be_saved_as_picture_and_as_table(page: str) -> None:
    outline = Outline(page)
    plots, *buttons = (
        [value for _, attributes in outline.elements for name, value in attributes.items() if name == wanted]
        for wanted in ("data-plot", "data-svg", "data-csv")
    )
    assert len(plots) == 11
    assert buttons == [plots, plots]


@pytest.mark.parametrize(
    ("values", "ends"),
    [
        ([99.1, 99.6, 98.9], (80.0, 100.0)),  # nearly equal cells are not white and black
        ([70.0, 75.0], (62.5, 82.5)),
        ([3.0, 1.0], (0.0, 20.0)),
        ([10.0, 90.0], (10.0, 90.0)),
    ],
)
def test_the_scale_of_a_heat_map_has_a_least_span(values: list[float], ends: tuple[float, float]) -> None:
    assert scale_ends(values) == pytest.approx(ends)


def test_cells_of_sessions_to_come_are_grey() -> None:
    unseen, seen = matrix(Matrix([[0.9], [0.8, 0.9]], 1, "test", True)).data
    assert [list(row) for row in unseen.z] == [[None, 0.0], [None, None]]
    assert [list(row) for row in seen.z] == [[90.0, None], [80.0, 90.0]]
    assert {colour for _, colour in unseen.colorscale} == {UNSEEN}


def test_trials_that_tie_have_one_colour_and_the_scale_names_the_scores() -> None:
    lr = Axis("lr", (0.0, 0.3, 0.6, 1.0), ())
    accuracy = Axis("accuracy (%)", (1.0, 0.5, 0.5, 0.0), ((0.0, "70"), (1.0, "80")))
    made = search_plots.parallel([lr], accuracy, ["a", "b", "c", "d"], "a")
    lines = [trace for trace in made.data if trace.mode == "lines+markers"]
    assert [{*trace.text} for trace in lines] == [{"d"}, {"b", "c"}, {"a"}]
    assert len({trace.line.color for trace in lines}) == 3
    (scale,) = (trace.marker.colorbar for trace in made.data if trace.marker.showscale)
    assert list(scale.ticktext) == ["70", "80"]
    equal = Axis("accuracy (%)", (0.5, 0.5), ())
    tied = search_plots.parallel([Axis("lr", (0.0, 1.0), ())], equal, ["a", "b"], None)
    assert [{*trace.text} for trace in tied.data] == [{"a", "b"}]


def test_texts_of_a_page_are_escaped() -> None:
    page = Page(EVIL, EVIL, [Section("x", EVIL, [Text(EVIL), Table([EVIL], [[EVIL]], EVIL)])], [EVIL])
    assert "<script" not in render(page)


def test_a_trial_is_scored_once_for_all_that_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables, summaries and the report ask for every trial, several times each."""
    log = make_log(trials=200, sessions=3, audit=True, objective="average_accuracy,forgetting")
    calls: Counter[tuple[str, str, str]] = Counter()

    def counted(job: JobLog, objective: str, split: str) -> Any:
        calls[job.id, objective, split] += 1
        return SCORED(job, objective, split)

    monkeypatch.setattr(selection, "_scored", counted)
    sweep_summary(log)
    summary_metrics(log)
    describe(log)
    show(log, tmp_path, Console(file=io.StringIO(), width=80))
    report_page(log, {})
    best = selection.choose(log.of_kind(Kind.TRIAL), log.sweep_spec.objective, "val")
    judged = [(Kind.TRIAL, "val"), (Kind.AUDIT, "test")]
    assert calls == {
        (job.id, log.sweep_spec.objective, split): 1 for kind, split in judged for job in log.of_kind(kind)
    }
    assert best is not None
    job = log.jobs[best.trial]
    job.sessions.pop()
    assert selection.score_trial(job, log.sweep_spec.objective, "val").sessions == best.sessions[:-1]
    assert calls[job.id, log.sweep_spec.objective, "val"] == 2, "its sessions are others"


def test_bars_with_white_lines_have_their_colour_under_them() -> None:
    """Without one, plotly draws white lines on nothing."""
    figures = [
        b.figure for s in sections(make_log()).values() for b in getattr(s, "blocks", ()) if isinstance(b, Figure)
    ]
    patterns = [bar.marker.pattern for figure in figures for bar in figure.data if bar.type == "bar"]
    drawn = [pattern for pattern in patterns if pattern.shape and pattern.fgcolor == "#fff"]
    assert len(drawn) == 2
    assert all(pattern.bgcolor == pattern.parent.color for pattern in drawn)


def test_what_was_gained_is_not_told_as_forgotten() -> None:
    names = ("forgetting", "forgetting_within", "forgetting_confusion", "accuracy_within_session")
    metrics = {name: {"mean": value} for name, value in zip(names, (0.02, -0.015, 0.035, 0.9), strict=True)}
    told = forgetting_words(metrics)
    assert told[0] == (
        "Forgetting of 2.0 points is -1.5 within the sessions and 3.5 by confusion with other ones; what is below 0 "
        "was gained."
    )
