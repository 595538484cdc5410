"""`python -m sweeps completion`: what a shell needs to complete the words of `sweeps`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping

from safe.config import setting_names
from sweeps.cli.common import command

SHELLS = ("bash", "zsh")
SWEEP_NAMES = '$(ls "${RESULTS:-results}/sweeps" 2>/dev/null)'
OF_A_SWEEP = ("name", "names", "first", "second")  # positional arguments that are names of sweeps
FRAME = """\
_sweeps() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} words=""
  if [ "$COMP_CWORD" -eq 1 ]; then
    words="{commands}"
  else
    case "${{COMP_WORDS[1]}} $before" in
{choices}
      *) case "${{COMP_WORDS[1]}}" in
{options}
      esac ;;
    esac
  fi
  case "$words" in *"= "*) compopt -o nospace ;; esac
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _sweeps sweeps
"""


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=" or ".join(SHELLS))


@command(
    "completion", 'print what completes the words of `sweeps` in a shell: eval "$(sweeps completion bash)"', _options
)
def _completion(arguments: argparse.Namespace) -> int:
    if arguments.shell == "zsh":
        print("autoload -U +X bashcompinit && bashcompinit")
    print(script(arguments.commands), end="")
    return 0


def script(commands: Mapping[str, argparse.ArgumentParser]) -> str:
    """Return the functions of a shell that complete commands, options, their choices, settings and names of sweeps."""
    choices = [
        f'      "{name} {option}") words="{" ".join(values)}" ;;'
        for name, parser in commands.items()
        for option, values in _choices(parser)
    ]
    options = [f'      {name}) words="{" ".join(_words(parser))}" ;;' for name, parser in commands.items()]
    listed = {"commands": " ".join(commands), "choices": "\n".join(choices), "options": "\n".join(options)}
    return FRAME.format(**listed)


def _choices(parser: argparse.ArgumentParser) -> Iterator[tuple[str, list[str]]]:
    """Yield every option that takes one of a list, as its help shows it, with the list."""
    for action in parser._actions:
        if isinstance(action.metavar, str) and action.metavar.startswith("{"):
            for option in action.option_strings:
                yield option, action.metavar.strip("{}").split(",")


def _words(parser: argparse.ArgumentParser) -> list[str]:
    words = [option for action in parser._actions for option in action.option_strings]
    free = [action.dest for action in parser._actions if not action.option_strings]
    words += [SWEEP_NAMES] if any(name in OF_A_SWEEP for name in free) else []
    words += [f"{name}=" for name in setting_names()] if "settings" in free else []
    return words + [str(c) for a in parser._actions if not a.option_strings for c in a.choices or ()]
