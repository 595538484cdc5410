"""Variants as configurations, and the tables against numbers a person can check."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from safe.errors import UserError
from safe.evaluation.metrics import MAIN
from sweeps.cli import main
from sweeps.engine.parent_run import start_parent
from sweeps.ledger.jobs import Job, Kind, job_id
from sweeps.ledger.ledger import Ledger, SweepLog, read_ledger
from sweeps.ledger.record import SessionRecord
from sweeps.results.components import component_words, components
from sweeps.spec.continuing import continued
from sweeps.spec.specs import SPLITS, read_spec
from sweeps.studies.ablation import (
    CATALOGUES,
    ablation_summary,
    build_ablation,
    csv_text,
    headline,
    leaders_first,
    markdown,
    show_ablation,
    table,
    variant_config,
)
from sweeps.studies.catalogues import ABLATION, VARIANTS
from sweeps.studies.orders import build_orders
from tracking import MemoryRecorder

KNOWN = ABLATION.variants
UNTRAINED = {"pet.kind": "none", "slow.epochs": 0, "fast.epochs": 0}
CE_ONLY = {"slow.diag_weight": 0.0, "slow.offdiag_weight": 0.0}
PLAIN = {"head.projection_dim": 0, "head.ridge_grid": [10.0**k for k in range(-2, 9)]}
RANPAC = CE_ONLY | {"fast.epochs": 0}
JOINT = RANPAC | {"data.init_classes": 10, "data.scenario": "class", "slow.epochs": 20}
TRAINED_HEAD = {"head.kind": "cosine"}
SLDA = {"head.kind": "gaussian", "head.projection_dim": 0}
FOURIER = {"head.kind": "gaussian", "head.activation": "fourier"}
FLY = {
    "head.activation": "topk",
    "head.projection_density": 0.4,
    "head.ridge_choice": "gcv",
    "head.ridge_grid": [10.0 ** (half / 2) for half in range(6, 19)],
}
ANACP = {"head.kind": "anacp", "head.activation": "gelu", "head.ridge_grid": [100.0]}
DIFFERING = {
    "class-means": UNTRAINED | {"head.kind": "class_means"},
    "frozen-plain": UNTRAINED | PLAIN,
    "frozen": UNTRAINED,
    "frozen-slda": UNTRAINED | SLDA,
    "frozen-fourier": UNTRAINED | FOURIER,
    "frozen-fecam": UNTRAINED | SLDA | {"head.covariance": "per_class"},
    "frozen-fly": UNTRAINED | FLY,
    "ranpac-plain": RANPAC | PLAIN,
    "ranpac": RANPAC,
    "aper": RANPAC | {"head.kind": "class_means", "head.features": "with_frozen"},
    "anacp": RANPAC | ANACP,
    "safe": {},
    "mean": {"aggregation.kind": "mean"},
    "max": {"aggregation.kind": "max"},
    "safe-shared": {"head.statistics": "shared"},
    "safe-slda": SLDA,
    "safe-fourier": FOURIER,
    "safe-fly": FLY,
    "safe-anacp": ANACP,
    "safe-frozen": {"head.features": "with_frozen"},
    "safe-both": {"head.features": "with_slow", "aggregation.kind": "fast"},
    "no-diag": {"slow.diag_weight": 0.0},
    "no-offdiag": {"slow.offdiag_weight": 0.0},
    "no-feature": {"fast.feature_weight": 0.0},
    "no-cross": {"fast.cross_weight": 0.0},
    "finetune": CE_ONLY
    | TRAINED_HEAD
    | {"fast.feature_weight": 0.0, "fast.cross_weight": 0.0, "fast.new_rows": "uniform", "aggregation.kind": "fast"},
    "joint-probe": JOINT | TRAINED_HEAD | {"pet.kind": "none", "slow.lr": 0.1},
    "joint": JOINT,
    "joint-trained": JOINT | TRAINED_HEAD,
    "joint-full": JOINT | TRAINED_HEAD | {"pet.kind": "full"},
}


def spec(**changes: Any) -> Any:
    return build_ablation(**{"dataset": "digits", "seeds": 2, "concurrency": 1, **changes})


def differing(config: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if value != base[name]}


def test_variants_differ_from_the_preset_in_what_they_leave_out() -> None:
    assert set(DIFFERING) == set(KNOWN)
    base = variant_config(spec(), "safe", 0)
    assert (base["data.evaluate_on"], base["data.holdout_share"]) == ("test", 0.0)
    for variant, expected in DIFFERING.items():
        assert differing(variant_config(spec(), variant, 0), base) == expected, variant


def test_variants_differ_in_one_choice_and_are_judged_on_the_holdout() -> None:
    chosen = spec(catalogue="variants", overrides=["slow.diag_weight=0.5", "slow.offdiag_weight=3"])
    assert chosen.name == "digits-variants"
    base = variant_config(chosen, "default", 0)
    assert (base["data.evaluate_on"], base["data.holdout_share"]) == ("holdout", 0.2)
    expected: dict[str, dict[str, Any]] = {
        "default": {},
        "batch": {"slow.correlation": "batch", "slow.diag_weight": 10.0, "slow.offdiag_weight": 24.0},
        "batch-strong": {"slow.correlation": "batch", "slow.diag_weight": 100.0, "slow.offdiag_weight": 240.0},
        "new-uniform": {"fast.new_rows": "uniform"},
        "new-zeros": {"fast.new_rows": "zeros"},
        "slow-zeros": {"fast.slow_rows": "zeros"},
        "shared": {"head.statistics": "shared"},
        "scale1-tau0.001": {"head.logit_scale": 1.0, "aggregation.temperature": 0.001},
        "scale1-tau0.01": {"head.logit_scale": 1.0, "aggregation.temperature": 0.01},
        "scale1-tau0.1": {"head.logit_scale": 1.0, "aggregation.temperature": 0.1},
        "scale1-tau1": {"head.logit_scale": 1.0},
    }
    assert {variant: differing(variant_config(chosen, variant, 0), base) for variant in VARIANTS.variants} == expected
    seeds = [variant_config(chosen, "default", repeat) for repeat in (0, 1)]
    assert differing(seeds[1], seeds[0]) == {"seed": 1, "class_order_seed": 1994}
    assert {config["data.holdout_seed"] for config in seeds} == {0}


def test_repeats_shift_seed_and_class_order_for_every_variant_alike() -> None:
    for variant in KNOWN:
        first, second = (variant_config(spec(), variant, repeat) for repeat in (0, 1))
        changed = {name: (first[name], second[name]) for name in first if first[name] != second[name]}
        assert changed == {"seed": (0, 1), "class_order_seed": (1993, 1994)}


def test_overrides_reach_every_variant_that_does_not_set_them() -> None:
    changed = spec(overrides=["slow.lr=0.5", "slow.epochs=3"])
    own = {"joint-probe": 0.1, "joint-full": 0.01}
    assert {variant: variant_config(changed, variant, 0)["slow.lr"] for variant in KNOWN} == {
        variant: own.get(variant, 0.5) for variant in KNOWN
    }
    assert variant_config(changed, "ranpac", 0)["slow.epochs"] == 3
    assert variant_config(changed, "frozen", 0)["slow.epochs"] == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variants": ["ranpack"]}, r"unknown variant 'ranpack'.*Did you mean 'ranpac'"),
        ({"catalogue": "variants", "variants": ["ranpac"]}, r"unknown variant 'ranpac'; choose one of: default, batch"),
        ({"seeds": 0}, "--seeds must be at least 1, got 0"),
        ({"overrides": ["data.evaluate_on=holdout"]}, r"what judges it \(the test images\)"),
        ({"catalogue": "variants", "overrides": ["data.evaluate_on=test"]}, r"what judges it \(the holdout\)"),
    ],
)
def test_bad_input_is_one_message(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        spec(**changes)


def test_variants_are_added_to_those_under_a_name() -> None:
    old, more = spec(variants=["safe", "ranpac"]), spec(variants=["finetune", "safe"], seeds=3)
    merged = continued(old, more)
    assert merged.variants == ["ranpac", "safe", "finetune"]
    assert (merged.seeds, merged.digest()) == (3, old.digest())
    assert continued(merged, spec(seeds=3, variants=["safe"])).variants == merged.variants
    with pytest.raises(UserError, match="catalogue: ablation -> variants"):
        continued(old, spec(catalogue="variants", name="digits-ablation"))


def test_variants_under_their_old_key_are_read() -> None:
    written = spec(variants=["safe", "ranpac"]).model_dump(mode="json")
    old = {("arms" if name == "variants" else name): value for name, value in written.items()}
    assert read_spec(old) == read_spec(written) == spec(variants=["safe", "ranpac"])


def test_jobs_that_train_a_slow_learner_first_stand_in_front() -> None:
    chosen = spec()
    variants = ("ranpac-plain", "safe", "mean", "ranpac", "no-diag")
    jobs = [
        Job(f"{variant}-{repeat}", Kind.VARIANT, "", variant_config(chosen, variant, repeat), [], "")
        for variant in variants
        for repeat in (0, 1)
    ]
    leaders = ["ranpac-plain-0", "ranpac-plain-1", "safe-0", "safe-1", "no-diag-0", "no-diag-1"]
    followers = ["mean-0", "mean-1", "ranpac-0", "ranpac-1"]
    assert [job.id for job in leaders_first(jobs)] == leaders + followers


# ---------------------------------------------------------------- tables


def write_variant(ledger: Ledger, variant: str, last: Mapping[str, float], repeats: range, split: str = "test") -> None:
    """One session; the numbers of repeat r are those of repeat 0 plus r / 10."""
    for repeat in repeats:
        job = job_id(Kind.VARIANT, repeat=repeat, variant=variant)
        ledger.append("job", **Job(job, Kind.VARIANT, job, {}, [], "", repeat=repeat, variant=variant).record())
        shifted = {f"{split}/{name}": value + repeat / 10 for name, value in last.items()}
        ledger.append("session", job=job, **SessionRecord(1, 1, split, shifted).to_json())
        ledger.append("status", job=job, status="FINISHED", reason=None)


def write_ablation(folder: Path) -> None:
    ledger = Ledger.create(folder, spec(name="demo", variants=["class-means", "safe", "joint"]))
    safe = {"accuracy": 0.6, "average_accuracy": 0.7, "forgetting": 0.1, "slow/accuracy": 0.5, "fast/accuracy": 0.4}
    write_variant(ledger, "safe", safe, range(2))
    write_variant(ledger, "joint", {"accuracy": 0.8, "average_accuracy": 0.8}, range(2))
    write_variant(ledger, "class-means", {"accuracy": 0.2, "average_accuracy": 0.3, "forgetting": 0.4}, range(2))
    ledger.append("finished")
    ledger.close()


def test_the_table_has_mean_and_spread_of_every_row(tmp_path: Path) -> None:
    write_ablation(tmp_path)
    rows = {row["row"]: row for row in table(read_ledger(tmp_path))}
    titles = ["slow learner", "fast learner", "better learner (oracle)", "SAFE (entropy)"]
    assert list(rows) == ["class means", *titles, "joint PET"]
    assert rows["class means"]["forgetting"]["values"] == pytest.approx([0.4, 0.5])
    assert rows["SAFE (entropy)"]["accuracy"]["mean"] == pytest.approx(0.65)
    assert rows["SAFE (entropy)"]["accuracy"]["std"] == pytest.approx(0.1 / 2**0.5)
    assert headline(read_ledger(tmp_path)) == {
        f"test/{name}": rows["SAFE (entropy)"][name]["mean"] for name in ("accuracy", "average_accuracy", "forgetting")
    }
    assert rows["SAFE (entropy)"]["forgetting"]["values"] == pytest.approx([0.1, 0.2])
    assert rows["slow learner"]["accuracy"]["values"] == pytest.approx([0.5, 0.6])
    assert rows["slow learner"]["safe_minus_this"]["mean"] == pytest.approx(0.1)
    assert "safe_minus_this" not in rows["SAFE (entropy)"]
    assert rows["better learner (oracle)"]["accuracy"]["values"] == rows["slow learner"]["accuracy"]["values"]
    assert set(rows["joint PET"]) == {"variant", "group", "row", "seeds", "repeats", "accuracy", "safe_minus_this"}


def test_differences_pair_the_seeds_that_both_rows_have(tmp_path: Path) -> None:
    """SAFE lacks seed 0, the frozen variant lacks seed 2: seeds 1 and 3 remain."""
    ledger = Ledger.create(tmp_path, spec(name="demo", variants=["frozen", "safe"], seeds=4))
    write_variant(ledger, "safe", {"accuracy": 0.5, "slow/accuracy": 0.5, "fast/accuracy": 0.5}, range(1, 4))
    write_variant(ledger, "frozen", {"accuracy": 0.1}, range(2))
    write_variant(ledger, "frozen", {"accuracy": 0.3}, range(3, 4))
    ledger.close()
    rows = {row["row"]: row for row in table(read_ledger(tmp_path))}
    assert rows["projection + ridge"]["repeats"] == [0, 1, 3]
    gap = rows["projection + ridge"]["safe_minus_this"]
    assert gap["mean"] == pytest.approx((0.4 + 0.2) / 2)
    assert gap["half_width"] == pytest.approx(12.7062 * 0.1, rel=1e-4)  # t(1) at 97.5 % times 0.1414 / sqrt(2)
    repeats = [line["repeat"] for line in csv.DictReader(io.StringIO(csv_text(read_ledger(tmp_path))))]
    assert repeats[:3] == ["0", "1", "3"]


def test_a_table_says_over_how_many_seeds_it_is(tmp_path: Path) -> None:
    ledger = Ledger.create(tmp_path, spec(name="demo", variants=["frozen", "safe"], seeds=3))
    last = {"accuracy": 0.5, "slow/accuracy": 0.5, "fast/accuracy": 0.5}

    def shown() -> str:
        console = Console(record=True, width=120)
        show_ablation(read_ledger(tmp_path), tmp_path, console)
        return console.export_text()

    assert "mean ± std over 0 of 3 seeds;" in shown()
    write_variant(ledger, "safe", last, range(2))
    write_variant(ledger, "frozen", {"accuracy": 0.1}, range(1))
    assert "mean ± std over at most 2 of 3 seeds;" in shown()
    fewer = "seeds of the variants that have fewer so far: frozen 1\n"
    assert fewer in shown()
    assert f"{markdown(read_ledger(tmp_path))}\n".endswith(f"|\n\n{fewer}")
    write_variant(ledger, "frozen", {"accuracy": 0.1}, range(1, 2))
    assert "mean ± std over 2 of 3 seeds;" in shown()
    for variant in ("safe", "frozen"):
        write_variant(ledger, variant, last, range(2, 3))
    assert "mean ± std over 3 seeds;" in shown()
    assert "fewer" not in shown() + markdown(read_ledger(tmp_path))
    ledger.close()


def test_the_better_learner_is_chosen_run_by_run(tmp_path: Path) -> None:
    ledger = Ledger.create(tmp_path, spec(name="demo", variants=["safe"]))
    write_variant(ledger, "safe", {"slow/accuracy": 0.5, "fast/accuracy": 0.4, "slow/forgetting": 0.3}, range(1))
    write_variant(ledger, "safe", {"slow/accuracy": 0.5, "fast/accuracy": 0.7, "fast/forgetting": 0.2}, range(1, 2))
    ledger.close()
    best = next(row for row in table(read_ledger(tmp_path)) if row["row"].startswith("better learner"))
    assert best["accuracy"]["values"] == pytest.approx([0.5, 0.8])
    assert best["forgetting"]["values"] == pytest.approx([0.3, 0.3])


def test_variants_are_compared_with_the_default_in_both_metrics(tmp_path: Path) -> None:
    ledger = Ledger.create(tmp_path, spec(name="demo", catalogue="variants", variants=["default", "new-zeros"]))
    write_variant(ledger, "default", {"accuracy": 0.5, "average_accuracy": 0.6}, range(2), split="val")
    write_variant(ledger, "new-zeros", {"accuracy": 0.3, "average_accuracy": 0.5}, range(2), split="val")
    ledger.close()
    log = read_ledger(tmp_path)
    rows = {row["row"]: row for row in table(log)}
    assert rows["new_rows zeros"]["final_minus_default"]["mean"] == pytest.approx(-0.2)
    assert rows["new_rows zeros"]["average_minus_default"]["mean"] == pytest.approx(-0.1)
    assert "| new_rows zeros | 55.0 ± 7.1 | -10.0 ± 0.0 | 35.0 ± 7.1 | -20.0 ± 0.0 |" in markdown(log)


def test_markdown_csv_terminal_and_json_say_the_same(tmp_path: Path) -> None:
    write_ablation(tmp_path)
    log = read_ledger(tmp_path)
    assert "| SAFE (entropy) | 65.0 ± 7.1 | 75.0 ± 7.1 | 15.0 ± 7.1 | - |" in markdown(log)
    assert "| joint PET | 85.0 ± 7.1 | - | - | -20.0 ± 0.0 |" in markdown(log)
    assert "| **bounds** | | | | |" in markdown(log)
    lines = list(csv.DictReader(io.StringIO(csv_text(log))))
    safe = [float(line["accuracy"]) for line in lines if line["row"] == "SAFE (entropy)"]
    assert safe == pytest.approx([0.6, 0.7])
    assert len(lines) == 2 * 6
    console = Console(record=True, width=80)
    show_ablation(log, tmp_path, console)
    assert "65.0 ± 7.1" in console.export_text()
    assert ablation_summary(log)["rows"] == table(log)


@pytest.mark.parametrize(("catalogue", "split"), [("ablation", "test"), ("variants", "val")])
def test_the_run_of_an_ablation_has_its_settings_and_a_table_by_what_judges(catalogue: Any, split: str) -> None:
    asked, recorder = spec(name="demo", catalogue=catalogue), MemoryRecorder()
    assert headline(SweepLog(asked)) == {}
    start_parent(recorder, SweepLog(asked), {"version.python": "3"})
    run = recorder.runs["demo"]
    assert {name: run.params[name] for name in asked.base} == {name: str(value) for name, value in asked.base.items()}
    assert run.tags["mlflow.source.name"] == f"python -m sweeps {catalogue}"
    assert run.view["orderByKey"] == f"metrics.`{split}/average_accuracy`"
    assert run.view["searchFilter"].startswith("tags.sweep = 'demo' AND tags.kind != 'ablation'")  # type: ignore


@pytest.mark.parametrize("catalogue", ["ablation", "variants"])
def test_the_widest_table_fits_80_columns(tmp_path: Path, catalogue: str) -> None:
    variants = CATALOGUES[catalogue].variants
    ledger = Ledger.create(tmp_path, spec(name="demo", catalogue=catalogue, seeds=3))
    names = [
        f"{learner}{m}" for learner in ("", "slow/", "fast/") for m in ("accuracy", "average_accuracy", "forgetting")
    ]
    for number, variant in enumerate(variants):
        for repeat in range(2):  # differences of two digits with intervals of two digits
            last = dict.fromkeys(names, 0.5 + 0.02 * number - 0.1 * repeat + 0.012 * number * repeat)
            write_variant(ledger, variant, last, range(repeat, repeat + 1), split=SPLITS[catalogue])
    ledger.close()
    console = Console(record=True, width=80)
    show_ablation(read_ledger(tmp_path), Path("x"), console)
    shown = console.export_text()
    assert all(len(line) <= 80 for line in shown.splitlines())
    words = {word for variant in variants.values() for row in variant.rows for word in row.title.split()}
    assert words - set(shown.split()) == set(), "long titles go on in the next line, but no word is cut"
    assert "…" not in shown
    assert "± 15.2" in shown


def test_show_and_list_know_ablations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "sweeps" / "demo"
    folder.mkdir(parents=True)
    write_ablation(folder)
    assert main(["show", "demo", "--results", str(tmp_path)]) == 0
    assert "joint PET" in capsys.readouterr().out
    assert main(["list", "--results", str(tmp_path)]) == 0
    assert "demo" in capsys.readouterr().out
    assert main(["run", "--name", "demo", "--results", str(tmp_path)]) == 2
    assert "belongs to another kind of run (ablation)" in capsys.readouterr().err


def test_orders_change_one_seed_at_a_time_and_say_how_much_is_the_order(finished_sweep: Callable[[], Ledger]) -> None:
    of = finished_sweep().log
    config = of.final_jobs()[0].config
    spec = build_orders(of, config, 3)
    assert (spec.name, spec.seeds, spec.variants) == ("demo-orders", 3, ["orders", "seeds"])
    runs = {name: [variant_config(spec, name, repeat) for repeat in range(3)] for name in spec.variants}
    assert [run["class_order_seed"] - config["class_order_seed"] for run in runs["orders"]] == [0, 1, 2]
    assert {run["seed"] for run in runs["orders"]} == {config["seed"]}
    assert [run["seed"] - config["seed"] for run in runs["seeds"]] == [0, 1, 2]
    assert {run["class_order_seed"] for run in runs["seeds"]} == {config["class_order_seed"]}
    assert {run["data.evaluate_on"] for group in runs.values() for run in group} == {"test"}
    with pytest.raises(UserError, match=r"demo says by data.class_order how its classes arrive"):
        build_orders(of, {**config, "data.class_order": "natural"}, 3)
    sides = [[{"accuracy": v} for v in values] for values in ((0.5, 0.6, 0.7), (0.59, 0.6, 0.61), (0.6, 0.6, 0.6))]
    shares = components(*sides[:2], MAIN)
    assert list(shares) == ["accuracy"]
    # Variances of 0.01 and 0.0001; the quantile of F(2, 2) at 97.5 % is 39.
    assert component_words(shares)[0].startswith("accuracy: 99 % (72 to 100) of the variance is the class order")
    assert components(sides[0], sides[2], MAIN) == {}
