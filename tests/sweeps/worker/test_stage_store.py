"""The stage store on disk: each stage computed once, whole or not at all, and never more than the limit."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch

from safe.errors import UserError
from safe.states import checkpoint
from sweeps.worker import stage_store as stages
from sweeps.worker.stage_store import DiskStages, Usage

KEY = "0" * 64
FORK = multiprocessing.get_context("fork")


def value(seed: int = 0, size: int = 50) -> dict[str, Any]:
    return {
        "features": torch.randn(size, generator=torch.Generator().manual_seed(seed)),
        "ridge": 10.0,
        "list": [1, "a"],
    }


def fill(store: DiskStages, kind: str, key: str, **settings: Any) -> Path:
    claim = store.claim(kind, key)
    assert claim.stage is None
    claim.put(value(**settings), 1.5)
    return store.folder / kind / f"{key}.stage"


def holds(store: DiskStages, kind: str, key: str) -> bool:
    claim = store.claim(kind, key)
    claim.release()
    return claim.stage is not None


def wait_until(condition: Any, seconds: float = 60) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.005)


def test_a_stage_comes_back_as_it_was_put(tmp_path: Path) -> None:
    store = DiskStages(tmp_path / "stages")
    fill(store, "features", KEY)
    claim = DiskStages(tmp_path / "stages").claim("features", KEY)
    assert claim.stage is not None
    assert (claim.stage.seconds, claim.waited) == (1.5, 0.0)
    assert torch.equal(claim.stage.value["features"], value()["features"])
    assert claim.stage.value["list"] == [1, "a"]
    assert not holds(store, "readout", KEY)
    assert not holds(store, "features", "1" * 64)
    assert not list(tmp_path.rglob("*.lock"))


def test_a_released_claim_leaves_nothing_and_can_be_taken_again(tmp_path: Path) -> None:
    store = DiskStages(tmp_path)
    claim = store.claim("slow", KEY)
    claim.release()
    claim.release()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    forgotten = store.claim("slow", KEY)
    assert len(list(tmp_path.rglob("*.lock"))) == 1
    del forgotten
    gc.collect()
    assert not list(tmp_path.rglob("*.lock"))
    fill(store, "slow", KEY)


# ---------------------------------------------------------------- many processes


def _compute_or_take(folder: Path, start: Any, results: Connection) -> None:
    """Ask for one stage at the same moment as the others; tell whether it was computed here."""
    start.wait()
    claim = DiskStages(folder).claim("slow", KEY)
    computed = claim.stage is None
    if computed:
        time.sleep(0.2)
        claim.put(value(), 0.2)
    results.send((computed, claim.waited))


def test_processes_that_need_the_same_stage_compute_it_once(tmp_path: Path) -> None:
    start = FORK.Event()
    pipes = [FORK.Pipe(duplex=False) for _ in range(4)]
    workers = [FORK.Process(target=_compute_or_take, args=(tmp_path, start, pipe[1])) for pipe in pipes]
    for worker in workers:
        worker.start()
    start.set()
    told = [pipe[0].recv() for pipe in pipes]
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert sorted(computed for computed, _ in told) == [False, False, False, True]
    assert all(waited > 0 for computed, waited in told if not computed)
    assert DiskStages(tmp_path).usage().files == 1


def _hold(folder: Path, results: Connection) -> None:
    claim = DiskStages(folder).claim("slow", KEY)
    results.send(claim.stage is None)
    signal.pause()


def test_a_killed_holder_frees_its_claim(tmp_path: Path) -> None:
    receive, send = FORK.Pipe(duplex=False)
    holder = FORK.Process(target=_hold, args=(tmp_path, send))
    holder.start()
    assert receive.recv()
    heartbeats: list[float] = []

    def heartbeat() -> None:
        heartbeats.append(time.monotonic())
        if len(heartbeats) == 3:  # it has waited, and would for ever
            assert holder.pid is not None
            os.kill(holder.pid, signal.SIGKILL)

    claim = DiskStages(tmp_path, on_wait=heartbeat).claim("slow", KEY)
    holder.join()
    assert claim.stage is None
    assert len(heartbeats) >= 3
    assert claim.waited > 0
    claim.put(value(), 1.0)
    assert holds(DiskStages(tmp_path), "slow", KEY)
    assert not list(tmp_path.rglob("*.lock"))


def test_threads_wait_for_each_other_and_nobody_waits_for_himself(tmp_path: Path) -> None:
    mine = DiskStages(tmp_path).claim("slow", KEY)
    again = DiskStages(tmp_path).claim("slow", KEY)  # as a second run in this thread would
    assert (again.stage, again.lock, again.waited) == (None, None, 0.0)
    again.put(value(seed=1), 1.0)  # it computed for itself: the stage stays the holder's
    assert not list(tmp_path.rglob("*.stage"))
    waiting, stages = threading.Event(), []
    other = threading.Thread(
        target=lambda: stages.append(DiskStages(tmp_path, on_wait=waiting.set).claim("slow", KEY).stage)
    )
    other.start()
    assert waiting.wait(60)
    mine.put(value(), 2.0)
    other.join()
    assert stages[0] is not None
    assert stages[0].seconds == 2.0


def test_what_is_not_worth_waiting_for_is_claimed_at_once_or_not_at_all(tmp_path: Path) -> None:
    store, other = DiskStages(tmp_path, limit_bytes=100_000), DiskStages(tmp_path)
    mine = store.try_claim("views", KEY, 5_000)
    assert mine is not None
    assert mine.stage is None
    assert other.try_claim("views", KEY, 5_000) is None
    mine.put(value(), 2.0)
    claim = other.try_claim("views", KEY, 5_000)
    assert claim is not None
    assert claim.stage is not None
    assert (claim.stage.seconds, claim.waited) == (2.0, 0.0)
    assert store.try_claim("views", "1" * 64, 5_001) is None, "more than a twentieth of the limit"
    assert not list(tmp_path.rglob("*.lock"))


# ---------------------------------------------------------------- damage


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def foreign(content: bytes) -> bytes:
    return b"something else entirely"


@pytest.mark.parametrize("damage", [truncated, flipped, foreign, lambda content: b""])
def test_a_damaged_stage_is_discarded_told_once_and_computed_again(tmp_path: Path, damage: Any) -> None:
    store = DiskStages(tmp_path)
    paths = [fill(store, "features", str(i) * 64) for i in range(2)]
    for path in paths:
        path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match="a stage is discarded and computed again") as told:
        claims = [store.claim("features", str(i) * 64) for i in range(2)]
    assert len(told) == 1
    assert [claim.stage for claim in claims] == [None, None]
    assert not any(path.exists() for path in paths)
    for claim in claims:
        claim.put(value(), 1.0)
    assert holds(store, "features", KEY)


def test_a_stage_under_another_name_is_not_taken(tmp_path: Path) -> None:
    store = DiskStages(tmp_path)
    path = fill(store, "features", KEY)
    path.rename(path.with_name(f"{'1' * 64}.stage"))
    with pytest.warns(UserWarning, match="holds another stage than its name says"):
        assert not holds(store, "features", "1" * 64)


@pytest.mark.parametrize("layer", ["file", "stage"])
def test_a_newer_stage_is_told_left_alone_and_counts_as_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layer: str
) -> None:
    store = DiskStages(tmp_path)
    module, name = (checkpoint, "FORMAT_VERSION") if layer == "file" else (stages, "VERSION")
    with monkeypatch.context() as newer:
        newer.setattr(module, name, 2)
        path = fill(store, "features", KEY)
    content = path.read_bytes()
    with pytest.warns(UserWarning, match=r"left alone and computed again: .* version 2"):
        claim = store.claim("features", KEY)
    assert claim.stage is None
    claim.put(value(), 1.0)
    assert path.read_bytes() == content
    assert not list(tmp_path.rglob("*.lock"))


def test_the_draft_of_a_killed_writer_goes_when_its_stage_is_written(tmp_path: Path) -> None:
    store, other = DiskStages(tmp_path), "1" * 64
    fill(store, "features", other)
    drafts = [tmp_path / "features" / f".{key}.stage.abcdefgh" for key in (KEY, other)]
    for draft in drafts:
        draft.write_bytes(b"half of it")
    fill(store, "features", KEY)
    assert [draft.exists() for draft in drafts] == [False, True], "the other may be in the middle of being written"


def test_an_interrupted_write_is_never_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DiskStages(tmp_path)
    with monkeypatch.context() as dying:
        dying.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(KeyboardInterrupt))
        claim = store.claim("features", KEY)
        with pytest.raises(KeyboardInterrupt):
            claim.put(value(), 1.0)
    claim.release()
    assert not holds(store, "features", KEY)
    assert store.usage().files == 0


# ---------------------------------------------------------------- what cannot be kept


def test_a_full_disk_is_told_once_and_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stages, "save_state", full)
    store = DiskStages(tmp_path)
    claims = [store.claim("slow", digit * 64) for digit in "012"]
    with pytest.warns(UserWarning, match="No space left on device") as told:
        _ = [claim.put(value(), 1.0) for claim in claims]
    assert len(told) == 1
    assert not list(tmp_path.rglob("*.lock"))


def test_a_folder_that_cannot_be_written_is_told_once_and_the_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = DiskStages(tmp_path / "file" / "stages")
    with pytest.warns(UserWarning, match="nothing is shared") as told:
        claims = [store.claim("slow", KEY) for _ in range(2)]
    for claim in claims:
        assert claim.stage is None
        claim.put(value(), 1.0)
    assert len(told) == 1


def test_a_limit_below_one_byte_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least 1 byte, got 0"):
        DiskStages(tmp_path, 0)


# ---------------------------------------------------------------- the limit


def test_what_was_used_longest_ago_goes_first_and_the_limit_holds(tmp_path: Path) -> None:
    size = fill(DiskStages(tmp_path / "probe"), "features", KEY, size=10_000).stat().st_size
    store = DiskStages(tmp_path / "stages", limit_bytes=int(5.5 * size))
    for i in range(5):
        path = fill(store, "features", str(i) * 64, size=10_000)
        os.utime(path, (i, i))  # used at i seconds past the epoch
    assert store.usage() == Usage(5, 5 * size)
    assert holds(store, "features", "0" * 64)  # used now
    claimed = store.claim("features", "6" * 64)
    other = fill(store, "readout", "5" * 64, size=10_000)
    assert store.usage().bytes <= 0.9 * store.limit_bytes
    assert [holds(store, "features", str(i) * 64) for i in range(5)] == [True, False, False, True, True]
    assert other.exists()
    claimed.put(value(size=10_000), 1.0)
    assert holds(store, "features", "6" * 64)
    for i in range(20):
        fill(store, "logits", f"{i:064d}", size=10_000)
        assert store.usage().bytes <= store.limit_bytes


def test_views_have_what_all_else_leaves(tmp_path: Path) -> None:
    size = fill(DiskStages(tmp_path / "probe"), "views", KEY, size=10_000).stat().st_size
    store = DiskStages(tmp_path / "stages", limit_bytes=int(10.5 * size))

    def kept(kind: str) -> list[int]:
        return sorted(int(path.stem) for path in (store.folder / kind).glob("*.stage"))

    for i in range(4):
        path = fill(store, "features", f"{i:064d}", size=10_000)
        os.utime(path, (i, i))  # used before all views
    for i in range(20):
        path = fill(store, "views", f"{i:064d}", size=10_000)
        os.utime(path, (100 + i, 100 + i))
        assert store.usage().bytes <= store.limit_bytes
    assert kept("features") == [0, 1, 2, 3]
    assert kept("views") == list(range(20 - len(kept("views")), 20))
    assert len(kept("views")) in (5, 6)
    for i in range(4, 10):
        fill(store, "features", f"{i:064d}", size=10_000)
        assert store.usage().bytes <= store.limit_bytes
    assert kept("features") == list(range(10))
    assert kept("views") == []
    fill(store, "features", f"{10:064d}", size=10_000)
    assert kept("features") == list(range(2, 11)), "the rule for all else is as without views"


def test_a_stage_that_is_claimed_is_not_dropped(tmp_path: Path) -> None:
    store = DiskStages(tmp_path, limit_bytes=100_000)
    path = fill(store, "slow", KEY)
    lock = stages._Lock.take(path.with_suffix(".lock"))
    assert lock is not None
    store.clear()
    assert path.exists()
    lock.release()
    store.clear()
    assert store.usage() == Usage(0, 0)


def test_a_stage_over_the_whole_limit_is_told_and_drops_nothing(tmp_path: Path) -> None:
    store = DiskStages(tmp_path, limit_bytes=5_000)
    fill(store, "slow", KEY)
    with pytest.warns(UserWarning, match=r"a stage of 40000 bytes is over the stage store's limit of 5000"):
        store.claim("features", KEY).put({"features": torch.zeros(10_000)}, 1.0)
    assert {path.parent.name for path in store.folder.glob("*/*.stage")} == {"slow"}


def test_leftovers_of_dead_writers_go_once_they_are_old(tmp_path: Path) -> None:
    store = DiskStages(tmp_path, limit_bytes=100_000)
    path = fill(store, "slow", KEY)
    young, old = path.with_name(f".{path.name}.young"), path.with_name(f".{path.name}.old")
    for file in (young, old):
        file.write_bytes(b"half a stage")
    os.utime(old, (0, 0))
    fill(store, "slow", "1" * 64)
    assert (young.exists(), old.exists()) == (True, False)
    assert store.usage().files == 2


# ---------------------------------------------------------------- through the trainable

# In an interpreter of its own: it imports Ray, whose environment this process must not fix.
JOBS = """
import json, sys
from pathlib import Path
from safe.config import load_config
from safe.states.checkpoint import load_state, save_state
from sweeps.worker.trainable import SafeTrainable

