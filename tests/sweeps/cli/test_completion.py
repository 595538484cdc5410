"""Completion in bash: the script is run and asked what it would offer."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sweeps.cli import main


def offered(script: str, folder: Path, *words: str) -> list[str]:
    """Return what bash would offer for the last of the words."""
    asked = f"COMP_WORDS=({' '.join(map(repr, words))}); COMP_CWORD={len(words) - 1}; compopt() {{ :; }}; _sweeps"
    code = f'{script}\n{asked}; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_bash_completes_commands_options_choices_settings_and_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RESULTS", raising=False)
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    (tmp_path / "results" / "sweeps" / "demo-1").mkdir(parents=True)
    assert offered(script, tmp_path, "sweeps", "re") == ["resume", "report"]
    assert offered(script, tmp_path, "sweeps", "run", "--sear") == ["--search", "--search-seed"]
    assert offered(script, tmp_path, "sweeps", "run", "--search", "") == ["staged", "tpe", "random", "grid"]
    assert offered(script, tmp_path, "sweeps", "run", "fast.ep") == ["fast.epochs="]
    assert offered(script, tmp_path, "sweeps", "show", "de") == ["demo-1"]


def test_other_shells_are_refused_with_the_choices(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "fish"]) == 2
    assert "choose one of: bash, zsh" in capsys.readouterr().err
    assert main(["completion", "zsh"]) == 0
    assert capsys.readouterr().out.startswith("autoload -U +X bashcompinit")
