"""Arms as configurations, and the table against numbers a person can check."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from safe.errors import UserError
from sweeps.ablation import (
    ARMS,
    ablation_outcome,
    arm_config,
    build_ablation,
    csv_text,
    markdown,
    show_ablation,
    table,
)
from sweeps.cli import main
from sweeps.ledger import Ledger, read_ledger


def spec(**changes: Any) -> Any:
    return build_ablation(**{"dataset": "digits", "seeds": 2, "concurrency": 1, **changes})


def test_arms_differ_from_the_preset_in_what_they_leave_out() -> None:
    base = arm_config(spec(), "safe", 0)
    assert (base["data.evaluate_on"], base["data.holdout_share"]) == ("test", 0.0)

    def differing(arm: str) -> dict[str, Any]:
        config = arm_config(spec(), arm, 0)
        return {name: value for name, value in config.items() if value != base[name]}

    untrained = {"pet.kind": "none", "slow.epochs": 0, "fast.epochs": 0}
    ce_only = {"slow.diag_weight": 0.0, "slow.offdiag_weight": 0.0, "fast.epochs": 0}
    assert differing("frozen") == untrained
    assert differing("class-means") == untrained | {"head.kind": "class_means"}
    assert differing("ranpac") == ce_only
    joint = {"data.init_classes": 10, "data.scenario": "class", "slow.epochs": 20}
    assert differing("joint") == ce_only | joint


def test_repeats_shift_seed_and_class_order_for_every_arm_alike() -> None:
    for arm in ARMS:
        first, second = (arm_config(spec(), arm, repeat) for repeat in (0, 1))
        changed = {name: (first[name], second[name]) for name in first if first[name] != second[name]}
        assert changed == {"seed": (0, 1), "class_order_seed": (1993, 1994)}


def test_overrides_reach_every_arm_that_does_not_set_them() -> None:
    changed = spec(overrides=["slow.lr=0.5", "slow.epochs=3"])
    assert {arm_config(changed, arm, 0)["slow.lr"] for arm in ARMS} == {0.5}
    assert arm_config(changed, "ranpac", 0)["slow.epochs"] == 3
    assert arm_config(changed, "frozen", 0)["slow.epochs"] == 0


def test_bad_input_is_one_message() -> None:
    with pytest.raises(UserError, match=r"unknown arm 'ranpack'.*Did you mean 'ranpac'"):
        spec(arms=["ranpack"])
    with pytest.raises(UserError, match="--seeds must be at least 1, got 0"):
        spec(seeds=0)


def write_ledger(folder: Path) -> None:
    """Two arms and two seeds; the numbers of repeat r are those of repeat 0 plus r / 10."""
    ledger = Ledger.create(folder, spec(name="demo", arms=["class-means", "safe", "joint"]))
    last = {
        "safe": {
            "accuracy": 0.6,
            "average_accuracy": 0.7,
            "forgetting": 0.1,
            "slow/accuracy": 0.5,
            "fast/accuracy": 0.4,
        },
        "joint": {"accuracy": 0.8, "average_accuracy": 0.8},
        "class-means": {"accuracy": 0.2, "average_accuracy": 0.3, "forgetting": 0.4},
    }
    for arm, metrics in last.items():
        for repeat in range(2):
            job = f"{arm}-{repeat}"
            ledger.append("job", job=job, kind="arm", title=job, config={}, predictions=[])
            shifted = {f"test/{name}": value + repeat / 10 for name, value in metrics.items()}
            ledger.append("session", job=job, session=1, sessions=1, split="test", metrics=shifted)
            ledger.append("status", job=job, status="FINISHED", reason=None)
    ledger.append("finished")
    ledger.close()


def test_the_table_has_mean_and_spread_of_every_row(tmp_path: Path) -> None:
    write_ledger(tmp_path)
    rows = {row["row"]: row for row in table(read_ledger(tmp_path))}
    titles = ["class means, frozen PTM", "slow learner", "fast learner", "SAFE", "joint PET, all classes at once"]
    assert list(rows) == titles
    assert rows["class means, frozen PTM"]["forgetting"]["values"] == pytest.approx([0.4, 0.5])
    assert rows["SAFE"]["accuracy"]["mean"] == pytest.approx(0.65)
    assert rows["SAFE"]["accuracy"]["std"] == pytest.approx(0.1 / 2**0.5)
    assert rows["SAFE"]["forgetting"]["values"] == pytest.approx([0.1, 0.2])
    assert rows["slow learner"]["accuracy"]["values"] == pytest.approx([0.5, 0.6])
    assert set(rows["joint PET, all classes at once"]) == {"arm", "row", "seeds", "accuracy", "safe_minus_this"}
    assert rows["slow learner"]["safe_minus_this"]["mean"] == pytest.approx(0.1)


def test_markdown_csv_terminal_and_json_say_the_same(tmp_path: Path) -> None:
    write_ledger(tmp_path)
    log = read_ledger(tmp_path)
    assert "| SAFE | 65.0 ± 7.1 | 75.0 ± 7.1 | 15.0 ± 7.1 | - |" in markdown(log)
    assert "| joint PET, all classes at once | 85.0 ± 7.1 | - | - | -20.0 ± 0.0 |" in markdown(log)
    lines = list(csv.DictReader(io.StringIO(csv_text(log))))
    safe = [float(line["accuracy"]) for line in lines if line["row"] == "SAFE"]
    assert safe == pytest.approx([0.6, 0.7])
    assert len(lines) == 10
    console = Console(record=True, width=100)
    show_ablation(log, tmp_path, console)
    assert "65.0 ± 7.1" in console.export_text()
    assert ablation_outcome(log)["rows"] == table(log)


def test_show_and_list_know_ablations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "sweeps" / "demo"
    folder.mkdir(parents=True)
    write_ledger(folder)
    assert main(["show", "demo", "--results", str(tmp_path)]) == 0
    assert "joint PET, all classes at once" in capsys.readouterr().out
    assert main(["list", "--results", str(tmp_path)]) == 0
    assert "demo" in capsys.readouterr().out
    assert main(["run", "--name", "demo", "--results", str(tmp_path)]) == 2
    assert "belongs to another kind of run (ablation)" in capsys.readouterr().err
