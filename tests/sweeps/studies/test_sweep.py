"""Whole sweeps without Ray: the work of a sweep driven over fake results, and over a real trainer on tiny data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from benchmarks.simulator import KilledError, Rehearsal, Runner
from safe.config import load_config, validate
from safe.data.sources import ArrayImages, Dataset
from safe.errors import UserError
from safe.evaluation.logits import Prediction, score_grid
from safe.training.trainer import SafeTrainer
from sweeps.engine.job_queue import AllFailedError
from sweeps.ledger.jobs import Job, Kind
from sweeps.ledger.record import SessionRecord
from sweeps.results.summary import sweep_summary
from sweeps.spec.options import build_spec
from sweeps.spec.specs import SweepSpec
from sweeps.studies.plan import count
from sweeps.studies.sweep import check_early
from sweeps.worker.stage_store import DiskStages

MakeSpec = Callable[..., SweepSpec]
GRID = {"fast.cross_weight": {"grid": [0.0, 0.5, 1.0]}, "aggregation.temperature": {"grid": [0.1, 1.0]}}


def cross(config: Mapping[str, Any]) -> float:
    return 0.5 + config["fast.cross_weight"] / 4


def test_after_the_choice_come_final_runs_control_and_audit(make_spec: MakeSpec, fake: Any) -> None:
    spec = make_spec(search="grid", space=GRID, trials=3, seeds=2)
    rehearsal = Rehearsal(spec)
    log = rehearsal.run(fake(cross))
    assert log.selected == {
        "trial": "trial-02",
        "prediction": {"aggregation.kind": "entropy", "aggregation.temperature": 1.0, "head.logit_scale": "learned"},
        "score": 0.75,
    }
    assert [{job.kind for job in jobs} for jobs in rehearsal.rounds] == [
        {Kind.TRIAL},
        {Kind.FINAL, Kind.CONTROL, Kind.AUDIT},
    ]
    assert [job.kind for job in rehearsal.rounds[-1]][-3:] == [Kind.AUDIT] * 3, "what is short fills the gaps"
    position = next(i for i, record in enumerate(rehearsal.records) if '"selected"' in record)
    assert not any("test" in record for record in rehearsal.records[:position]), "nothing on test before the choice"
    final, control, audit = (log.of_kind(kind) for kind in (Kind.FINAL, Kind.CONTROL, Kind.AUDIT))
    assert [job.id for job in final] == ["final-02-0", "final-02-1"]
    assert [job.config["fast.cross_weight"] for job in final] == [1.0, 1.0]
    assert [job.config["fast.cross_weight"] for job in control] == [spec.base["fast.cross_weight"]] * 2
    for jobs in (final, control):
        assert [job.config["seed"] for job in jobs] == [0, 1]
        assert [job.config["class_order_seed"] for job in jobs] == [1993, 1994]
        assert {job.config["data.holdout_share"] for job in jobs} == {0.0}
        assert {job.config["data.evaluate_on"] for job in jobs} == {"test"}
    for job, trial in zip(audit, log.of_kind(Kind.TRIAL), strict=True):
        changed = {name: value for name, value in job.config.items() if value != trial.config[name]}
        assert changed == {"data.evaluate_on": "test"}
        assert job.predictions == trial.predictions
    titles = [log.jobs[id].title for id in ("trial-01", "final-02-1", "control-0", "audit-01")]
    assert titles == ["trial 01 · cross 0.5", "final 1", "control 0", "audit 01 · cross 0.5"]


def test_the_optimism_gap_is_the_best_on_test_minus_the_honest_choice(make_spec: MakeSpec, fake: Any) -> None:
    """On the holdout more cross weight is better, on the test images less is."""
    spec = make_spec(search="grid", space=GRID, trials=3, seeds=1)
    log = Rehearsal(spec).run(
        lambda job: fake(cross if job.config["data.evaluate_on"] == "holdout" else lambda c: 1 - cross(c))(job)
    )
    gap = sweep_summary(log)["optimism_gap"]
    assert (gap["metric"], gap["trials"]) == ("test/average_accuracy", 3)
    assert gap["claimed_by"]["trial"] == "trial-00"
    assert gap["claimed"] == pytest.approx(0.5)
    assert gap["honest"] == pytest.approx(0.25)
    assert gap["gap"] == pytest.approx(0.25)
    assert Rehearsal(spec.model_copy(update={"audit": False})).run(fake(cross)).of_kind(Kind.AUDIT) == []


def test_several_objectives_choose_the_best_of_the_front_by_the_first(make_spec: MakeSpec, fake: Any) -> None:
    spec = make_spec(search="grid", space=GRID, trials=3, seeds=1, objective="slow/accuracy:min,average_accuracy")
    log = Rehearsal(spec).run(fake(cross, slow=lambda config: min(cross(config), 0.6)))
    summary = sweep_summary(log)
    assert summary["objectives"] == [
        {"metric": "val/slow/accuracy", "direction": "min"},
        {"metric": "val/average_accuracy", "direction": "max"},
    ]
    # Slow accuracies 0.5, 0.6, 0.6; of the two equal ones only the better average stays.
    assert [point["trial"] for point in summary["pareto"]] == ["trial-00", "trial-02"]
    assert log.selected is not None
    assert (log.selected["trial"], log.selected["score"]) == ("trial-00", 0.5)


def test_selection_on_test_is_judged_there_and_has_no_audit(make_spec: MakeSpec, fake: Any) -> None:
    spec = make_spec(search="grid", space=GRID, trials=3, seeds=1, selection="test", audit=False)
    log = Rehearsal(spec).run(fake(cross))
    assert {job.config["data.evaluate_on"] for job in log.jobs.values()} == {"test"}
    summary = sweep_summary(log)
    assert (summary["honest"], summary["optimism_gap"], summary["selected"]["trial"]) == (False, None, "trial-02")


def test_transfer_takes_the_searched_settings_to_the_preset_of_the_other_data_set(fake: Any) -> None:
    spec = build_spec(
        name="a",
        dataset="digits",
        evaluate_on="glyphs",
        selection="transfer",
        search="random",
        trials=2,
        seeds=1,
        finalists=0,
        overrides=["runtime.device=cpu", "data.increment=5", "slow.momentum=0.5"],
    )
    glyphs = load_config("glyphs").flat()
    assert glyphs["data.increment"] != 5
    log = Rehearsal(spec).run(fake(lambda config: config["slow.diag_weight"] / 100))
    assert log.selected is not None
    chosen = log.jobs[log.selected["trial"]].config
    assert {job.config["dataset"] for job in log.of_kind(Kind.TRIAL)} == {"digits"}
    (final,), (control,) = log.of_kind(Kind.FINAL), log.of_kind(Kind.CONTROL)
    searched = {name for name in spec.space if name != "aggregation.temperature"}
    for job, own in ((final, chosen), (control, glyphs)):
        assert job.config["dataset"] == "glyphs"
        assert job.config["data.increment"] == glyphs["data.increment"]
        assert job.config["slow.momentum"] == 0.5, "typed for both"
        assert {name: job.config[name] for name in searched} == {name: own[name] for name in searched}
    assert {job.config["dataset"] for job in log.of_kind(Kind.AUDIT)} == {"digits"}


def test_the_search_ends_in_order_when_the_budget_is_spent(
    make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch, fake: Any
) -> None:
    spec = make_spec(search="tpe", space=GRID, trials=3, round_size=1, seeds=1)
    monkeypatch.setattr(Rehearsal, "budget_left", False)
    log = Rehearsal(spec).run(fake(cross))
    assert [job.id for job in log.of_kind(Kind.TRIAL)] == ["trial-00"]
    assert log.selected is not None
    assert len(log.of_kind(Kind.FINAL)) == 1


def test_without_a_finished_trial_nothing_is_chosen(make_spec: MakeSpec) -> None:
    with pytest.raises(AllFailedError, match=r"^no trial is finished, so there is nothing to choose from$"):
        Rehearsal(make_spec(search="grid", space=GRID, trials=3)).run(lambda job: [])


def test_where_the_budget_ended_the_search_before_a_trial_that_is_told(
    make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rehearsal, "budget_left", False)
    with pytest.raises(AllFailedError, match="nothing to choose from; the budget ended the search before"):
        Rehearsal(make_spec(search="grid", space=GRID, trials=3)).run(lambda job: [])


def test_what_would_come_out_late_is_refused_early() -> None:
    common: dict[str, Any] = {"name": "a", "dataset": "digits", "overrides": ["runtime.device=cpu"]}
    with pytest.raises(UserError, match="--first-k must be at most the 5 sessions of the stream, got 6"):
        check_early(build_spec(**common, selection="first-k", first_k=6))
    check_early(build_spec(**common, selection="first-k", first_k=5))
    beyond = build_spec(**common, stop="below:session=6,accuracy=0.4")
    with pytest.raises(UserError, match="end nothing, since trials run 5 sessions; give one from 1 to 5"):
        check_early(beyond)
    check_early(beyond, begun=True)
    check_early(build_spec(**common, stop="below:session=5,accuracy=0.4"))
    with pytest.raises(UserError, match="since trials run 2 sessions"):
        check_early(build_spec(**common, stop="below:session=3,accuracy=0.4", selection="first-k", first_k=2))
    with pytest.raises(UserError, match="not there"):
        check_early(build_spec(**common, selection="transfer", evaluate_on="cub200"))


# ---------------------------------------------------------------- a real trainer on tiny data

TINY = {
    "runtime.device": "cpu",
    "runtime.threads": 1,
    "slow.epochs": 1,
    "slow.batch_size": 20,
    "slow.lr": 0.05,
    "fast.epochs": 1,
    "fast.batch_size": 20,
    "fast.lr": 0.05,
    "pet.bottleneck": 4,
    "head.projection_dim": 16,
    "head.ridge_grid": "[1,10]",
    "data.init_classes": 2,
}


@pytest.fixture(scope="module")
def vit() -> VisionTransformer:
    """Give a ViT (B, 3, 16, 16) -> (B, 8) with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return VisionTransformer(img_size=16, patch_size=8, embed_dim=8, depth=1, num_heads=1, num_classes=0).eval()


