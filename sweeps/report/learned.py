"""What a sweep taught, in three sentences: what matters, what was chosen, what it is worth. Chance is called chance."""

from __future__ import annotations

from safe.types import with_split
from sweeps.ledger.jobs import Kind
from sweeps.ledger.ledger import SweepLog
from sweeps.report.formatting import Measure, plural
from sweeps.report.words import measure, percent
from sweeps.results.finalists import preset_stays, race_summary, tie_words
from sweeps.results.importance import edge_words, importance, range_edges
from sweeps.results.lesson import Group, equals_of_the_chosen, lesson
from sweeps.results.summary import difference
from sweeps.spec.objective import objectives
from tracking.recorder import Status


def learned_lines(log: SweepLog) -> list[str]:
    """Return the sentences, and below them which ranges should be wider; nothing before the choice."""
    if log.selected is None:
        return []
    return [
        _what_matters(log),
        _what_was_chosen(log),
        *_what_it_is_worth(log),
        *(f"{edge_words(edge)}." for edge in range_edges(log)),
    ]


def _what_matters(log: SweepLog) -> str:
    told = lesson(log)
    if told is None:
        return f"No setting's effect is told from chance by {plural(_finished(log), 'trial')}."
    setting, shares, name = told.effect.setting, importance(log), objectives(log.sweep_spec.objective)[0].name
    most = " most" if shares and shares[0].setting == setting else ""
    way = "more" if told.effect.correlation > 0 else "less"

    def scores(group: Group) -> str:
        lost = None if name == "forgetting" else group.forgetting
        also = "" if lost is None else f" and forgetting {percent(lost)} %"
        return f"{_plain(name)} is {measure(name, group.score)}{also} (mean of {plural(group.trials, 'trial')})"

    first, second = map(scores, told.groups)
    if told.switch:
        return f"{setting} matters{most}: without it {first}, with it {second}."
    told_by = f"the larger, the {way} {_plain(told.effect.measure)}"
    return f"{setting} matters{most}, {told_by}: below its median {first}, above {second}."


def _what_was_chosen(log: SweepLog) -> str:
    assert log.selected is not None
    if (raced := race_summary(log)) is not None:
        return f"{len(raced['finalists'])} finalists were raced over further seeds: {tie_words(raced)}."
    spec, chosen, finished, equals = log.sweep_spec, log.selected, _finished(log), equals_of_the_chosen(log)
    name, images = objectives(spec.objective)[0].name, "test" if spec.split == "test" else "held-out"
    told = f"{chosen['trial']} is chosen: {_plain(name)} {measure(name, chosen['score'])} on the {images} images"
    if equals == finished > 1:
        return f"{told}, as all {plural(finished, 'trial')} have it; they tell nothing apart, and the first is taken."
    ties = f", which it shares with {plural(equals - 1, 'trial')} more; the first is taken" if equals > 1 else ""
    return f"{told}{ties}."


def _what_it_is_worth(log: SweepLog) -> list[str]:
    """Return the difference to the preset on the test images, by what the search improved; none where that stays."""
    name = objectives(log.sweep_spec.objective)[0].name
    pair = (difference(log) or {}).get(with_split("test", name))
    if pair is None or preset_stays(log):
        return []
    known = Measure(name)
    gap = known.difference(pair) + (" points" if known.fraction else "")
    if pair["verdict"] == "within noise":
        told = f"On the test images {pair['seeds']} seeds do not tell its {_plain(name)} from the preset's ({gap})."
    else:
        far = gap.lstrip("+-")
        told = f"On the test images its {_plain(name)} is {pair['verdict']} than the preset's by {far}"
        told = f"{told} ({pair['seeds']} seeds)."
    return [told]


def _finished(log: SweepLog) -> int:
    return sum(job.status == Status.FINISHED for job in log.of_kind(Kind.TRIAL))


def _plain(name: str) -> str:
    return name.replace("_", " ").replace("/", " ")
