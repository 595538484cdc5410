"""Whatever is written in a file or on the command line: a valid configuration that round-trips, or one message."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safe.cli.main import main
from safe.config import Config, load_config, parse_overrides, setting_names, validate
from safe.errors import UserError
from safe.io.documents import parse_yaml, yaml_text

FUZZ = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

names = st.sampled_from(setting_names())
numbers = st.one_of(st.integers(), st.floats(), st.sampled_from([0, 1, -1, 1e-300, 1e300, 2**31, 2**63]))
words = st.one_of(st.text(max_size=12), st.sampled_from(["auto", "adapter", "learned", "none", "test", "true", "1e3"]))
leaves = st.one_of(numbers, words, st.none(), st.booleans(), st.binary(max_size=4), st.dates())
values = st.recursive(leaves, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner)))
# Mostly real names, so that values are what is refused; now and then one that does not exist.
settings_of_a_run = st.dictionaries(st.one_of(names, names, names, words), values, max_size=4)


def is_whole(config: Config) -> None:
    flat = config.flat()
    assert set(flat) == set(setting_names())
    assert validate(flat) == config
    assert validate(json.loads(json.dumps(flat, allow_nan=False))) == config
    assert validate(parse_yaml(yaml_text(flat), "its own file")) == config


def refusal(make: Callable[[], Config]) -> str | None:
    """Return the message that refuses a configuration, or None for a valid one that round-trips."""
    try:
        config = make()
    except UserError as error:
        return str(error)
    is_whole(config)
    return None


@FUZZ
@given(settings_of_a_run)
def test_any_mapping_is_a_valid_configuration_or_refused_in_words(flat: dict[str, Any]) -> None:
    told = refusal(lambda: validate(flat))
    assert told is None or len(told.splitlines()) > 1, "it says what is wrong, a line each"


@FUZZ
@given(st.one_of(st.text(max_size=60), settings_of_a_run.map(lambda flat: yaml.dump(flat))))
def test_any_file_is_a_valid_configuration_or_refused_in_words(tmp_path: Path, text: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(text, "utf-8")
    assert refusal(lambda: load_config("digits", file=file)) != ""


@FUZZ
@given(names, st.text(max_size=20))
def test_any_override_is_taken_or_refused_in_words(name: str, text: str) -> None:
    told = refusal(lambda: validate(parse_overrides([f"{name}={text}"])))
    assert told is None or name in told


@settings(FUZZ, max_examples=40)
@given(st.lists(st.one_of(st.text(max_size=15), st.builds("{}={}".format, names, words)), max_size=3))
def test_the_command_line_never_shows_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # the data set is in none of the folders, so that no training begins
    try:
        code = main(["train", "--dataset", "cub200", "data.root=nowhere", *arguments])
    except SystemExit as exit:  # the parser's own way out
        code = int(exit.code or 0)
    told = capsys.readouterr()
    assert code == 2 or any(word.startswith(("-h", "--h")) for word in arguments)
    assert "error:" in told.err or code == 0
    assert "Traceback" not in told.err
