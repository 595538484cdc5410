"""Damaged files are found by their checksum, named, and computed again or refused: never silently used.

Checkpoints and stages bit by bit: tests/safe/states/test_checkpoint.py, tests/sweeps/worker/test_stage_store.py;
decoded images: tests/safe/data/test_cache.py.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from safe.errors import UserError
from safe.states.checkpoint import load_state
from safe.states.inference import load_inference_state, save_session, session_file
from safe.training.trainer import SafeTrainer
from sweeps.cli import main
from sweeps.ledger.ledger import FILE_NAME, Ledger, SweepLog, read_ledger
from sweeps.spec.specs import SweepSpec
from sweeps.worker.artifacts import RECORDS, read_records
from sweeps.worker.stage_store import DiskStages
from tracking import JsonlRecorder, Status, TrackingError
from tracking.jsonl import read_journal

from .conftest import tiny
from .sweeping import fake_sessions, no_engine, run, small_spec


def flipped(content: bytes, step: int) -> Iterator[tuple[int, bytes]]:
    """Give the content with one bit turned over, at every `step`-th byte and at the last one, all bits in turn."""
    for turn, place in enumerate([*range(0, len(content) - 1, step), len(content) - 1]):
        damaged = bytearray(content)
        damaged[place] ^= 1 << (turn % 8)
        yield place, bytes(damaged)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Return the ledger of a sweep with one finished trial, 9 lines."""
    spec = small_spec()
    ledger = Ledger.create(tmp_path, spec)
    ledger.append("job", job="trial-00", kind="trial", title="t", config=spec.base, predictions=[{}])
    for record in fake_sessions(0.75):
        ledger.append("session", job="trial-00", **record.to_json())
        ledger.append("checkpoint", job="trial-00", session=record.session, path=str(tmp_path / "x"))
    for status in ("RUNNING", "FINISHED"):
        ledger.append("status", job="trial-00", status=status, reason=None)
    ledger.append("finished")
    ledger.close()
    return tmp_path / FILE_NAME


def prefixes(ledger: Path) -> list[SweepLog]:
    """Return what every number of whole lines of a ledger says, from one line on."""
    whole, logs = ledger.read_bytes(), []
    for end in [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]:
        ledger.write_bytes(whole[:end])
        logs.append(read_ledger(ledger.parent))
    return logs


def test_any_flipped_bit_of_a_ledger_is_refused_with_its_line(ledger: Path) -> None:
    whole, known = ledger.read_bytes(), prefixes(ledger)
    for place, damaged in flipped(whole, 23):
        ledger.write_bytes(damaged)
        if place == len(whole) - 1:  # without its end, the last line counts as cut short: what it tells is done again
            assert read_ledger(ledger.parent) == known[-2]
            continue
        line = 1 + whole[:place].count(b"\n")
        with pytest.raises(UserError, match=rf"the ledger {ledger} is damaged in line {line}: restore it"):
            read_ledger(ledger.parent)


def test_a_ledger_cut_anywhere_says_what_its_whole_lines_say(ledger: Path) -> None:
    whole, known = ledger.read_bytes(), prefixes(ledger)
    first = whole.index(b"\n") + 1
    for end in range(first, len(whole), 31):
        ledger.write_bytes(whole[:end])
        assert read_ledger(ledger.parent) == known[whole[:end].count(b"\n") - 1]


def disorders(lines: list[bytes]) -> Iterator[tuple[list[bytes], int, str]]:
    """Give the lines with one lost, moved or doubled, with the line that is told and what of it."""
    for place in range(len(lines) - 1):  # without the last one, the file is one of before, as after a kill
        yield [*lines[:place], *lines[place + 1 :]], place + 1, f"line {place + 1} is missing"
        for to in {place + 1, len(lines) - 1}:  # swapped with the next, moved to the end
            others = [*lines[:place], *lines[place + 1 :]]
            yield [*others[:to], lines[place], *others[to:]], place + 1, f"line {place + 1} is missing"
        doubled = f"line {place + 1} stands a second time, as line {place + 2}"
        yield [*lines[: place + 1], *lines[place:]], place + 2, doubled
    yield [*lines, lines[-1]], len(lines) + 1, f"line {len(lines)} stands a second time, as line {len(lines) + 1}"
    yield [lines[0], *lines[4:]], 2, "lines 2 to 4 are missing"


def test_every_line_of_a_real_ledger_that_is_lost_moved_or_doubled_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    no_engine(monkeypatch)
    results = tmp_path / "results"
    assert run(results) == 0
    ledger = results / "sweeps" / "demo" / FILE_NAME
    lines = ledger.read_bytes().splitlines(keepends=True)
    assert len(lines) > 20
    for disordered, number, what in disorders(lines):
        ledger.write_bytes(b"".join(disordered))
        with pytest.raises(UserError) as refusal:
            read_ledger(ledger.parent)
        assert str(refusal.value).startswith(f"the ledger {ledger} is damaged in line {number} ({what}): restore it")
    capsys.readouterr()
    for command in (["show", "demo"], ["resume", "demo"], ["report", "demo"]):
        assert main([*command, "--results", str(results)]) == 2
        told = capsys.readouterr()
        assert "is damaged in line 2 (lines 2 to 4 are missing): restore it" in told.err
        assert len(told.err.splitlines()) == 1, told.err

    advice = f"head -n 1 {ledger} > {ledger}.kept && mv {ledger}.kept {ledger}"
    assert told.err.endswith(f"does again what came after: {advice}\n")
    subprocess.run(advice, shell=True, check=True)
    assert main(["resume", "demo", "--results", str(results)]) == 0
    assert read_ledger(ledger.parent).finished