def tiny_data(test_labels: str = "true") -> Dataset:
    """Six classes of noisy patterns; the labels of the test images as they are, permuted, or all of them shifted."""
    draw = torch.Generator().manual_seed(0)
    patterns = torch.rand(6, 3, 16, 16, generator=draw)

    def images(each: int) -> ArrayImages:
        labels = torch.arange(6).repeat_interleave(each)
        noise = 0.4 * torch.randn(len(labels), 3, 16, 16, generator=draw)
        return ArrayImages(((patterns[labels] + noise).clamp(0, 1) * 255).to(torch.uint8), labels)

    train, test = images(10), images(6)
    if test_labels == "permuted":
        test = ArrayImages(test.pixels, test.labels[torch.randperm(len(test), generator=draw)])
    elif test_labels == "deleted":  # the order of the images is all that is left, and that says nothing
        test = ArrayImages(test.pixels, torch.arange(len(test)) % 6)
    return Dataset("digits", tuple("abcdef"), train, test, digest=f"tiny {test_labels}")


def trained(dataset: Dataset, vit: VisionTransformer, store: Path | None = None) -> Runner:
    """Return a runner that trains a job as a sweep's worker does."""

    def run(job: Job) -> list[SessionRecord]:
        stages = DiskStages(str(store), 10**9) if store else None
        trainer = SafeTrainer(validate(job.config), dataset=dataset, backbone=vit, stages=stages)
        records = []
        while not trainer.done and trainer.session != job.until:
            result = trainer.run_session()
            logits = trainer.session_logits
            assert logits is not None
            grid = score_grid(logits, [Prediction(*(p[name] for name in sorted(p))) for p in job.predictions])
            provenance = trainer.provenance()
            scores = (grid.rows, grid.metrics, grid.within)
            records.append(SessionRecord.of(result, provenance, logits.counts, *scores, until=job.until))
        trainer.close()
        return records

    return run


