"""`python -m benchmarks`: bad input is told before anything is measured."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Main = Callable[[list[str]], int]


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> Main:
    """Return the command line's function; measuring anything fails the test. The package is not installed."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    import benchmarks.__main__ as command

    def never(*_: object) -> list[object]:
        raise AssertionError("measured before the input was checked")

    monkeypatch.setattr(command, "measured", never)
    return command.main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pairs", "0"], "--pairs must be at least 1, got 0"),
        (["--pairs", "-3"], "--pairs must be at least 1, got -3"),
        (["--suite", "trail"], "unknown suite 'trail'; choose one of: "),
    ],
)
def test_bad_input_is_one_line(
    main: Main, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {message}")
    assert len(err.splitlines()) == 1
    assert ("trail" in message) == err.endswith("Did you mean 'trial'?\n")


def test_a_results_folder_that_cannot_be_written_is_told_first(
    main: Main, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RESULTS", f"{tmp_path}/file")
    assert main(["--suite", "trial"]) == 2
    assert f"error: RESULTS: {tmp_path}/file/bench/trial.json cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("results", [None, "", "elsewhere"])
def test_results_go_to_the_named_folder_or_results(
    main: Main, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, results: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RESULTS", raising=False)
    if results is not None:
        monkeypatch.setenv("RESULTS", results)
    row = {"name": "nothing", "ratio": 1.0}
    monkeypatch.setattr(sys.modules["benchmarks.__main__"], "measured", lambda *given: given[-1]([row]))
    assert main(["--suite", "trial"]) == 0
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*.json")] == [
        Path(results or "results") / "bench" / "trial.json"
    ]


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_the_plain_training_is_the_same_training(monkeypatch: pytest.MonkeyPatch, dropout: float) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    from benchmarks.plain import PlainSafe
    from safe.backbones.loading import load_backbone
    from safe.config import load_config
    from safe.data.benchmarks.digits import load_digits
    from safe.training.trainer import SafeTrainer

    settings = {"slow.epochs": 1, "fast.epochs": 1, "head.projection_dim": 64, "pet.dropout": dropout}
    config, dataset, vit = load_config("digits", overrides=settings), load_digits(), load_backbone("safe_small_vit")
    plain = PlainSafe(config, dataset, vit, test_every_epoch=True)
    accuracies = [plain.run_session(0), plain.run_session(1)]
    trainer = SafeTrainer(config, dataset, vit)
    ours = [trainer.run_session().metrics["accuracy"] for _ in range(2)]
    # Without dropout nothing differs but the order of sums; with it the two passes of a step draw other masks.
    assert ours == pytest.approx(accuracies, abs=0.01 if dropout == 0 else 0.05)


def test_a_session_takes_two_calls_of_mlflow_at_most(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    from benchmarks.mlflow_pages import recorded

    store, pages, (trial, model) = recorded(tmp_path, trials=2, sessions=3)
    assert store["calls_a_session"] <= 2
    # Made and finished; what a trial of 3 sessions takes at its end: params, points, links, its own end.
    assert store["calls_with_a_model"] - store["calls_a_session"] == pytest.approx(2 + 4 / 3)
    assert (trial, model) == ("trial-001", "trial-001-session-03")
    assert [page.split("?")[0].split("/")[-1] for page in pages.values()][1:] == ["runs", "models"]