@pytest.mark.parametrize("version", [1, 2])
def test_a_ledger_of_an_earlier_version_is_refused_in_one_sentence(ledger: Path, version: int) -> None:
    """Version 2, that of sweeps begun before 0.2, has no numbers of lines, version 1 no checksums either."""
    lines = []
    for line in ledger.read_text("utf-8").splitlines():
        body = re.sub(r', "line": \d+, "crc": "\w+"}$', "}", line).replace('"version": 3', f'"version": {version}')
        crc = f', "crc": "{zlib.crc32(body.encode()):08x}"}}'
        lines.append(body[:-1] + crc if version > 1 else body)
    ledger.write_text("\n".join(lines) + "\n")
    words = f"has format version {version}, older than the 3 that is read here: use the version that wrote it to see or"
    for read in (read_ledger, Ledger.open):
        with pytest.raises(UserError, match=words):
            read(ledger.parent)
    assert ledger.read_text() == "\n".join(lines) + "\n"


def test_any_flipped_bit_of_a_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    recorder = JsonlRecorder(path, experiment="digits")
    recorder.start("demo", {"seed": 0, "dataset": "\udcffä"}, {"a": "b"})
    recorder.log_metrics("demo", {"val/accuracy": 0.5}, step=1)
    recorder.finish("demo", Status.FINISHED)
    recorder.close()
    whole, runs = path.read_bytes(), dict(read_journal(path))
    assert runs["demo"].params["dataset"] == "\udcffä", "names that are no text come back"
    for place, damaged in flipped(whole, 11):
        path.write_bytes(damaged)
        if place == len(whole) - 1:
            assert read_journal(path)["demo"].status == "RUNNING"
            continue
        with pytest.raises(TrackingError, match=rf"{path}(, line | has format version)"):
            read_journal(path)


@pytest.mark.parametrize("spoil", [lambda c: c[: len(c) // 2], lambda c: next(flipped(c[::-1], 50))[1][::-1]])
@pytest.mark.parametrize("part", ["session-02.pt", "pet-*.pt"])
def test_a_damaged_inference_state_or_part_of_it_is_named(
    trained: SafeTrainer, tmp_path: Path, part: str, spoil: Callable[[bytes], bytes]
) -> None:
    save_session(trained.inference_state(), tmp_path)
    (file, *_) = tmp_path.glob(part)
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(UserError, match=f"the checkpoint {file} is damaged"):
        load_inference_state(session_file(tmp_path, 2))


def test_damaged_session_records_are_told_and_a_run_that_begins_anew_writes_them_again(tmp_path: Path) -> None:
    (tmp_path / RECORDS).write_text('{"format": "run-sessions", "version": 1}\n{"session": 1, "met')
    with pytest.raises(UserError, match=rf"{RECORDS} is damaged: the run has to begin anew"):
        read_records(tmp_path)


def outcome(trainer: SafeTrainer, between: Callable[[], Any] = lambda: None) -> list[dict[str, float]]:
    """Return the metrics of all sessions without times; `between` is called between any two steps."""
    results = []
    while not trainer.done:
        event: Any = trainer.advance()
        between()
        if hasattr(event, "as_metrics"):
            results.append({n: v for n, v in event.as_metrics().items() if n.startswith(("test/", "ridge/"))})
    return results


def test_a_stage_store_deleted_at_any_moment_changes_no_number(
    pictures: Path, trained: SafeTrainer, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    folder = tmp_path / "stages"
    outcome(SafeTrainer(tiny(pictures), stages=DiskStages(folder)))
    warm = DiskStages(folder)
    assert warm.usage().files > 0
    alone = outcome(SafeTrainer(tiny(pictures)))
    every = SafeTrainer(tiny(pictures, seed=0), stages=DiskStages(folder))
    assert outcome(every, lambda: shutil.rmtree(folder, ignore_errors=True)) == alone
    claim = warm.claim("slow", "0" * 64)  # whose lock goes with the folder
    shutil.rmtree(folder, ignore_errors=True)
    claim.put({"a": torch.ones(3)}, 1.0)
    assert load_state(folder / "slow" / f"{'0' * 64}.stage")["value"]["a"].tolist() == [1, 1, 1]
    assert not [warning for warning in recwarn if "stage" in str(warning.message)]


def test_a_stage_spoilt_in_the_middle_of_a_run_is_told_and_computed_again(pictures: Path, tmp_path: Path) -> None:
    """Every stage that the first run left is cut or has a bit turned over: the second gives the same numbers."""
    folder = tmp_path / "stages"
    alone = outcome(SafeTrainer(tiny(pictures), stages=DiskStages(folder)))
    stages = sorted(folder.rglob("*.stage"))
    for number, stage in enumerate(stages):
        content = bytearray(stage.read_bytes())
        content[-1 - 7 * number] ^= 4
        stage.write_bytes(content if number % 2 else content[:-1])
    with pytest.warns(UserWarning, match=r"a stage is discarded and computed again: .*\.stage is damaged"):
        assert outcome(SafeTrainer(tiny(pictures), stages=DiskStages(folder))) == alone
    assert sorted(folder.rglob("*.stage")) == stages
    for stage in stages:
        load_state(stage)


def test_the_specification_in_a_ledger_is_checked_as_any_input(tmp_path: Path) -> None:
    spec = small_spec()
    ledger = Ledger.create(tmp_path, SweepSpec.model_construct(**{**vars(spec), "trials": -5}))
    ledger.close()
    with pytest.raises(UserError, match="is damaged in line 1"):
        read_ledger(tmp_path)