@pytest.fixture
def tiny_spec(tmp_path: Path) -> Callable[..., SweepSpec]:
    """Give a function that asks for a sweep of tiny runs."""
    (tmp_path / "space.yaml").write_text(
        "slow.diag_weight: {zero_or_loguniform: [1e-3, 1e1]}\nfast.cross_weight: {loguniform: [1e-2, 1e1]}\n"
        "aggregation.temperature: {grid: [0.1, 1, 10]}\n"
    )

    def make(**changes: Any) -> SweepSpec:
        asked = {
            "name": "a",
            "dataset": "digits",
            "overrides": [f"{k}={v}" for k, v in TINY.items()],
            "space": tmp_path / "space.yaml",
        }
        return build_spec(**{**asked, "trials": 3, "seeds": 1, "concurrency": 1, **changes})

    return make


def test_permuted_or_deleted_test_labels_change_no_decision(
    vit: VisionTransformer, tiny_spec: Callable[..., SweepSpec], tmp_path: Path, decisions: Any
) -> None:
    """Trials proposed and chosen; an extension that goes on after the test images were looked at included."""
    decided, scores = [], []
    for labels in ("true", "permuted", "deleted"):
        runner = trained(tiny_data(labels), vit)
        rehearsal = Rehearsal(tiny_spec(trials=2))
        rehearsal.run(runner)
        longer = rehearsal.again(tiny_spec(trials=5))
        decided.append((decisions(rehearsal.log), decisions(longer.run(runner))))
        scores.append(sweep_summary(longer.log)["optimism_gap"]["honest"])
    assert decided[0] == decided[1] == decided[2]
    assert len(set(scores)) > 1, "the labels were really others"


