"""`python -m sweeps`, and the command `sweeps`."""

from __future__ import annotations

import sys
from importlib.util import find_spec

# What the extra `sweeps` installs, by the names that are imported; the trainer does without.
EXTRA = ("jinja2", "mlflow", "optuna", "pandas", "plotly", "pydantic_core", "ray", "scipy")


def main() -> int:
    """Run the command line and return its exit code: see `sweeps.cli.main`; 2 where the extra is not installed."""
    if missing := [name for name in EXTRA if find_spec(name) is None]:
        print(
            f"error: sweeps need {', '.join(missing)}, and this installation has the trainer alone; "
            "install the rest: pip install 'safe-sweeps[sweeps]', in a checkout pip install '.[sweeps]'",
            file=sys.stderr,
        )
        return 2
    from sweeps.cli import main as command_line

    return command_line()


if __name__ == "__main__":
    sys.exit(main())
