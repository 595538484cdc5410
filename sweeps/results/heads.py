"""What a staged search says of heads: every slow setting was judged with each of them, on the same features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from sweeps.ledger.job_log import JobLog
from sweeps.ledger.jobs import Kind
from sweeps.ledger.ledger import SweepLog
from sweeps.results.selection import measured, slow_objective
from sweeps.spec.combinations import key, of_heads
from sweeps.spec.conditions import used
from sweeps.spec.titles import short_value
from tracking.recorder import Status


@dataclass(frozen=True)
class HeadScore:
    """One head of several.

    Attributes:
        head: what it sets of the space, in words: `anacp`, `ridge fourier own`.
        score: the slow learner's objective, its mean over the slow settings that all heads have judged.
        slow: how many those are.
    """

    head: str
    score: float
    slow: int


def head_words(config: Mapping[str, Any], names: Sequence[str]) -> str:
    """Return what a configuration says of these settings of heads, as far as they have an effect in it."""
    return " ".join(short_value(config[name]) for name in names if used(name, config))


def head_scores(log: SweepLog) -> tuple[str, list[HeadScore]]:
    """Return by which metric, and the heads, best first; no heads where fewer than two have judged the same."""
    spec, names = log.sweep_spec, of_heads(log.sweep_spec.parsed_space())
    jobs = [job for job in log.of_kind(Kind.SLOW) if job.status == Status.FINISHED]
    wish = slow_objective(jobs, spec.objective, spec.split)
    by_head: dict[str, dict[str, float]] = {}
    for job in jobs:
        if (value := measured(job, wish.name, spec.split)) is not None:
            by_head.setdefault(head_words(job.config, names), {})[_slow_setting(log, job, names)] = value
    common = set[str].intersection(*map(set, by_head.values())) if len(by_head) > 1 else set()
    scores = [HeadScore(head, fmean(of[one] for one in common), len(common)) for head, of in by_head.items() if common]
    return wish.name, sorted(scores, key=lambda one: wish.goodness(one.score), reverse=True)


def _slow_setting(log: SweepLog, job: JobLog, heads: Sequence[str]) -> str:
    """Return a slow setting by its key, whatever its head."""
    return key({name: job.config[name] for name in log.sweep_spec.space if name not in heads})
