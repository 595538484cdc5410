"""The first part of the report: what was chosen, what it scores, against what, and whether the choice was honest."""

from __future__ import annotations

from safe.evaluation.metrics import METRICS
from safe.io.tables import Table
from safe.types import with_split
from sweeps.report.formatting import Measure, exact, plural
from sweeps.report.gather import Gathered, last_metric
from sweeps.report.learned import learned_lines
from sweeps.report.page import Block, Facts, Missing, Section, Text
from sweeps.report.words import race_lines
from sweeps.results.summary import difference
from sweeps.spec.space import PREDICTION_SETTINGS

ANSWERS = [name for name, known in METRICS.items() if known.shown != "asked"]


def answer(gathered: Gathered) -> Section | Missing:
    """Return the winner, its final numbers, the paired comparison with the control, and how it was chosen."""
    winner = gathered.winner
    if winner is None:
        return Missing("Answer", "nothing is chosen yet; continue the sweep with the same command.")
    blocks: list[Block] = [
        *(Text(f"{line}.") for line in race_lines(gathered.log)[:1]),
        *(Text(line, "lead") for line in learned_lines(gathered.log)),
        Facts(_facts(gathered)),
        honesty(gathered),
        *_final_table(gathered),
        _settings(gathered),
    ]
    return Section("answer", "Answer", blocks)


def headline(gathered: Gathered) -> tuple[str, str]:
    """Return the final accuracy as a text, and over what it is."""
    measure, stats = Measure("accuracy"), last_metric(gathered.finals, "accuracy")
    if stats is None:
        return "–", "no final run is finished"
    over = f"mean ± std over {plural(len(gathered.finals), 'seed')}" if stats["std"] is not None else "one seed"
    return f"{measure.spread(stats)} %", f"test images, {over}"


def _facts(gathered: Gathered) -> list[tuple[str, str, str]]:
    winner, measure = gathered.winner, Measure("accuracy")
    assert winner is not None
    number, over = headline(gathered)
    facts = [(number, "final accuracy", over)]
    pair = (difference(gathered.log) or {}).get(with_split("test", "accuracy"))
    if pair is not None:
        facts.append((measure.difference(pair), "points against the control", in_words(pair["verdict"])))
    objective = Measure(gathered.objectives[0].name)
    unit = " %" if objective.fraction else ""
    facts.append(
        (
            f"{objective.write(winner.score)}{unit}",
            f"{gathered.judged_on} {objective.title}",
            "what the search improved",
        )
    )
    facts.append((winner.id, "chosen trial", f"of {plural(len(gathered.finished), 'finished trial')}"))
    return facts


def honesty(gathered: Gathered) -> Text:
    """Return in one sentence what steered the search."""
    spec = gathered.spec
    share = f"held-out training images ({100 * spec.holdout_share:.0f} % of each class)"
    if gathered.on_test:
        return Text("Not honest: the test images chose the configuration, so its numbers are optimistic.", "warn")
    if spec.selection == "first-k":
        return Text(
            f"Honest: only {share} of the first {plural(spec.first_k or 1, 'session')} steered the search.", "good"
        )
    if spec.selection == "transfer":
        words = f"Honest: the settings were tuned on {spec.dataset} and run once on {spec.evaluate_on}."
        return Text(words, "good")
    return Text(f"Honest: only {share} steered the search; the test images came after the choice.", "good")


def _final_table(gathered: Gathered) -> list[Block]:
    measures = [Measure(name) for name in ANSWERS if last_metric(gathered.finals, name) is not None]
    if not measures:
        return [Text("The final runs on all training images are not finished yet.", "note")]
    differences = difference(gathered.log) or {}
    head = ["", *(label for label, _ in gathered.learners)]
    rows = [
        [m.axis, *(m.spread(last_metric(gathered.finals, f"{prefix}{m.name}")) for _, prefix in gathered.learners)]
        for m in measures
    ]
    if gathered.controls:
        own = len(gathered.controls)
        seeds = "" if own == len(gathered.finals) else f" ({plural(own, 'seed')})"
        head += [f"control{seeds}", f"{gathered.learners[0][0]} − control", "in words"]
        for measure, row in zip(measures, rows, strict=True):
            pair = differences.get(with_split("test", measure.name))
            row += [measure.spread(last_metric(gathered.controls, measure.name)), measure.difference(pair)]
            row.append(in_words(pair["verdict"]) if pair else "–")
    finals = len(gathered.finals)
    over = f"mean ± standard deviation over {plural(finals, 'seed')}" if finals > 1 else "one seed"
    caption = f"Test images after the last session, {over}"
    blocks: list[Block] = [Table(head, rows, caption)]
    if not gathered.controls:
        blocks.append(Text("No control was run, so it is open whether the preset does as well.", "note"))
    elif differences:
        words = "The control is the preset over the same seeds; differences are paired by seed, ± their 95 % interval."
        blocks.append(Text(words, "note"))
    else:
        words = "The control is the preset; no interval can be given, as fewer than two seeds are in common."
        blocks.append(Text(words, "note"))
    return blocks


def in_words(verdict: str) -> str:
    """Return a verdict so that it stands for itself."""
    return verdict if verdict == "within noise" else f"{verdict}, beyond noise"


def _settings(gathered: Gathered) -> Table:
    spec, chosen = gathered.spec, gathered.winner_config
    preset = {**spec.base, **(spec.target or {})}
    names = [name for name in spec.space if name in chosen]
    names += [name for name in PREDICTION_SETTINGS if name not in names]
    rows = [
        [name, exact(chosen[name]), exact(preset[name]), "" if chosen[name] == preset[name] else "changed"]
        for name in names
    ]
    return Table(["setting", "chosen", "preset", ""], rows, "The chosen configuration, where the search had a say")
