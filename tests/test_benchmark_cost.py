"""The tables of docs/cost.md and the pictures of a rehearsal: what they hold, and that they can be drawn again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.cost import NOWHERE, PAGE, Operations, reckoned, rehearsed
from benchmarks.made_pictures import HEIGHT, WIDTH, make
from benchmarks.page import replaced
from benchmarks.rehearsal import main
from safe.config import load_config
from safe.datasets.facts import dataset_info
from safe.training.cost import session_costs


def test_pictures_have_the_counts_and_size_of_the_data_set_and_are_the_same_again(tmp_path: Path) -> None:
    like = replace(dataset_info("omnibenchmark"), classes=3, train_images=140, test_images=12)
    assert make(tmp_path / "a", like, 0.1, seed=1, processes=1) == 14 + 12
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.jpg"))
    assert [
        sum(f"{split}/class_00{label}" in str(file) for file in files)
        for split in ("train", "test")
        for label in range(3)
    ] == [5, 5, 4, 4, 4, 4]
    with Image.open(tmp_path / "a" / files[0]) as picture:
        assert picture.size == (WIDTH, HEIGHT)
    make(tmp_path / "b", like, 0.1, seed=1, processes=1)
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)
    assert len({(tmp_path / "a" / file).read_bytes() for file in files}) == len(files)


def test_the_table_says_what_a_plan_says() -> None:
    config = load_config("vtab", overrides=[NOWHERE])
    costs = session_costs(config)
    row = next(line for line in reckoned(["vtab"]).splitlines() if line.startswith("| vtab"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:4] == ["5", f"{sum(c.steps for c in costs):,}", f"{sum(c.trained for c in costs):,}"]
    assert float(cells[5]) == pytest.approx(sum(cost.flops for cost in costs) / 1e15, rel=1e-3)
    seconds = Operations().session_seconds(config)
    assert sum(map(sum, seconds)) == pytest.approx(sum(cost.flops for cost in costs))


def test_a_rehearsal_becomes_a_table_and_the_page_takes_it() -> None:
    phase = {"name": "first", "first_step_seconds": 12.5, "seconds": 100.0, "driver_mb": 700.0, "workers_mb": 2000.0}
    report = {
        "like": "omnibenchmark", "pictures": 95_682, "backbone": "safe_small_vit", "settings": ["seed=1"], "cores": 2,
        "phases": [{**phase, "disk_mb": {"stages": 9.0}}],
    }  # fmt: skip
    told = rehearsed(report)
    assert "95,682 pictures; 2 cores, backbone safe_small_vit seed=1" in told
    assert "| first | 12.5 | 100 | 700 | 2000 | 9 |" in told
    assert told in replaced(PAGE.read_text("utf-8"), {"rehearsal": told})


@pytest.mark.parametrize(("words", "told"), [(["--like", "digits"], "not published"), (["--share", "0"], "above 0")])
def test_a_rehearsal_of_nothing_is_refused(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert told in capsys.readouterr().err
