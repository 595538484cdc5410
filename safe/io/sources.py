"""Python sources: modules of a user's own, and digests of what a source says.

A digest is of the syntax tree without docstrings, so comments, layout and words change nothing.
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

_OWN: dict[str, str] = {}  # digests of a user's own modules as they were imported, by name
_FOLDERS: dict[str, None] = {}  # where those lie that were imported by name, in order


def import_own(names: Iterable[str]) -> None:
    """Import modules of a user's own, which register what they bring, and let their sources tell stages apart.

    They are looked for in the working folder too. All modules of a package count, and nothing that they import.

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


def own_modules() -> list[tuple[str, str]]:
    """Return the names of a user's own modules that were imported here, sorted, each with the digest of its source."""
    return sorted(_OWN.items())


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


@cache
def own_code_digest(registered: Callable[..., Any]) -> str:
    """Return the SHA-256 of the module that a registered kind stands in; the empty text for one of this package.

    It is read once a process, so that an edit while a run goes on does not pass for what is running. A kind
    that was typed at a prompt has no module, so its own text counts. Where even that is lost, as after `exec`, the
    digest is one that never comes again, so nothing is shared with another process.
    """
    if registered.__module__.split(".")[0] == "safe":
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
