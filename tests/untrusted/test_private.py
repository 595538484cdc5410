"""Other users of the machine can put nothing where a sweep would believe it, nor make it remove what is not its own."""

from __future__ import annotations

import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from safe.errors import UserError
from sweeps.engine import private
from sweeps.engine.private import RUNTIME, private_folder, scratch, scratch_parent


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder as a login gives one; short enough for sockets, as those are."""
    monkeypatch.setattr(private, "_LONGEST", 107)
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv(RUNTIME, str(folder))
    return folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_scratch_lies_in_a_folder_of_ours_alone_and_goes(runtime: Path) -> None:
    with scratch() as folder:
        assert Path(folder).parent == runtime / "safe-sweeps"
        assert (mode(runtime / "safe-sweeps"), mode(Path(folder))) == (0o700, 0o700)
        os.chmod(folder, 0o777)  # Ray does that, whatever the umask says
        (Path(folder) / "session").mkdir()
    assert list((runtime / "safe-sweeps").iterdir()) == []


@pytest.mark.parametrize("given", [None, "", "relative", "/not/there", "long"])
def test_without_a_short_runtime_folder_it_lies_in_one_that_bears_the_users_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    if given == "long":
        given = str(tmp_path / ("long" * 20))
        Path(given).mkdir(mode=0o700)
    monkeypatch.delenv(RUNTIME, raising=False)
    if given is not None:
        monkeypatch.setenv(RUNTIME, given)
    assert scratch_parent() == Path(f"/tmp/safe-sweeps-{os.geteuid()}")
    assert mode(scratch_parent()) == 0o700
    socket = "session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
    assert len(os.fsencode(scratch_parent() / "12345678" / socket)) <= 107


def place_link(place: Path) -> None:
    (place.parent / "elsewhere").mkdir(mode=0o700)
    place.symlink_to(place.parent / "elsewhere")


def place_open(place: Path) -> None:
    place.mkdir()
    place.chmod(0o777)


def place_foreign(place: Path) -> None:
    place.mkdir(mode=0o700)
    os.chown(place, 12345, -1)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (place_link, "is a link"),
        (lambda place: place.symlink_to("nowhere"), "is a link"),
        (Path.touch, "is no folder"),
        (os.mkfifo, "is no folder"),
        (place_open, "has mode 777, not 700"),
        pytest.param(
            place_foreign,
            "belongs to another user (uid 12345)",
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away"),
        ),
    ],
)
@pytest.mark.parametrize("which", ["runtime", "parent"])
def test_a_place_that_is_not_ours_alone_is_refused_in_a_line(runtime: Path, make, told: str, which: str) -> None:  # type: ignore[no-untyped-def]
    place = runtime / "safe-sweeps"
    if which == "runtime":
        runtime.rmdir()
        place = runtime
    make(place)
    with pytest.raises(UserError) as error, scratch():
        pass
    assert str(error.value).startswith(f"{place}, where Ray's files would lie, {told}; ")
    assert RUNTIME in str(error.value)
    assert "\n" not in str(error.value)


def test_a_place_that_anyone_may_exchange_is_refused(runtime: Path) -> None:
    runtime.parent.chmod(0o777)
    with pytest.raises(UserError, match="can be exchanged by anyone"):
        scratch_parent()
    runtime.parent.chmod(0o1777)
    assert scratch_parent() == runtime / "safe-sweeps"


def test_what_killed_sweeps_left_goes_and_nothing_else(runtime: Path, tmp_path: Path) -> None:
    """Links are not followed, pipes not waited for, and what a living sweep has is left to it."""
    victim = tmp_path / "results" / "sweeps" / "x"
    victim.mkdir(parents=True)
    (victim / "lock").touch()
    (victim / "ledger.jsonl").write_text("all that was found")
    parent = runtime / "safe-sweeps"
    left = parent / "left"
    (left / "session").mkdir(parents=True)
    parent.chmod(0o700)
    (left / "session_latest").symlink_to(victim)
    os.mkfifo(left / "lock")
    (parent / "link").symlink_to(victim)
    os.mkfifo(parent / "pipe")
    with scratch() as living, scratch() as second:
        assert Path(living).is_dir()
        assert Path(second).is_dir()
        assert not left.exists()
        assert (victim / "ledger.jsonl").read_text() == "all that was found"
    assert {entry.name for entry in parent.iterdir()} == {"link", "pipe"}


def test_what_another_process_has_stays_until_its_end(runtime: Path) -> None:
    ours, theirs = multiprocessing.get_context("fork").Pipe()

    def hold() -> None:
        with scratch() as folder:
            theirs.send(folder)
            theirs.recv()
            os._exit(9)  # as a kill would, without removing anything

    process = multiprocessing.get_context("fork").Process(target=hold)
    process.start()
    held = Path(ours.recv())
    with scratch():
        assert held.is_dir()
    ours.send(None)
    process.join()
    assert held.is_dir()
    with scratch():
        assert not held.exists()


def test_the_folder_of_tunes_own_files_belongs_to_its_owner_alone(tmp_path: Path) -> None:
    for folder in (tmp_path / "new" / "ray", tmp_path / "open"):
        if folder.name == "open":
            folder.mkdir()
            folder.chmod(0o777)
        private_folder(folder)
        assert mode(folder) == 0o700