def test_labels_of_sessions_after_the_first_k_cannot_steer(
    vit: VisionTransformer, tiny_spec: Callable[..., SweepSpec], decisions: Any
) -> None:
    spec = tiny_spec(selection="first-k", first_k=1, trials=3, audit=False, control=False, finalists=0)
    decided = []
    for scrambled in (False, True):
        dataset = tiny_data()
        first = SafeTrainer(validate(spec.base), dataset=dataset, backbone=vit).stream.order[:2]
        train = dataset.train
        later = ~torch.isin(train.labels, torch.tensor(first))
        labels = train.labels.clone()
        if scrambled:
            labels[later] = labels[later].flip(0)
        images = ArrayImages(train.pixels, labels)  # type: ignore[attr-defined]
        rehearsal = Rehearsal(spec)
        with pytest.raises(KilledError):
            rehearsal.run(
                trained(replace(dataset, train=images), vit),
                kill_after=spec.slow_count + spec.trials,
            )
        log = rehearsal.log
        assert {len(job.sessions) for job in log.of_kind(Kind.TRIAL)} == {1}
        assert {job.status for job in log.of_kind(Kind.TRIAL)} == {"FINISHED"}
        decided.append((decisions(log)["selected"], [job.config for job in log.of_kind(Kind.TRIAL)]))
    assert decided[0] == decided[1]
    assert decided[0][0] is not None


def test_the_account_counts_what_the_tree_spares(
    vit: VisionTransformer, tiny_spec: Callable[..., SweepSpec], tmp_path: Path
) -> None:
    """Two slow and two fast settings on three sessions, three temperatures."""
    (tmp_path / "grid.yaml").write_text(
        "slow.diag_weight: {grid: [0, 1]}\nfast.cross_weight: {grid: [0.1, 1]}\n"
        "aggregation.temperature: {grid: [0.1, 1, 10]}\n"
    )
    spec = tiny_spec(search="grid", trials=None, space=tmp_path / "grid.yaml", finalists=0)
    log = Rehearsal(spec).run(trained(tiny_data(), vit, tmp_path / "stages"))
    work = sweep_summary(log)["work"]
    assert (work["sessions_naive"], work["sessions_unshared_trials"]) == (4 * 3 * 3, 4 * 3)
    assert (work["sessions_trained"], work["sessions_reused"]) == (2 + 4 * 2, 2)
    assert work["final"]["sessions_trained"] == 6  # one final run and one control, of three sessions each
    assert (work["audit"]["sessions_trained"], work["audit"]["sessions_reused"]) == (0, 12)
    planned = count([(validate(job.config), range(1, 4)) for job in log.of_kind(Kind.TRIAL)], predictions=3)
    assert (planned.naive, planned.unshared, planned.trained) == (36, 12, 10)
    records = [record.work.stages for job in log.of_kind(Kind.TRIAL) for record in job.sessions]
    computed = {kind: sum(r[kind]["computed"] for r in records if kind in r) for kind in planned.stages}
    assert computed == planned.stages
    assert work["seconds_saved"] > 0
    assert work["total"]["cpu_hours"] == pytest.approx(work["total"]["seconds"] / 3600 * spec.threads, rel=0.2)
    assert work["total"]["gpu_hours"] == 0
    alone = Rehearsal(spec).run(trained(tiny_data(), vit))
    numbers = [sweep_summary(each)["trials"] for each in (log, alone)]
    for shared, unshared in zip(*numbers, strict=True):
        assert shared == unshared
    assert sweep_summary(alone)["work"]["sessions_trained"] == 12
