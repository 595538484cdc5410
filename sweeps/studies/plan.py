"""What a sweep comes to before anything runs: training sessions and stages, with and without sharing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from safe.config import Config, validate
from safe.config.described import acting
from safe.config.marks import Acts
from safe.config.reading import beside, shares_statistics
from safe.data.sessions import session_count
from safe.evaluation.metrics import LEARNERS
from safe.sharing.stages import frozen_key, sharing_key
from sweeps.ledger.jobs import Kind
from sweeps.ledger.ledger import SweepLog
from sweeps.search import layout, proposals
from sweeps.spec.combinations import heads
from sweeps.spec.configs import control_config, final_config, refit_config
from sweeps.spec.specs import SweepSpec

SETTLED = ("random", "grid")  # searches whose trials depend on no result


@dataclass
class Count:
    """Training sessions and stages of some runs.

    Attributes:
        naive: if every combination of trained and prediction-time settings were a run of its own.
        unshared: if only settings of prediction shared a run.
        trained: with shared work.
        stages: how many different ones there are of each kind.
    """

    naive: int = 0
    unshared: int = 0
    trained: int = 0
    stages: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What a sweep comes to; of a search that learns from results, at most.

    Attributes:
        sessions: of the stream, or those that trials run.
        slow: slow settings judged alone, as often as there are heads to judge them with.
        slow_trained: those of them that differ in what is trained.
        predictions: settings that each trained state is scored at.
        exact: whether the search's counts are known, not just bounded.
        final: final runs and control.
        configs: of the first round's jobs; where counts are known, of all trials.
        refits: of the final runs, the rival's and the control's, as far as they are known.
    """

    spec: SweepSpec
    sessions: int
    slow: int
    slow_trained: int
    predictions: int
    exact: bool
    search: Count
    final: Count
    configs: Sequence[Config]
    refits: Sequence[Config]


def plan_of(spec: SweepSpec) -> Plan:
    """Return the plan of a sweep; reads no image.

    Raises:
        UserError: the data set is not there, or a trial is not a valid configuration.
    """
    space = spec.parsed_space()
    sessions = _sessions(spec, validate(spec.base))
    first = [validate(proposal.config) for proposal in next(proposals(spec, SweepLog(spec)))]
    slow = sum(len(round.indices) for round in layout(spec) if round.kind == Kind.SLOW)
    slow_trained = slow // len(heads(space))
    exact = spec.search in SETTLED
    if exact:
        configs = [(config, range(1, _sessions(spec, config) + 1)) for config in first]
        search = count(configs, len(space.predictions))
    else:
        search = _bound(spec, sessions, slow, slow_trained, len(space.predictions))
    # Nothing is chosen yet; a slow setting that is judged alone has no fast epochs and stands for none.
    settings = validate(spec.base if slow else first[0].flat()).flat()
    chosen = [refit_config(spec, settings, {})] * (2 if spec.raced else 1)  # and the rival
    chosen += [control_config(spec)] if spec.control else []
    refits = [validate(final_config(config, repeat)) for config in chosen for repeat in range(spec.seeds)]
    # The chosen settings are not known yet, so nothing but the seed tells how the two kinds of runs share.
    refitted = sum(map(session_count, refits))
    final = Count(refitted, refitted, refitted)
    return Plan(spec, sessions, slow, slow_trained, len(space.predictions), exact, search, final, first, refits)


def count(runs: Iterable[tuple[Config, range]], predictions: int) -> Count:
    """Return what runs (configuration, sessions) come to when they share what they have in common."""
    unshared, trained, frozen = 0, set[str](), set[tuple[str, int]]()
    states: dict[str, set[tuple[str, int, str]]] = {"slow": set(), "fast": set()}
    for config, sessions in runs:
        flat = config.flat()
        settings = repr([flat[name] for name in acting(Acts.HEADS)])
        shared = shares_statistics(config)
        fronts = [beside(config, name) for name in LEARNERS]
        first = sharing_key(config, 1)
        for session in sessions:
            own = sharing_key(config, session)
            heads = settings + (own if shared else "")
            states["slow"].add((first, session, heads))
            frozen |= {(frozen_key(config), session)} if "ptm" in fronts else set()
            if (session > 1 and config.fast.epochs > 0) or fronts[0] != fronts[1]:
                states["fast"].add((own, session, heads))
            if (config.slow if session == 1 else config.fast).epochs > 0:
                unshared += 1
                trained.add(own)
    fast = {key for key, session, _ in states["fast"] if session > 1}
    slow = {(key, session) for key, session, _ in states["slow"]}
    read = sum(map(len, states.values()))
    # A frozen slow learner reads the training and the judging images of every session once, and so does the network
    # without PET where heads read it; the fast one, after each of its sessions, those of it and all that judge.
    features = 2 * (len(slow) + len(fast) + len(frozen))
    stages = {"slow": len(trained - fast), "fast": len(fast & trained), "features": features}
    return Count(unshared * predictions, unshared, len(trained), {**stages, "readout": read, "logits": read})


def _bound(spec: SweepSpec, sessions: int, slow: int, slow_trained: int, predictions: int) -> Count:
    """Return the most that a search comes to whose trials are not known yet."""
    trains_slow = "slow.epochs" in spec.space or spec.base["slow.epochs"] > 0
    trains_fast = "fast.epochs" in spec.space or spec.base["fast.epochs"] > 0
    first, later = int(trains_slow), (sessions - 1) * int(trains_fast)
    alone, trials = slow * first, spec.trials * (first + later)
    # Trials that carry a slow setting on find its session 1 trained.
    trained = slow_trained * first + spec.trials * later + (0 if slow else spec.trials * first)
    slow_states, fast_states = slow_trained or spec.trials, spec.trials * later
    read = (slow or spec.trials) * sessions + fast_states
    frozen = sessions if spec.base["head.features"] == "with_frozen" or "head.features" in spec.space else 0
    stages = {
        "slow": slow_states * first,
        "fast": fast_states,
        "features": 2 * (slow_states * sessions + fast_states + frozen),
        "readout": read,
        "logits": read,
    }
    return Count(alone + trials * predictions, alone + trials, trained, stages)


def race_budget(spec: SweepSpec, searched: int) -> int:
    """Return the training sessions after which a race begins no further seed: asked for, or half of the search's."""
    return spec.race_sessions or math.ceil(searched / 2)


def _sessions(spec: SweepSpec, config: Config) -> int:
    count = session_count(config)
    return min(count, spec.first_k or count)
