"""What gives Tune its jobs and keeps its workers. Its events go to the driver itself (`sweeps.engine.driver`)."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from sweeps.engine.compat import actor_cache
from sweeps.engine.driver import Driver

if TYPE_CHECKING:
    from ray.tune.experiment import Trial


class JobSearcher(Searcher):
    """Gives Tune the next job when there is one."""

    def __init__(self, driver: Driver) -> None:
        super().__init__()
        self.driver = driver

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        job = self.driver.next_job(trial_id)
        if job is not None:
            return {"job": asdict(job)}
        return Searcher.FINISHED if self.driver.queue.finished else None

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        return True  # the queue sees to it

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        pass

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        pass


class JobScheduler(FIFOScheduler):
    """Keeps the workers between rounds of jobs. Tune itself keeps one that has nothing to do, and starts others anew.

    It reaches into Tune for that; where Tune has changed, workers are started more often, and nothing else happens.
    """

    def __init__(self, workers: int) -> None:
        super().__init__()
        self._workers = workers
        self._resources: Any = None

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        resources = trial.placement_group_factory
        if resources == self._resources or (cache := actor_cache(tune_controller)) is None:
            return
        if self._resources is not None:
            cache.decrease_max(self._resources, self._workers)  # else idle workers hold what others wait for
        cache.increase_max(resources, self._workers)
        self._resources = resources

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """Return nothing: Tune then takes pending trials in their order, without a search through all trials."""