here = Path(sys.argv[1])
fast = {"slow.epochs": 2, "fast.epochs": 1, "head.projection_dim": 16, "runtime.threads": 1, "runtime.device": "cpu",
        "data.init_classes": 4, "data.increment": 3, "data.holdout_share": 0.9}

def begin(name, stages=str(here / "stages"), **more):
    job = {"id": name, "kind": "trial", "title": name, "config": {**load_config("digits").flat(), **fast},
           "predictions": [], "states": str(here / name), "resume_from": [], "stages": stages, **more}
    return SafeTrainable({"job": job})

def finish(trainable):
    records = []
    while not records or not records[-1]["done"]:
        records.append(trainable.step())
    return [record["session"].to_json() for record in records]

told = {"alone": finish(begin("alone", None))}

# Asked to stop within session 1, it pauses after an epoch; another process goes on with the same bits.
(here / "stop").touch()
paused = begin("cold", stop=str(here / "stop"), heartbeat=str(here / "heartbeat"))
told["paused"], told["heartbeat"] = paused.step(), (here / "heartbeat").exists()
told["locks"] = [str(path) for path in (here / "stages").rglob("*.lock")]
(here / "at").mkdir()
paused.save_checkpoint(str(here / "at"))
(here / "stop").unlink()
told["cold"] = finish(begin("cold", resume_from=[str(here / "at")]))
told["warm"] = finish(begin("warm", until=2))
for stage in (here / "stages" / "logits").glob("*.stage"):
    stage.write_bytes(stage.read_bytes()[:-9])
