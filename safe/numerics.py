"""Which of our modules numbers depend on, and one digest of what they say.

The digest is of the syntax tree without docstrings, so comments, layout and words change nothing, and a commit that
leaves these modules alone keeps every finished stage valid. Modules of a user's own, which bring a data set, PET or
backbone, are part of it: what they gave before they were edited is never mixed with what they give now.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import os
import sys
import textwrap
import uuid
from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from safe.errors import UserError

# Everything between the pixels of a data set (known by its digest) and a learner's scores. A package stands for all its
# modules. What stands nowhere here must not change a stage: a test has the list of the others.
NUMERICS = (
    "backbones", "data.cache", "data.images", "data.parallel", "data.sources", "data.stream", "data.transforms",
    "evaluation.logits", "heads", "learners", "losses", "pet", "seeding", "sharing", "training.build",
    "training.features", "training.inputs", "training.session_end", "training.steps", "training.trainer",
)  # fmt: skip


_OWN: dict[str, str] = {}  # digests of a user's own modules as they were imported, by name
_FOLDERS: dict[str, None] = {}  # where those lie that were imported by name, in order


def import_own(names: Iterable[str]) -> None:
    """Import modules of a user's own, which register what they bring, and let their sources tell stages apart.

    They are looked for in the working folder too. Of a package all modules count, of what they import nothing.

    Raises:
        UserError: there is no such module. What a module itself raises is passed on.
    """
    for name in names:
        if not all(part.isidentifier() for part in name.split(".")):
            raise UserError(f"--import {name!r}: write a module as Python imports it, my_module or my.module, no path")
        if (here := os.getcwd()) not in sys.path:
            sys.path.append(here)
        try:
            module = import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # it is there, and what it imports is not
            raise UserError(
                f"--import {name}: there is no module {error.name!r} in {here}, in PYTHONPATH or installed"
            ) from None
        file = Path(module.__file__ or "")
        if file.suffix != ".py":
            continue
        package = file.name == "__init__.py"
        _FOLDERS[str(file.resolve().parents[name.count(".") + package])] = None
        parts = sorted(file.parent.rglob("*.py")) if package else [file]
        texts = [(part.relative_to(file.parent).as_posix(), part.read_text("utf-8")) for part in parts]
        _OWN[name] = sources_digest(texts)


def own_folders() -> list[str]:
    """Return the folders of the modules that were imported by name, for processes that shall find them too."""
    return list(_FOLDERS)


def note_source(registered: Callable[..., Any]) -> None:
    """Let the source of what a user registers tell stages apart; see `own_code_digest`."""
    if digest := own_code_digest(registered):
        _OWN[f"{registered.__module__}.{registered.__qualname__}"] = digest


def numerics_digest() -> str:
    """Return the SHA-256 of the modules in `NUMERICS` as they are installed, and of a user's own."""
    shipped = _shipped_digest()
    return hashlib.sha256(repr([shipped, *sorted(_OWN.items())]).encode()).hexdigest() if _OWN else shipped


@cache
def _shipped_digest() -> str:
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
