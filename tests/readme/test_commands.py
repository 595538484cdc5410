"""Every command of the documents exists: its target, its variables, its subcommand, its flags and its settings."""

from __future__ import annotations

import argparse
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Sequence

import pytest

from safe.config import setting_names
from sweeps.spec.runs import DEFAULT_SEEDS
from sweeps.spec.specs import DEFAULT_TRIALS, SweepSpec

from .commands import ROOT, Command, commands, commands_of, python_blocks

MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
VARIABLES = {"RAY_ADDRESS"} | set(re.findall(r"^([A-Z_]+) *[:?]=", MAKEFILE, re.MULTILINE))
OTHERS = ("pytest", "venv", "pip", "mlflow", "mkdocs")  # modules that are not ours


class ParsedError(Exception):
    """The command line was understood."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        super().__init__()
        self.arguments = arguments


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> object:
    """Give a function that lets a module parse words and do nothing; it returns what is wrong with them."""
    parse = argparse.ArgumentParser.parse_args

    def stop(parser: argparse.ArgumentParser, *arguments: object, **options: object) -> None:
        raise ParsedError(parse(parser, *arguments, **options))  # type: ignore[call-overload]

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    monkeypatch.syspath_prepend(str(ROOT))  # the benchmarks are not installed

    def refusal(module: str, words: Sequence[str]) -> str:
        monkeypatch.setattr(sys, "argv", [module, *words])
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except ParsedError as error:
            given = vars(error.arguments)
            names = [word.partition("=")[0] for word in given.get("settings") or given.get("overrides") or ()]
            return ", ".join(f"no setting {name}" for name in names if name not in setting_names())
        except SystemExit:
            return capsys.readouterr().err
        raise AssertionError(f"python -m {module} parsed nothing")

    return refusal


def _calls(command: Command) -> list[tuple[str, list[str]]]:
    """Return the modules that a command runs, with their words; of make what its recipe would run."""
    lines = [command.text]
    if command.text.startswith("make "):
        words = ["make", "--dry-run", "--assume-old=.venv/.ready", *shlex.split(command.text)[1:]]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        lines = done.stdout.splitlines()
    calls = []
    for line in lines:
        if re.search(r"\S*python\S* -m ", line) and "test -x" not in line:
            words = shlex.split(line)
            place = words.index("-m")
            calls.append((words[place + 1], words[place + 2 :]))
    return [(module, words) for module, words in calls if module not in OTHERS]


@pytest.mark.parametrize("command", [c for c in commands() if c.text.startswith("make ")], ids=str)
def test_targets_and_variables_are_those_of_the_makefile(command: Command) -> None:
    words = shlex.split(command.text)[1:]
    assert {word for word in words if "=" not in word} <= TARGETS
    assert {word.partition("=")[0] for word in words if "=" in word} <= VARIABLES


@pytest.mark.parametrize(
    "command", [c for c in commands() if c.text.startswith(("make ", "python ")) and "PYTHON" not in c.text], ids=str
)
def test_modules_subcommands_flags_and_settings_are_there(command: Command, parsed) -> None:  # type: ignore[no-untyped-def]
    for module, words in _calls(command):
        wrong = parsed(module, words)
        if command.inline and re.search("arguments are required|expected (one|at least one) argument", wrong):
            continue  # a part of a command, as sentences name it
        assert not wrong, f"{command}: python -m {module} {shlex.join(words)}: {wrong}"


def test_what_is_checked_can_fail(parsed) -> None:  # type: ignore[no-untyped-def]
    assert "unknown option --trails" in parsed("sweeps", ["run", "--trails", "8"])
    assert "unknown command 'rum'" in parsed("sweeps", ["rum"])
    assert "no setting fast.epoch" in parsed("sweeps", ["run", "fast.epoch=3"])
    assert "arguments are required" in parsed("sweeps", ["compare"])


def test_the_commands_are_found() -> None:
    texts = [str(c) for c in commands()]
    assert len(texts) > 80
    assert any(text.endswith(" make sweep") for text in texts)
    text = "Say `make\nplan A=1`.\n\n    make ui   # here\n    slow.epochs: 20\n\n```python\nmake no\n```\n"
    assert [(c.text, c.line, c.inline) for c in commands_of("x.md", text + "```sh\npython -m x\n```")] == [
        ("make ui", 4, False),
        ("python -m x", 11, False),
        ("make plan A=1", 1, True),
    ]


def test_programs_of_the_documents_compile() -> None:
    blocks = python_blocks()
    assert blocks
    for block in blocks:
        compile(block, "document", "exec")


def test_the_table_of_variables_has_the_defaults_of_the_product() -> None:
    rows = dict(
        re.findall(r"^\| `([A-Z_]+)` \| `?([^|`]*?)`? \|", (ROOT / "docs/sweeps.md").read_text("utf-8"), re.MULTILINE)
    )
    assert set(rows) <= VARIABLES
    assert (rows["TRIALS"], rows["SEEDS"]) == (str(DEFAULT_TRIALS), str(DEFAULT_SEEDS))
    assert rows["SEARCH"] == SweepSpec.model_fields["search"].default
    assert rows["RESULTS"] == re.search(r"^RESULTS  \?= (.*)", MAKEFILE, re.MULTILINE)[1]  # type: ignore[index]