told["damaged"] = finish(begin("damaged", until=2))
try:
    begin("others", data="0" * 64).step()
except Exception as error:
    told["others"] = [type(error).__name__, str(error)]

# Of its checkpoints the newest is damaged, the one before gone, and the first as it was; then that one is damaged too.
def spoilt(*unusable):
    (here / "new").mkdir(exist_ok=True)
    for name in unusable:
        (here / name / "resume.pt").write_bytes((here / "at" / "resume.pt").read_bytes()[:-9])
    return [str(here / name) for name in ("new", "gone", "at")]

told["earlier"] = finish(begin("cold", until=1, resume_from=spoilt("new")))
told["anew"] = finish(begin("cold", until=1, resume_from=spoilt("new", "at")))
lost = begin("lost", until=2)
lost.step()
(here / "lost-at").mkdir()
lost.save_checkpoint(str(here / "lost-at"))
state = load_state(here / "lost-at" / "resume.pt")
(here / "old-at").mkdir()
save_state({**state, "version": state["version"] - 1}, here / "old-at" / "resume.pt")
told["old"] = finish(begin("lost", until=2, resume_from=[str(here / "old-at")]))
(here / "lost" / "sessions.jsonl").write_text("{")
told["lost"] = finish(begin("lost", until=2, resume_from=[str(here / "lost-at")]))
print(json.dumps(told))
"""


def numbers(records: list[dict[str, Any]]) -> list[Any]:
    volatile = ("time/", "memory/", "system/")
    metrics = [{k: v for k, v in record["metrics"].items() if not k.startswith(volatile)} for record in records]
    return [metrics, *([record[name] for record in records] for name in ("row", "losses", "provenance", "counts"))]


def test_jobs_share_their_work_and_say_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", JOBS, str(tmp_path)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert numbers(told["cold"]) == numbers(told["alone"])
    assert numbers(told["warm"]) == numbers(told["alone"][:2])
    trainings = {name: [r["work"]["training"] for r in told[name]] for name in ("alone", "cold", "warm")}
    assert trainings == {"alone": ["trained"] * 3, "cold": ["trained"] * 3, "warm": ["reused"] * 2}
    assert told["paused"] == {"paused": True, "done": True}
    assert told["locks"] == []  # others may go on meanwhile
    assert told["heartbeat"]
    assert [r["sessions"] for r in told["warm"]] == [2, 2]
    for record, cold in zip(told["warm"], told["cold"], strict=False):
        work = record["work"]
        assert set(work) == {"training", "trained", "seconds", "saved_seconds", "waited_seconds", "stages"}
        assert work["trained"] is False
        assert work["seconds"] > 0
        spared = (counts["seconds"] for kind, counts in cold["work"]["stages"].items() if kind in work["stages"])
        assert work["saved_seconds"] == pytest.approx(sum(spared))
        assert not {"features", "views"} & set(work["stages"])
    assert numbers(told["damaged"]) == numbers(told["warm"])
    first, second = (record.get("notes", {}) for record in told["damaged"])
    assert (list(first), second) == (["damaged"], {}), "told once"
    assert first["damaged"].startswith("a stage is discarded and computed again: ")
    assert not any("notes" in record for record in told["warm"])
    now = told["alone"][0]["provenance"]["data_digest"][:12]
    words = f"the data digits changed while the sweep ran: digest 000000000000 -> {now}; bring them back and continue"
    assert told["others"] == ["UserError", words]

    def note(name: str) -> str:
        (words,) = told[name][0]["notes"].values()
        return str(words)

    assert note("earlier") == (
        f"cold goes on from an earlier checkpoint: {unusable(tmp_path, 'new')}; cannot read the checkpoint "
        f"{tmp_path / 'gone' / 'resume.pt'}: No such file or directory"
    )
    assert note("anew").startswith(f"cold begins anew: {unusable(tmp_path, 'new')}; ")
    assert note("anew").endswith(f"; {unusable(tmp_path, 'at')}")
    assert note("old") == (
        f"lost begins anew: {tmp_path / 'old-at' / 'resume.pt'} is of an earlier version of this project"
    )
    assert numbers(told["old"]) == numbers(told["alone"][:2])
    assert note("lost").startswith(f"lost begins anew: {tmp_path / 'lost' / 'sessions.jsonl'} is damaged")
    assert [r["session"] for r in told["lost"]] == [1, 2]
    assert numbers(told["lost"]) == numbers(told["alone"][:2])
    assert numbers(told["earlier"]) == numbers(told["anew"]) == numbers(told["alone"][:1])


def unusable(folder: Path, checkpoint: str) -> str:
    file = folder / checkpoint / "resume.pt"
    return f"the checkpoint {file} is damaged (its checksum does not match)"


def test_nothing_is_told_where_nothing_is_wrong(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store = DiskStages(tmp_path)
        fill(store, "slow", KEY)
        assert holds(store, "slow", KEY)
        store.clear()
