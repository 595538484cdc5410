"""The shared argument parser: options anywhere, written in full."""

from __future__ import annotations

from pathlib import Path

import pytest

from safe.cli.parser import Parser


@pytest.fixture
def parser() -> Parser:
    parser = Parser(prog="tool")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("--json", action="store_true")
    run.add_argument("--name")
    run.add_argument("words", nargs="*")
    look = commands.add_parser("look")
    look.add_argument("place")
    look.add_argument("--json", action="store_true")
    look.add_argument("sizes", nargs="+", type=int)
    show = commands.add_parser("show")
    show.add_argument("folder", type=Path)
    return parser


@pytest.mark.parametrize(
    "line",
    ["a=1 b=2 --json --name x", "--json a=1 --name x b=2", "a=1 --json b=2 --name x", "--name x --json a=1 b=2"],
)
def test_words_stand_anywhere_around_options(parser: Parser, line: str) -> None:
    arguments = parser.parse_args(["run", *line.split()])
    assert (arguments.words, arguments.json, arguments.name) == (["a=1", "b=2"], True, "x")


def test_words_have_their_type_and_may_be_none(parser: Parser) -> None:
    assert parser.parse_args(["look", "here", "1", "--json", "2", "3"]).sizes == [1, 2, 3]
    assert parser.parse_args(["run", "--json"]).words == []


def refused(parser: Parser, line: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(line.split())
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "command", "message"),
    [
        ("run a=1 --jsn b=2", "run", "unknown option --jsn. Did you mean '--json'?"),
        ("run --nam=x", "run", "unknown option --nam=x. Did you mean '--name'?"),
        ("run --js", "run", "unknown option --js. Did you mean '--json'?"),
        ("--hepl run", "", "unknown option --hepl. Did you mean '--help'?"),
        ("sohw a", "", "unknown command 'sohw'; choose one of: run, look, show. Did you mean 'show'?"),
        ("show a b", "", "unrecognized arguments: b"),
        ("look here 1 --json x", "look", "argument sizes: invalid int value: 'x'"),
    ],
)
def test_what_does_not_fit_is_refused(
    parser: Parser, capsys: pytest.CaptureFixture[str], line: str, command: str, message: str
) -> None:
    """One message and where to read on, without all of the usage."""
    told = f"error: {message}\n{' '.join(['tool', command]).strip()} --help shows what there is\n"
    assert refused(parser, line, capsys) == told
