"""The settings of prediction, which every trained state is scored at without training."""

from __future__ import annotations

from typing import Any

from safe.io.tables import Table
from sweeps.report import run_plots
from sweeps.report.formatting import MOST_ROWS, Measure, settings_line
from sweeps.report.gather import Gathered, Trial, prediction_scores
from sweeps.report.page import Figure, Missing, Section
from sweeps.results.selection import varied
from sweeps.spec.titles import short_name, short_value

MOST_OTHER_LINES = 20
MOST_LINES = 8


def at_prediction(gathered: Gathered) -> Section | Missing:
    """The objective over the settings of prediction, which cost no training."""
    title, winner = "Temperature and other settings of prediction", gathered.winner
    scores = prediction_scores(gathered, winner.id) if winner is not None else []
    if winner is None or len(scores) < 2:
        return Missing(title, "every trial was scored at one setting of prediction only.")
    measure = Measure(gathered.objectives[0].name)
    names = varied(scores[0][0], [settings for settings, _ in scores])
    y = f"{gathered.judged_on} {measure.axis}"
    best_first = sorted(scores, key=lambda entry: entry[1] * (-1 if gathered.objectives[0].maximise else 1))
    chosen = next(index for index, (settings, _) in enumerate(best_first) if settings == winner.prediction)
    table = Table(
        [*map(short_name, names), measure.axis],
        [[*(short_value(s[name]) for name in names), measure.write(v)] for s, v in best_first[:MOST_ROWS]],
        f"Settings of prediction of {winner.id}, best first",
        marked=chosen if chosen < MOST_ROWS else None,
        folded=True,
    )
    if "aggregation.temperature" in names:
        figure = _temperature_figure(gathered, winner, measure, y)
        caption = f"{winner.id}, scored after its last session at every setting; star: chosen."
    else:
        labelled = {
            settings_line({name: s[name] for name in names}): measure.scale * v for s, v in best_first[:MOST_ROWS]
        }
        figure = run_plots.choices_at_prediction(labelled, next(iter(labelled)) if chosen == 0 else "", y)
        caption = f"{winner.id} at every setting; star: chosen."
    return Section("prediction", title, [Figure("prediction-grid", figure, caption), table])


def _temperature_figure(gathered: Gathered, winner: Trial, measure: Measure, y: str) -> Any:
    name = "aggregation.temperature"

    def lines(trial: str) -> dict[str, list[tuple[float, float]]]:
        points_by_label: dict[str, list[tuple[float, float]]] = {}
        for settings, value in prediction_scores(gathered, trial):
            rest = {k: v for k, v in settings.items() if k != name}
            points_by_label.setdefault(settings_line(rest), []).append((settings[name], measure.scale * value))
        return {label: sorted(points) for label, points in points_by_label.items()}

    own = lines(winner.id)
    at_choice = settings_line({k: v for k, v in winner.prediction.items() if k != name})
    ranked = sorted(own, key=lambda label: (label != at_choice, -max(v for _, v in own[label])))[:MOST_LINES]
    shown = {f"{winner.id}, {label}" if len(own) > 1 else winner.id: own[label] for label in ranked}
    others = {t.id: lines(t.id).get(at_choice, []) for t in gathered.finished[: MOST_OTHER_LINES + 1] if t != winner}
    point = next((t, v) for t, v in own[at_choice] if t == winner.prediction[name])
    return run_plots.temperatures({**shown, **others}, point, len(others), y)
