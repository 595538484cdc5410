"""Names from folders and YAML are shown as they are written: never markup of a page or a terminal, never a path out.

The report part by part: tests/sweeps/report/test_report.py (test_names_are_never_markup).
"""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from sweeps.cli import main
from sweeps.model.registry import model_name
from sweeps.report import write_comparison, write_report

from .conftest import fill
from .sweeping import no_engine, run, small_log

# Markup of HTML, of the terminal's tables ([red]) and of markdown.
EVIL = "birds [red] <script>alert(1)<!-- \"'><img src=x onerror=alert(1)> `x` **b**"


class Elements(HTMLParser):
    """Counts what a browser would take for elements, and gathers what it would show."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.handlers: list[str] = []
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        if self.names[-1:] != ["script"]:
            self.words += data


def test_a_sweep_on_a_folder_with_a_hostile_name_is_shown_as_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the output as it runs, in `show`, `list` and `report`, with class folders called like it too."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nobody there
    monkeypatch.setenv("COLUMNS", "500")
    results = tmp_path / "results"
    # [/x] ends, for the terminal's tables, what never began.
    data = fill(tmp_path / "a[" / f"x] {EVIL}", [f"{EVIL} {label}" for label in range(4)], train=3, test=1)
    no_engine(monkeypatch)
    settings = ["data.init_classes=2", "data.increment=2", "backbone.weights=random", "runtime.device=cpu"]
    assert run(results, "--dataset", str(data), *settings) == 0
    assert main(["list", "--results", str(results)]) == 0
    listed = capsys.readouterr().out
    assert str(data) in listed.splitlines()[-1], "the list names it whole"
    assert main(["show", "demo", "--results", str(results)]) == 0
    assert data.name in capsys.readouterr().out
    report = results / "sweeps" / "demo" / "report" / "report.html"
    page = Elements(report.read_text("utf-8"))
    assert data.name in page.words
    assert "img" not in page.names
    assert page.handlers == []


@pytest.mark.parametrize("write", ["report", "comparison"])
def test_markup_in_any_name_adds_no_element_to_a_page(tmp_path: Path, write: str) -> None:
    """The page of the same sweep with tame names has the same elements one by one."""
    names = []
    for name in ("tame", EVIL):
        log = small_log(name)
        place = tmp_path / name[:4]
        place.mkdir()
        file = write_report(log, place) if write == "report" else write_comparison(log, log, place)
        page = Elements(file.read_text("utf-8"))
        names.append(page.names)
        assert page.handlers == []
        assert name in page.words or write == "comparison"
    assert names[0] == names[1]


@pytest.mark.parametrize("name", ["../up", "a/b", "/root", "..", ".hidden", "a\nb", EVIL, "a" * 200])
def test_the_name_of_a_sweep_cannot_lead_out_of_the_results_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    for words in (["run", "--name", name], ["show", name], ["report", name], ["stop", name], ["prune", name]):
        assert main([*words, "--results", str(tmp_path / "results")]) == 2
        assert "cannot name a sweep" in capsys.readouterr().err, words
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("name", ["a b#é%~&+'\"", "50%", "$x{y};|*"])
def test_a_results_folder_with_an_odd_name_holds_all_that_a_sweep_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    no_engine(monkeypatch)
    results = tmp_path / name
    assert run(results) == 0
    assert {place.name for place in tmp_path.iterdir()} == {name, "space.yaml"}
    assert len(list((results / "mlartifacts").iterdir())) == 1, "the report of the sweep: these runs have no files"
    assert "records for MLflow" not in capsys.readouterr().err
    assert main(["show", "demo", "--results", str(results)]) == 0


@pytest.mark.parametrize(
    ("name", "told"), [("a%20b", "'%20'"), ("what?", "'?'"), ("a%2Fb", "'%2F'"), ("a\udcffb", "bytes that are no text")]
)
def test_a_results_folder_that_mlflow_could_not_have_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, told: str
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    no_engine(monkeypatch)
    assert run(tmp_path / name) == 2
    error = capsys.readouterr().err
    assert f"cannot contain {told}; got " in error
    assert len(error.splitlines()) == 1
    assert {place.name for place in tmp_path.iterdir()} == {"space.yaml"}


def test_the_name_of_a_registered_model_is_made_of_harmless_letters() -> None:
    assert model_name(f"/data/{EVIL}") == "safe-birds-red-script-alert-1----img-src-x-onerror-alert-1-x-b"
    assert model_name("/data/...") == "safe-data"
