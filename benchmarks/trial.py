"""Suite `trial`: trainings session by session, against the same training written the straightforward way.

With kept views, other trials have filled a stage store before, of which features alone are left, of augmented views or
of un-augmented images too: every gradient step is taken and every head solved, and what the frozen networks give is
read where it is there. The store is a fresh copy in each timed run, and takes all other stages as in a sweep.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.plain import PlainSafe
from safe.backbones.loading import load_backbone
from safe.config import Config, load_config
from safe.data.loading import load_dataset
from safe.data.sessions import session_count
from safe.data.sources import Dataset
from safe.training.trainer import SafeTrainer
from safe.types import SessionResult
from sweeps.worker.stage_store import DiskStages

SEEDS = 5  # that kept views are proven to change nothing for
# Fewer epochs than the presets' (10 and 5; 60 and 5) keep the suite short: the same on both sides.
EPOCHS = ("slow.epochs=4", "fast.epochs=2")
VIEWS, IMAGES = ("views",), ("views", "features")  # kinds of stages that are kept

# Of the trial that filled the store: other weights than the timed one's.
OTHER_FAST = ("fast.feature_weight=5", "fast.cross_weight=0.3")
OTHER_WEIGHTS = ("slow.diag_weight=1", "slow.offdiag_weight=30", *OTHER_FAST)


def items() -> list[dict[str, Any]]:
    """Prove that all trainings give the same accuracies; return them to be timed as people run them."""
    digits, glyphs = Trainings("digits"), Trainings("glyphs")
    first_two, short = Trainings("digits", 2), ("slow.epochs=1", "fast.epochs=1")
    digits.prove_plain("slow.epochs=2", "fast.epochs=2")
    glyphs.prove_plain(*short)
    for seed in range(SEEDS):
        first_two.prove_kept(f"seed={seed}", *short)

    name = f"digits, {digits.part}, {' '.join(EPOCHS)}"
    ours, released = partial(digits.ours, *EPOCHS), partial(digits.plain, *EPOCHS, test_every_epoch=True)
    return [
        {"name": f"{name}, as released (test accuracy after every epoch)", "plain": released, "ours": ours},
        {
            "name": f"{name}, without that test accuracy",
            "plain": partial(digits.plain, *EPOCHS, test_every_epoch=False),
            "ours": ours,
        },
        {
            "name": f"{name}, as released; the PTM's views kept from a trial with other slow and fast weights",
            "plain": released,
            "ours": digits.kept(OTHER_WEIGHTS, VIEWS, *EPOCHS),
        },
        {
            "name": f"{name}, as released; the PTM's and the slow network's views kept from a trial with other fast "
            "weights, session 1 trained again",
            "plain": released,
            "ours": digits.kept(OTHER_FAST, VIEWS, *EPOCHS),
        },
        {
            "name": f"{name}, as released; likewise, and the slow network's features of un-augmented images kept",
            "plain": released,
            "ours": digits.kept(OTHER_FAST, IMAGES, *EPOCHS),
        },
        {
            "name": f"glyphs, {glyphs.part}, {' '.join(EPOCHS)}, as released",
            "plain": partial(glyphs.plain, *EPOCHS, test_every_epoch=True),
            "ours": partial(glyphs.ours, *EPOCHS),
        },
        {
            "name": f"glyphs, {glyphs.part}, {' '.join(EPOCHS)}, as released; the PTM's views, and the slow network's "
            "views and features of un-augmented images kept",
            "plain": partial(glyphs.plain, *EPOCHS, test_every_epoch=True),
            "ours": glyphs.kept(OTHER_FAST, IMAGES, *EPOCHS),
        },
    ]


class Trainings:
    """Trains a data set's preset, with `overrides`, through its first `sessions`; `part` says which in words.

    Args:
        given: images and network that stand for the preset's own.
        settings: of every training, unless `overrides` say otherwise.
    """

    def __init__(
        self,
        name: str,
        sessions: int | None = None,
        given: tuple[Dataset, Any] | None = None,
        settings: Sequence[str] = (),
    ) -> None:
        config = load_config(name, overrides=list(settings))
        every = session_count(config)
        self.name, self.sessions, self.settings = name, sessions or every, settings
        self.part = f"first {sessions} of {every} sessions" if sessions else f"all {every} sessions"
        self.dataset, self.vit = given or (
            load_dataset(config.dataset, config.data.root, 32),
            load_backbone(config.backbone.name),
        )

    def config(self, *overrides: str) -> Config:
        last = {word.partition("=")[0]: word for word in (*self.settings, *overrides)}
        return load_config(self.name, overrides=list(last.values()))

    def plain(self, *overrides: str, test_every_epoch: bool) -> list[float]:
        training = PlainSafe(self.config(*overrides), self.dataset, self.vit, test_every_epoch=test_every_epoch)
        return [training.run_session(t) for t in range(self.sessions)]

    def ours(self, *overrides: str, stages: DiskStages | None = None) -> list[SessionResult]:
        trainer = SafeTrainer(self.config(*overrides), self.dataset, self.vit, stages=stages)
        return [trainer.run_session() for _ in range(self.sessions)]

    def kept(
        self, other: Sequence[str], kinds: Sequence[str] | None, *overrides: str
    ) -> Callable[[], list[SessionResult]]:
        """Run a trial with `other` settings as well; return a training that finds its stages of `kinds`, or all."""
        filled = tempfile.TemporaryDirectory()
        self.ours(*overrides, *other, stages=DiskStages(filled.name))

        def training() -> list[SessionResult]:
            with tempfile.TemporaryDirectory() as fresh:
                for kind in ("",) if kinds is None else kinds:
                    shutil.copytree(Path(filled.name, kind), Path(fresh, kind), dirs_exist_ok=True)
                return self.ours(*overrides, stages=DiskStages(fresh))

        return training

    def prove_plain(self, *overrides: str) -> None:
        """Raise `AssertionError` unless both ways give the same accuracies (dropout 0)."""
        plain = self.plain("pet.dropout=0", *overrides, test_every_epoch=False)
        ours = accuracies(self.ours("pet.dropout=0", *overrides))
        if any(abs(a - b) > 1.5 / len(self.dataset.test) for a, b in zip(plain, ours, strict=True)):
            raise AssertionError(f"the two trainings of {self.name} differ: {plain} and {ours}")

    def prove_kept(self, *overrides: str) -> None:
        """Raise `AssertionError` unless kept views are read, and give exactly the accuracies of a run without store."""
        alone = accuracies(self.ours(*overrides))
        for other, kinds, sessions in (
            (OTHER_WEIGHTS, VIEWS, 1),
            (OTHER_FAST, VIEWS, self.sessions),
            (OTHER_FAST, IMAGES, self.sessions),
        ):
            results = self.kept(other, kinds, *overrides)()
            if accuracies(results) != alone:
                raise AssertionError(f"kept views change {overrides}: {accuracies(results)} instead of {alone}")
            read = ["views" not in (done := result.work.stages) or done["views"]["computed"] == 0 for result in results]
            if sum(read) != sessions or {result.work.training for result in results} != {"trained"}:
                raise AssertionError(f"{overrides}: {sessions} sessions were to be trained on kept views, not {read}")
            images = [result.work.stages["features"]["reused"] > 0 for result in results]
            if set(images) != {kinds == IMAGES}:
                raise AssertionError(f"{overrides}: features were read in {images}, kept {kinds}")


def accuracies(results: Sequence[SessionResult]) -> list[float]:
    """Return the accuracy after each session."""
    return [result.metrics["accuracy"] for result in results]
