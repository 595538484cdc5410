"""Which of our modules numbers depend on, and one digest of what they say.

The digest is of the syntax tree without docstrings, so comments, layout and words change nothing, and a commit that
leaves these modules alone keeps every finished stage valid.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
import textwrap
import uuid
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

# Everything between the pixels of a data set (known by its digest) and a learner's scores. A package stands for all its
# modules. What stands nowhere here must not change a stage: a test has the list of the others.
NUMERICS = (
    "backbones", "data.cache", "data.images", "data.parallel", "data.sources", "data.stream", "data.transforms",
    "evaluation.logits", "heads", "learners", "losses", "pet", "seeding", "sharing", "training.build",
    "training.features", "training.inputs", "training.session_end", "training.steps", "training.trainer",
)  # fmt: skip


@cache
def numerics_digest() -> str:
    """Return the SHA-256 of the modules in `NUMERICS` as they are installed."""
    root = Path(__file__).parent
    return sources_digest((name, (root / name).read_text("utf-8")) for name in numerics_files())


def numerics_files() -> list[str]:
    """Return the files of the modules in `NUMERICS`, relative to the package, sorted."""
    root = Path(__file__).parent
    places = [root.joinpath(*module.split(".")) for module in NUMERICS]
    files = [
        file for place in places for file in (place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")])
    ]
    return sorted(file.relative_to(root).as_posix() for file in files)


def sources_digest(sources: Iterable[tuple[str, str]]) -> str:
    """Return the SHA-256 of named Python sources, whatever their comments, layout and docstrings."""
    digest = hashlib.sha256()
    for name, text in sources:
        tree = ast.parse(text)
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list):
                node.body = [item for item in body if not _is_docstring(item)]  # type: ignore[attr-defined]
        digest.update(f"{name}\n{ast.dump(tree)}\n".encode())
    return digest.hexdigest()


def own_code_digest(registered: Callable[..., Any]) -> str:
    """Return the SHA-256 of the module that a registered kind stands in; the empty text for one of this package.

    Of what was typed at a prompt it is the kind's own text, and where there is none, as `exec` leaves it, something
    that never comes again: nothing is then shared with another process.
    """
    if registered.__module__.split(".")[0] == __package__:
        return ""
    file = getattr(sys.modules.get(registered.__module__), "__file__", None)
    try:
        text = Path(file).read_text("utf-8") if file else textwrap.dedent(inspect.getsource(registered))
    except (OSError, TypeError):
        return uuid.uuid4().hex
    return sources_digest([(registered.__module__, text)])


def _is_docstring(node: ast.AST) -> bool:
    """Whether a statement is a bare text, which does nothing."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
