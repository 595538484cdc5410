"""Every command of a block of the documents does what it is there for, in a fresh shell, and leaves nothing behind."""

from __future__ import annotations

import re
import socket
import subprocess
import time
import urllib.request

import pytest

from sweeps.ledger.folders import Folders

from .commands import commands, python_blocks
from .conftest import Clone

NETWORK, DOCKER, CLUSTER = "needs the network", "needs Docker", "needs a cluster"
# Not run, and why. A command that is neither here nor run fails a test.
NOT_RUN = {
    "git clone <this repository> && cd <its folder>": "the tests clone",
    "make lint test": "this is one",
    "make drop NAME=first-light ID=trial-03": "the trial has to be running",
    "python -m safe.data check birds": "its pictures are divided further down",
    "make test-cluster": DOCKER,
    "make test-faults": "tests of their own",
    "make test-browser": "tests of their own",
    "make test-readme": "this is it",
    "make audit": NETWORK,
    "make bench": "measures for hours",
    "make bench SUITE=step": "measures for minutes",
    "make bench SUITE=head": "measures for minutes",
    "python -m benchmarks.page": "writes what was measured into the documents",
    "make data DATASET=omnibenchmark": NETWORK,
    "make weights DATASET=omnibenchmark": NETWORK,
    "make sweep DATASET=omnibenchmark": NETWORK,
    'make sweep DATASET=/data/birds INIT=10 INC=10 ARGS="backbone.name=vit_base_patch16_224.augreg_in21k"': NETWORK,
    "make sweep DATASET=glyphs CLUSTER=1": DOCKER,
    "export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=...": CLUSTER,
    "export RESULTS=/shared/results SAFE_DATA=/shared/data MLFLOW_TRACKING_URI=http://mlflow:5000": CLUSTER,
    "make sweep DATASET=cifar100 NAME=c100 WORKERS=4 RAY_ADDRESS=http://head:8265": CLUSTER,
    "make cluster-logs NAME=c100 RAY_ADDRESS=http://head:8265": CLUSTER,
    "make sweep DATASET=cifar100 NAME=c100 WORKERS=4 RAY_ADDRESS=auto": CLUSTER,
}
# The same by what stands in a command.
NEEDS = {
    r"^make cluster-|^docker |CLUSTER=1": DOCKER,
    r"RAY_ADDRESS=http": CLUSTER,
    r"lvd142m": "needs weights that are not in the repository",
    r"\bemoji\b|fashion_|class_order=order\.txt": "needs pictures that are not in the repository",
    r"^python -m benchmarks\.|^make ablation DATASET=glyphs SEEDS=5": "measures for minutes",
}
# Run with smaller settings, because the whole takes an hour.
SHORT = "slow.epochs=1 fast.epochs=1"
SMALLER = {
    "make ablation DATASET=glyphs SEEDS=3": f' ARGS="--variants ranpac,safe {SHORT}"',
    "make audit-claim DATASET=quickstart CONFIG=examples/released_cifar100.yaml TRIALS=4 SEEDS=3 FINALISTS=0 "
    "ARGS=head.kind=ridge": f' SEEDS=2 ARGS="{SHORT}"',
}
# They serve until they are stopped: what answers, on which port.
SERVERS = {
    "make ui": "/",
    "make serve DATASET=digits": "/ping",
}
STOPS = "make stop NAME=first-light"  # a sweep that runs
# What a command is asked to leave in the working folder.
LEAVES = {
    "python -m safe train --dataset digits --state run.state --save digits.state": {"run.state", "digits.state"},
    "python -m safe.data split pictures/ birds --test 0.2 --seed 0": {"birds/"},
}
ACTIVATE = ". .venv/bin/activate && "


def _blocks() -> list[str]:
    return list(dict.fromkeys(command.text for command in commands() if not command.inline))


def _run() -> list[str]:
    return [text for text in _blocks() if text not in NOT_RUN and not any(re.search(need, text) for need in NEEDS)]


@pytest.fixture(scope="session")
def used(clone: Clone) -> Clone:
    """Return the clone with the sweeps that the documents call first-light and second."""
    for name in ("first-light", "second"):
        done = clone.run(f'make sweep DATASET=digits NAME={name} TRIALS=2 SEEDS=2 ARGS="{SHORT}"')
        assert done.returncode == 0, done.stderr
    assert clone.left() == clone.before
    return clone


def _new(clone: Clone) -> set[str]:
    return {name for name in clone.left() if not any(name.startswith(tuple(left)) for left in LEAVES.values())}


def test_what_is_not_run_still_stands_in_a_document() -> None:
    known = {*NOT_RUN, *SMALLER, *SERVERS, *LEAVES, STOPS}
    assert known <= {*_blocks(), "make test-readme"}
    assert all(any(re.search(need, text) for text in _blocks()) for need in NEEDS)


def test_a_fresh_clone_sweeps_as_the_quick_start_says(clone: Clone) -> None:
    done = clone.run("make sweep")
    assert done.returncode == 0, done.stderr
    assert "chosen" in done.stdout
    assert clone.left() == clone.before


@pytest.mark.parametrize("text", [t for t in _run() if t not in SERVERS and t not in (STOPS, "make sweep")])
def test_a_command_works_and_leaves_nothing_elsewhere(used: Clone, text: str) -> None:
    done = used.run(("" if text.startswith("make ") else ACTIVATE) + text + SMALLER.get(text, ""))
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert "Traceback" not in done.stderr
    for name in LEAVES.get(text, ()):
        assert (used.folder / name).exists()
    assert _new(used) == used.before


@pytest.mark.parametrize("text", SERVERS)
def test_a_server_answers_and_leaves_nothing_elsewhere(used: Clone, text: str) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    added = f' ARGS="--port {port}"'
    with used.background(ACTIVATE + text + added) as server:
        for _ in range(600):
            assert server.poll() is None, (used.folder.parent / "background.log").read_text()[-4000:]
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{SERVERS[text]}", timeout=60) as answer:
                    assert answer.status == 200
                break
            except OSError:
                time.sleep(0.2)
        else:
            pytest.fail("no answer")
    assert _new(used) == used.before


def test_a_sweep_is_stopped_from_another_terminal_and_resumed(used: Clone) -> None:
    name = "first-light"
    beats = Folders(used.folder / "results", name).heartbeats
    with used.background(f'make sweep DATASET=digits NAME={name} TRIALS=12 SEEDS=2 ARGS="{SHORT}"') as sweep:
        while not (beats.is_dir() and any(beats.iterdir())):
            assert sweep.poll() is None, (used.folder.parent / "background.log").read_text()[-4000:]
            time.sleep(0.2)
        done = used.run(STOPS)
        assert done.returncode == 0, done.stderr
        sweep.wait(120)
        assert sweep.returncode != 0
        assert f"continue with: make resume NAME={name}" in (used.folder.parent / "background.log").read_text()
    done = used.run(f"make resume NAME={name}")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("program", python_blocks())
def test_a_program_of_the_documents_runs(used: Clone, program: str) -> None:
    words = used.shell(f"{ACTIVATE}exec python -")
    done = subprocess.run(words, cwd=used.folder, input=program, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.strip(), "every one prints what it found"
    assert _new(used) == used.before
