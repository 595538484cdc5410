"""Pipes, sockets and devices where files are expected: passed over or refused in words, and never waited for."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from safe.cli.main import main as safe_main
from safe.data.__main__ import main as data_main
from safe.data.benchmarks.domainnet import load_domainnet, read_list
from safe.data.images import read_rgb, require_readable
from safe.datasets.facts import DOMAINS
from safe.errors import UserError
from safe.io.opening import read_regular
from safe.states.checkpoint import load_state
from safe.training.trainer import SafeTrainer
from sweeps.cli import main as sweeps_main

from .conftest import fill, picture, tiny

PATIENCE_S = 10.0
REFUSED = "it is a named pipe, and only regular files are read"


@pytest.fixture
def make_pipe(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Give a function that makes a named pipe; whoever waits for its writer fails the test instead of stopping it."""
    pipes: list[Path] = []

    def make(name: str) -> Path:
        pipes.append(tmp_path / name)
        os.mkfifo(pipes[-1])
        return pipes[-1]

    def release(*_: object) -> None:
        for pipe in pipes:
            with suppress(OSError):  # nobody waits for this one
                os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))  # whoever waits gets an empty file
        raise AssertionError("it waits for the writer of a pipe")

    before = signal.signal(signal.SIGALRM, release)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE_S, 1.0)  # again, as what it raises may be caught
    yield make
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


Pipes = Callable[[str], Path]


def test_a_device_that_never_ends_is_refused() -> None:
    for read in (read_rgb, require_readable, load_state):
        with pytest.raises(UserError, match=r"/dev/zero.*: it is a device, and only regular files are read"):
            read("/dev/zero")


def test_links_to_regular_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    (tmp_path / "link").symlink_to("a")
    assert read_regular(tmp_path / "link") == b"content"
    with pytest.raises(IsADirectoryError):
        read_regular(tmp_path)


def test_a_folder_with_pipes_trains_and_is_checked_without_them(
    tmp_path: Path, make_pipe: Pipes, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, "ab")
    for name in ("train/a/pipe.png", "test/b/pipe.jpg", "train/b/pipe"):
        make_pipe(name)
    assert data_main(["check", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "2 classes, 6 training and 4 test images" in out
    assert f"note: {tmp_path}: 3 files are passed over (named pipe: 3); images are .jpg" in out
    with pytest.warns(UserWarning, match="3 files are passed over"):
        trainer = SafeTrainer(tiny(tmp_path))
    assert [len(session.train) for session in trainer.stream.sessions] == [6]
    trainer.run_session()


def test_predict_names_a_pipe_and_passes_over_those_in_folders(
    tmp_path: Path, state: Path, make_pipe: Pipes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").mkdir()
    picture(0).save(tmp_path / "folder" / "0.png")
    make_pipe("folder/pipe.png")
    named = make_pipe("named.png")
    with pytest.warns(UserWarning, match=r"1 file is passed over \(named pipe: 1\)"):
        assert safe_main(["predict", str(state), str(named), str(tmp_path / "folder"), "--json"]) == 1
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        f"skipped: cannot read the image {named}: {REFUSED}",
        "1 of 2 images could not be read",
    ]
    assert len(captured.out.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["safe", "predict", "PIPE", "x.png"], f"cannot read the checkpoint PIPE: {REFUSED}"),
        (["safe", "evaluate", "PIPE"], f"cannot read the checkpoint PIPE: {REFUSED}"),
        (["safe", "train", "--config", "PIPE"], REFUSED),
        (["safe", "train", "--state", "PIPE"], "--state: PIPE cannot be written; name a file"),
        (["safe", "train", "--save", "PIPE"], "--save: PIPE cannot be written; name a file"),
        (["safe", "train", "backbone.weights=PIPE"], "backbone.weights=PIPE is not a file"),
        (["safe.data", "fetch", "cub200", "--root", "ROOT", "--from", "PIPE"], "is not a file"),
        (["safe.data", "weights", "test_vit.r160_in1k", "--root", "ROOT", "--from", "PIPE"], "PIPE is not a file"),
        (["sweeps", "plan", "--space", "PIPE"], f"cannot read the search space PIPE: [Errno 22] {REFUSED}"),
        (["sweeps", "predict", "--model", "PIPE", "x.png"], "--model PIPE: no state of ours there"),
    ],
)
def test_a_pipe_in_the_place_of_a_file_is_refused(
    tmp_path: Path, make_pipe: Pipes, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    pipe = str(make_pipe("pipe.safetensors"))
    picture(0).save(tmp_path / "x.png")
    command, *rest = (
        word.replace("PIPE", pipe).replace("ROOT", str(tmp_path)).replace("x.png", str(tmp_path / "x.png"))
        for word in words
    )
    main = {"safe": safe_main, "safe.data": data_main, "sweeps": sweeps_main}[command]
    assert main(rest) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert message.replace("PIPE", pipe) in captured.err


def test_lists_of_images_hold_regular_files(tmp_path: Path, make_pipe: Pipes) -> None:
    for domain in DOMAINS:
        for split in ("train", "test"):
            path = tmp_path / domain / "zebra" / f"{split}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8)).save(path)
            (tmp_path / f"{domain}_{split}.txt").write_text(f"{path.relative_to(tmp_path)} 0\n")
    assert len(load_domainnet("domainnet", tmp_path, 16).train) == len(DOMAINS)
    for name, kind in (("pipe.png", "named pipe"), ("folder.png", "folder")):
        (make_pipe if kind == "named pipe" else lambda name: (tmp_path / name).mkdir())(f"real/zebra/{name}")
        (tmp_path / "real_train.txt").write_text(f"real/zebra/{name} 0\n")
        with pytest.raises(UserError, match=rf"real_train.txt lists real/zebra/{name}, which is a {kind}, not an"):
            load_domainnet("domainnet", tmp_path, 16)
    with pytest.raises(UserError, match=f"cannot read the file list .*{REFUSED}"):
        read_list(make_pipe("list.txt"))
