"""What a sweep is: everything its results depend on, fixed under its name.

A name stands for one specification. Calling it again continues the sweep; more trials or seeds or a wider space extend
it; any other difference is refused, because two searches would be mixed in one table.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field

from safe.config import completed, validate
from safe.config.described import acting, of_role
from safe.config.marks import Acts, Role
from sweeps.spec.combinations import heads
from sweeps.spec.marks import Group, Mark, Option, marked
from sweeps.spec.runs import MOST, PLACES, Checkpoints, RunsSpec, without_places
from sweeps.spec.space import Space, parse_space

Search = Literal["staged", "tpe", "random", "grid"]
Selection = Literal["holdout", "first-k", "transfer", "test"]

DEFAULT_TRIALS = 8  # enough for importance
DEFAULT_DATASET = "quickstart"
RULES = 5  # of new sweeps

SPLITS: Mapping[str, Literal["val", "test"]] = {"ablation": "test", "variants": "val", "orders": "test"}
"""Images that judge each catalogue."""


class AblationSpec(RunsSpec):
    """The specification of an ablation: the same runs for every variant, nothing selected."""

    kind: Literal["ablation"] = "ablation"
    name: Annotated[str, Option(Group.LIMITS, "name of its results", "data set and command")]
    """Names the folder, the parent run and every later call."""
    seeds: Annotated[int, Field(ge=1, le=1_000), Mark.GROWS, Option(Group.LIMITS)] = 5
    """Runs of every variant; seed and class order both change."""
    checkpoints: Annotated[Checkpoints, Mark.MANNER, Option(Group.MACHINE)] = "last"
    """Inference states that are kept; those of every session of every variant would be gigabytes."""
    catalogue: Literal["ablation", "variants", "orders"] = "ablation"
    """What is compared, and on which images; see `sweeps.studies.catalogues`."""
    variants: Annotated[list[str], Field(validation_alias=AliasChoices("variants", "arms")), Mark.GROWS]
    """Names of its variants (`arms` in ledgers of 0.1.0); those asked for later are added."""

    @property
    def selection(self) -> Literal["none"]:
        """No decision is taken, so nothing steers it."""
        return "none"

    @property
    def split(self) -> Literal["val", "test"]:
        """Images that judge."""
        return SPLITS[self.catalogue]

    @property
    def runs(self) -> int:
        """How many training runs there will be."""
        return len(self.variants) * self.seeds


class SweepSpec(RunsSpec):
    """The specification of one sweep; `seeds` counts the final runs of the chosen configuration."""

    kind: Literal["sweep"] = "sweep"
    trials: Annotated[
        int,
        Field(ge=1, le=10_000),
        Mark.GROWS,
        Option(Group.LIMITS, default=f"{DEFAULT_TRIALS}; grid: all combinations", extends=True),
    ]
    """Trained configurations of the search; slow settings that are judged alone come on top."""
    search: Annotated[Search, Mark.PARAM, Option(Group.SEARCH)] = "staged"
    """How trials are proposed; see `sweeps.search`."""
    slow_candidates: Annotated[
        int | None, Field(ge=1, le=10_000), Option(Group.SEARCH, default="as many as trials")
    ] = None
    """Staged search: slow settings judged alone; empty for as many as trials."""
    carried: Annotated[
        int | None, Field(ge=1, le=10_000), Option(Group.SEARCH, default="a sixth of the trials, at least 2")
    ] = None
    """Staged search: the best of them that trials are made of; empty for a sixth of the trials, at least two, and for a
    third where a single seed judges them."""
    round_size: Annotated[int, Field(ge=1), Mark.SETTLED] = 4
    """Trials that a search proposes at once, before it looks at results again."""
    max_sessions: Annotated[int | None, Field(ge=1, le=MOST), Mark.MORE, Option(Group.LIMITS, extends=True)] = None
    """Trained sessions after which the search ends; the final runs are not counted."""
    max_hours: Annotated[float | None, Field(gt=0), Mark.MORE, Option(Group.LIMITS, extends=True)] = None
    """Hours after which the search ends; the final runs are not counted."""
    stop: Annotated[
        str,
        Mark.PARAM,
        Option(
            Group.LIMITS,
            "none; asha: trials that are behind others after the same session; auto: the search when more cannot pay; "
            "below:session=2,accuracy=0.4: hopeless trials",
        ),
    ] = "none"
    """What ends trials or the search before their time; see `sweeps.spec.stopping`."""
    finalists: Annotated[
        int | None,
        Field(ge=0, le=100),
        Mark.MORE,
        Option(Group.SEARCH, default="up to 5 that are near the best", extends=True),
    ] = None
    """Trials that are raced over further seeds, 0 for no race; the preset and the baselines are raced beside them.
    Empty for all within two standard errors of the best, at most five."""
    race_sessions: Annotated[
        int | None,
        Field(ge=1, le=MOST),
        Mark.MORE,
        Option(Group.LIMITS, default="half of the search's", extends=True),
    ] = None
    """Trained sessions after which the race ends; empty for half of those of the search."""
    learn_from: Annotated[str | None, Mark.SETTLED, Option(Group.SEARCH)] = None
    """Earlier sweeps, with commas, whose finished trials the search is told."""
    across_data: Annotated[bool, Mark.SETTLED, Option(Group.SEARCH, "learn from sweeps on other data too")] = False
    """Whether these sweeps may be about other data, of which the space alone is the same."""
    rules: Annotated[int, Field(ge=1, le=RULES), Mark.SETTLED] = 1
    """How it decides: 1 by the search alone, as sweeps began before there were races; 2 by a race of finalists; 3 by
    the mean of search and race, and slow settings by several seeds; 4 as 3, with `stop: auto` by these too; 5 as 4,
    where only what is as good as the best finalist ties, not all that is within a standard error of it."""
    selection: Annotated[
        Selection,
        Mark.PARAM,
        Mark.PROTOCOL,
        Option(Group.JUDGED, "images that trials are judged on; test only to reproduce papers"),
    ] = "holdout"
    """What steers the search: held-out training images of all sessions (`holdout`) or the first ones (`first-k`), of
    another data set than the final runs' (`transfer`), or, only to reproduce papers, the test images (`test`)."""
    first_k: Annotated[int | None, Field(ge=1, le=MOST), Mark.PARAM, Mark.PROTOCOL, Option(Group.JUDGED)] = None
    """With --selection first-k: sessions that trials run."""
    evaluate_on: Annotated[str | None, Mark.WHERE, Mark.PARAM, Option(Group.JUDGED)] = None
    """With --selection transfer: data set of the final runs."""
    target: Annotated[dict[str, Any] | None, Mark.WHERE, Mark.PROTOCOL] = None
    """Selection transfer: preset and overrides that the final runs start from."""
    objective: Annotated[
        str,
        Mark.PARAM,
        Mark.PROTOCOL,
        Option(Group.JUDGED, "metric NAME[:max|:min]; several, with commas, give a Pareto front"),
    ] = "average_accuracy"
    """Metrics of the last session that are to be improved; see `sweeps.spec.objective`."""
    search_seed: Annotated[int, Field(ge=0, le=MOST), Mark.PARAM, Option(Group.SEARCH)] = 0
    """Seed of the proposals."""
    holdout_share: Annotated[float, Field(gt=0, lt=1), Mark.PARAM, Mark.PROTOCOL]
    """Share of each class's training images held out for selection."""
    space: Annotated[
        dict[str, Any], Option(Group.SEARCH, "file (YAML) or `heads`, in place of the preset's", kind=Path)
    ]
    """The search space as written."""
    space_asked: Annotated[bool, Field(exclude=True), Mark.SETTLED] = True
    """Whether a space was asked for; without one a sweep goes on in its own, whatever the preset's is by now."""
    control: Annotated[
        bool, Mark.MORE, Option(Group.JUDGED, "leave out the runs of the preset beside the chosen configuration")
    ] = True
    """Whether the preset itself is run over the same seeds beside the chosen configuration."""
    audit: Annotated[
        bool,
        Mark.MORE,
        Option(Group.JUDGED, "leave out judging the trials on the test images once the choice is final"),
    ] = True
    """Whether the trials are judged on the test images once the choice is final, which gives the optimism gap."""
    created: Annotated[str, Mark.SETTLED] = ""
    """When the sweep began."""

    @property
    def raced(self) -> bool:
        """Whether finalists are raced, among them the baselines."""
        return self.rules > 1 and self.finalists != 0 and self.selection != "test"

    @property
    def shrinks(self) -> bool:
        """Whether seeds are reckoned with from the slow settings on; see `rules`."""
        return self.raced and self.rules > 2

    @property
    def runs(self) -> int:
        """How many runs there will be at most, beside those of a race."""
        slow = self.slow_count * len(heads(self.parsed_space())) if self.search == "staged" else 0
        beside = (self.seeds + 3 * self.audit) if self.raced else 0  # the rival's final runs, audits of the baselines
        return slow + self.trials * (2 if self.audit else 1) + self.seeds * (2 if self.control else 1) + beside

    @property
    def slow_count(self) -> int:
        """Slow settings that staged search judges alone."""
        return self.slow_candidates or self.trials

    @property
    def carried_count(self) -> int:
        """Slow settings that staged search makes trials of."""
        own = max(2, round(self.trials / 6)) if self.shrinks else max(1, round(self.trials / 3))
        return min(self.carried or own, self.slow_count)

    def comparable(self) -> dict[str, Any]:
        """Return what must stay equal under one name, the space setting by setting."""
        rest = super().comparable()
        target = None if self.target is None else without_places(self.target)
        own = {k: v for k, v in rest.items() if k != "space"} | {"target": target}
        return own | {f"space {k}": v for k, v in self.space.items()}

    def places(self) -> dict[str, Any]:
        """Return where the data lie, by setting."""
        return super().places() | {"evaluate_on": self.evaluate_on}

    @property
    def split(self) -> Literal["val", "test"]:
        """Prefix of the metrics that steer the search."""
        return "test" if self.selection == "test" else "val"

    def protocol(self) -> dict[str, Any]:
        """Return what must be equal for the scores of two sweeps on the same data to be comparable."""
        told_elsewhere = (*PLACES, *of_role(Role.FRAME))  # by the digest of the data, and by other fields
        of_data = [name for name in acting(Acts.FACTS) if name.startswith("data.") and name not in told_elsewhere]
        own = {name: getattr(self, name) for name in marked(type(self), Mark.PROTOCOL)}
        return own | {name: self.base[name] for name in of_data}

    def parsed_space(self) -> Space:
        """Return the checked search space."""
        return parse_space(self.space, self.base)

    def trial_config(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the full flat configuration of a trial with these settings, checked."""
        judged: dict[str, Any] = (
            {"data.evaluate_on": "test", "data.holdout_share": 0.0}
            if self.selection == "test"
            else {"data.evaluate_on": "holdout", "data.holdout_share": self.holdout_share}
        )
        return validate({**self.base, **settings, **judged, "runtime.threads": self.threads}).flat()


Spec = SweepSpec | AblationSpec


def located(config: Mapping[str, Any], origin: tuple[str, str]) -> dict[str, Any]:
    """Return a configuration whose data lie at an entry of `data_origins`."""
    name, root = origin
    return {**config, "dataset": name, "data.root": str(Path(root).absolute())}


def data_origins(spec: Spec) -> dict[str, tuple[str, str]]:
    """Return name and root of the data sets of a sweep by what they are to it: `dataset`, and `evaluate_on` if any."""
    target = spec.target if isinstance(spec, SweepSpec) else None
    configs = {"dataset": spec.base} | ({} if target is None else {"evaluate_on": target})
    return {role: (config["dataset"], config["data.root"]) for role, config in configs.items()}


def read_spec(raw: Mapping[str, Any]) -> Spec:
    """Return the specification that `model_dump` wrote, maybe before there was every setting of today."""
    kind = AblationSpec if raw["kind"] == "ablation" else SweepSpec
    configs = {role: completed(raw[role]) for role in ("base", "target") if raw.get(role)}
    return kind.model_validate({**raw, **configs})
