"""What the race over further seeds says: who was in it, who left, who ties."""

from __future__ import annotations

from sweeps.report.formatting import Measure
from sweeps.report.gather import Gathered
from sweeps.report.page import Missing, Section, Table, Text
from sweeps.report.words import left_words, race_lines
from sweeps.results.finalists import race_summary


def finalists(gathered: Gathered) -> Section | Missing:
    """The finalists with their scores seed by seed."""
    title, raced = "Race of the finalists", race_summary(gathered.log)
    if raced is None:
        return Missing(title, "no finalist was run over further seeds.")
    measure = Measure(raced["metric"].partition("/")[2])
    repeats = [str(repeat) for repeat in range(1, raced["repeats"] + 1)]
    rows = [
        [
            one["name"],
            measure.write(one["search"]),
            *(measure.write(one["scores"].get(repeat)) for repeat in repeats),
            measure.write(one["mean"]),
            left_words(one),
        ]
        for one in raced["finalists"]
    ]
    marked = next(i for i, one in enumerate(raced["finalists"]) if one["name"] == raced["winner"])
    head = ["finalist", "search", *(f"seed +{repeat}" for repeat in repeats), "mean", ""]
    spec = gathered.spec
    alike = "search and race count alike; " if spec.shrinks else ""
    error = "a standard error, or " if spec.rules < 5 else ""
    words = (
        "Finalists run again with other seeds, class orders and held-out images, paired. One leaves when a one-sided "
        f"paired t-test (5 %, Holm's correction) puts it behind the leader; {alike}those tie that are within {error}a "
        "tenth of a point of the best; of them the preset is taken, else the cheapest. The mean is that of the race."
    )
    told = [Text(f"{line[0].upper()}{line[1:]}.") for line in race_lines(gathered.log)]
    return Section("race", title, [*told, Text(words, "note"), Table(head, rows, f"{measure.axis}", marked=marked)])
