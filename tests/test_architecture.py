"""Who may import whom, what no file of the repository may hold, and what is called how."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("safe", "sweeps", "tracking")

# Module (or package) -> what it and everything below it must not import.
FORBIDDEN = {
    "safe": ("ray", "mlflow", "pandas", "sweeps", "tracking"),
    "tracking": ("safe", "sweeps", "ray", "torch"),
}
NUMERICS = ("safe.losses", "safe.evaluation.aggregation", "safe.evaluation.metrics", "safe.heads")
ABOVE_NUMERICS = tuple(f"safe.{m}" for m in ("config", "trainer", "build", "data", "learners", "evaluate", "pet"))
RULES = {**FORBIDDEN, **dict.fromkeys(NUMERICS, ABOVE_NUMERICS)}

# What these libraries keep to themselves, by names of its modules and objects, stands in one module of a package.
COMPAT = ("sweeps.engine.compat", "tracking.compat")
PRIVATE = re.compile(r"(ray|mlflow|optuna)\.(.*\.)?_\w|ray\.(tune\.execution|air)\b|mlflow\.(store|server)\b")

# The rooms of a package, folders and single modules, each importing only what stands before it; docs/architecture.md
# says what they hold.
ROOMS = {
    "safe": (
        "errors", "seeding", "types", "io", "datasets", "heads", "config", "evaluation", "losses", "pet",
        "backbones", "data", "learners", "states", "sharing", "training", "predictor", "cli",
    ),
    "sweeps": (
        "spec", "ledger", "results", "search", "worker", "model", "engine", "report", "studies", "doctor", "cli",
        "cluster",
    ),
}  # fmt: skip


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources() -> dict[str, str]:
    return {
        module_name(path): path.read_text("utf-8")
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    }


def imports(code: str) -> set[str]:
    """Return every imported name with its module, wherever the import stands: `a`, `a.b`, `a.b.name`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def below(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def room(module: str) -> str:
    """Return the folder or module right below the package; the empty text for the package's own faces."""
    parts = module.split(".")
    return "" if len(parts) == 1 or parts[1] == "__main__" else parts[1]


def arrows(modules: Mapping[str, str]) -> dict[str, set[str]]:
    """Return for every module those of our modules that it imports, wherever the import stands."""
    graph: dict[str, set[str]] = {}
    for module, code in modules.items():
        graph[module] = set()
        for name in imports(code):
            while name and name not in modules:
                name = name.rpartition(".")[0]
            if name and name != module:
                graph[module].add(name)
    return graph


def violations(modules: Mapping[str, str], rules: Mapping[str, Iterable[str]]) -> list[str]:
    return [
        f"{module} imports {name}"
        for module, code in modules.items()
        for owner, forbidden in rules.items()
        if below(module, owner)
        for name in sorted(imports(code))
        if any(below(name, other) for other in forbidden)
    ]


def test_the_test_sees_the_packages() -> None:
    seen = sources()
    counts = {package: sum(below(module, package) for module in seen) for package in PACKAGES}
    assert counts["safe"] > 30
    assert counts["tracking"] > 5
    assert counts["sweeps"] > 5
    for owner in RULES:
        assert any(below(module, owner) for module in seen), owner
    assert sum(len(imports(code)) for code in seen.values()) > 200
    assert any(below(name, "safe") for m, code in seen.items() if below(m, "sweeps") for name in imports(code))


def test_packages_import_downwards_only() -> None:
    assert violations(sources(), RULES) == []


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("safe.training.trainer", "import ray"),
        ("safe.data.new", "def f():\n    from mlflow.tracking import MlflowClient"),
        ("safe", "import pandas as pd"),
        ("safe.evaluation.metrics", "import os, tracking.recorder"),
        ("tracking.jsonl", "import torch.nn"),
        ("tracking.memory", "if True:\n    from safe import types"),
        ("safe.losses", "from safe.config import Config"),
        ("safe.heads.ridge", "from safe import trainer"),
        ("safe.heads.new", "from safe.data.sources import Dataset"),
        ("safe.evaluation.aggregation", "import safe.learners.fast"),
    ],
)
def test_a_violation_is_caught(module: str, code: str) -> None:
    assert len(violations({module: code}, RULES)) == 1


@pytest.mark.parametrize("package", ROOMS)
def test_the_rooms_of_a_package_import_downwards_only(package: str) -> None:
    """Each room imports only what stands before it in `ROOMS`; the faces of the package may import any."""
    order = ROOMS[package]
    upwards = [
        f"{module} imports {other}"
        for module, others in arrows(sources()).items()
        for other in others
        if below(module, package) and below(other, package) and "" not in (room(module), room(other))
        if order.index(room(module)) < order.index(room(other))
    ]
    assert upwards == []


@pytest.mark.parametrize("package", ROOMS)
def test_every_room_has_its_place(package: str) -> None:
    there = {room(module) for module in sources() if below(module, package)} - {""}
    assert there == set(ROOMS[package])


def room_arrows(modules: Mapping[str, str], package: str) -> set[tuple[str, str]]:
    """Return which rooms of a package import which others of it; its faces, which may import any, do not count."""
    pairs = {(room(module), room(other)) for module, others in arrows(modules).items() for other in others
             if below(module, package) and below(other, package)}  # fmt: skip
    return {(one, other) for one, other in pairs if one != other and "" not in (one, other)}


@pytest.mark.parametrize(("package", "most"), [("safe", 65), ("sweeps", 45)])
def test_few_rooms_need_each_other(package: str, most: int) -> None:
    """A new pair of rooms is a decision: what both need may belong to a room that they import already."""
    seen = sorted(room_arrows(sources(), package))
    assert most / 2 < len(seen) <= most, seen
    assert room_arrows({"a.b.c": "from a import d", "a.d": "import a.b.e", "a.b.e": "", "a": "import a.d"}, "a") == {
        ("b", "d"), ("d", "b"),
    }  # fmt: skip


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = arrows(sources())
    assert sum(map(len, graph.values())) > 400
    assert list(TopologicalSorter(graph).static_order())


def test_a_circle_is_caught() -> None:
    code = {"safe.a": "from safe import b", "safe.b": "def f():\n    import safe.c", "safe.c": "from safe.a import x"}
    with pytest.raises(CycleError):
        list(TopologicalSorter(arrows(code)).static_order())


def test_the_document_shows_the_rooms_in_their_order() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    for package, order in ROOMS.items():
        section = text.split(f"## `{package}/`")[1].split("\n## ")[0]
        assert re.findall(r"^\| `([a-z_]+)", section, flags=re.MULTILINE) == list(order), package


def private(modules: Mapping[str, str]) -> list[str]:
    return [
        f"{module} imports {name}"
        for module, code in modules.items()
        if module not in COMPAT
        for name in sorted(imports(code))
        if PRIVATE.match(name)
    ]


def test_private_interfaces_of_others_stand_in_one_module_a_package() -> None:
    seen = sources()
    assert private(seen) == []
    for module in COMPAT:
        assert len(private({f"not.{module}": seen[module]})) > 2, module


@pytest.mark.parametrize(
    "code", ["from ray._private import worker", "def f():\n    import mlflow.store.db.utils", "from optuna import _x"]
)
def test_a_private_interface_elsewhere_is_caught(code: str) -> None:
    assert len(private({"sweeps.new": code})) == 1


def test_what_is_allowed_is_not_a_violation() -> None:
    allowed = {
        "sweeps.worker.trainable": "import ray\nfrom safe.training import trainer\nfrom tracking import recorder",
        "safe.heads.ridge": "from safe.heads.projection import Projection\nimport torch",
        "tracking.mlflow_recorder": "import mlflow",
        "safe.rays": "import raylib",
    }
    assert violations(allowed, RULES) == []


def test_imports_within_the_packages_lead_somewhere() -> None:
    seen = sources()
    inner = {(m, name) for m, code in seen.items() for name in imports(code) if name.split(".")[0] in PACKAGES}
    assert len(inner) > 60
    missing = [f"{m} imports {name}" for m, name in inner if name not in seen and name.rpartition(".")[0] not in seen]
    assert missing == []


# ---------------------------------------------------------------- what is said once


def prefixed(code: str) -> list[str]:
    """Return the texts of a source that begin with a split's prefix, docstrings apart."""
    tree = ast.parse(code)
    words = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in words)
    return [text for text in texts if isinstance(text, str) and text.startswith(("val/", "test/"))]


def test_a_metric_gets_its_prefix_in_one_place() -> None:
    """`safe.types.with_split` writes it."""
    assert {module: texts for module, code in sources().items() if (texts := prefixed(code))} == {}
    assert prefixed('"""test/x"""\na = "test/accuracy"\nb = f"val/{a}"\nc = "a test/x"') == ["test/accuracy", "val/"]


# ---------------------------------------------------------------- no file knows the machine it was written on


def machine_paths(text: str) -> list[str]:
    """Return absolute paths of a person's or this checkout's folder in a text."""
    patterns = [r"(?<![\w.])/(?:home|Users)/[A-Za-z][\w.-]*/", r"\b[A-Z]:\\+Users\\"]
    own = [str(path) for path in (ROOT, Path.home()) if len(path.parts) > 2]
    patterns += [rf"(?<![\w.]){re.escape(path)}(?![\w-])" for path in own]
    return [path for pattern in patterns for path in re.findall(pattern, text)]


def repository_files() -> list[Path]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0")
    return [path for name in listed if name and (path := ROOT / name).is_file()]


def test_no_file_holds_an_absolute_path_of_a_machine() -> None:
    files = repository_files()
    assert len(files) > 60
    assert Path(__file__) in files
    paths_of = {}
    for path in files:
        if path.relative_to(ROOT).parts[0] != "docker":  # a container's own home is not a machine's
            paths_of[str(path.relative_to(ROOT))] = machine_paths(path.read_bytes().decode("utf-8", errors="ignore"))
    assert {name: paths for name, paths in paths_of.items() if paths} == {}


def test_a_machine_path_is_caught() -> None:
    user = "some" + "body"
    for text in (f"/home/{user}/x", f'"/Users/{user}/data"', "C:" + rf"\Users\{user}", f"see {ROOT}/safe"):
        assert len(machine_paths(text)) == 1, text
    for text in ("/path/to/file", "~/data", "docs/home/page/x", "<root>/train", "https://a.b/home/"):
        assert machine_paths(text) == [], text


# ---------------------------------------------------------------- what things and files are called after

FOLDERS = (*PACKAGES, "tests", "benchmarks", "examples")
EMPTY_NAMES = {"found"}  # a reader would have to look up what was found


def names(code: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of every variable, parameter, attribute and keyword argument."""
    for node in ast.walk(ast.parse(code)):
        name = getattr(node, "id", None) or getattr(node, "arg", None) or getattr(node, "attr", None)
        if isinstance(name, str):
            yield node.lineno, name  # type: ignore[attr-defined]


def test_nothing_is_called_by_a_word_that_says_nothing() -> None:
    files = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    assert len(files) > 250
    assert [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in files
        for line, name in names(path.read_text("utf-8"))
        if name in EMPTY_NAMES
    ] == []


@pytest.mark.parametrize("code", ["found = 1", "def f(found): ...", "a.found", "f(found=1)", "f'{found}'"])
def test_such_a_name_is_caught(code: str) -> None:
    assert "found" in [name for _, name in names(code)]


def test_every_test_file_says_in_its_first_line_what_it_is_about() -> None:
    tests = {
        path: ast.get_docstring(ast.parse(path.read_text("utf-8"))) for path in (ROOT / "tests").rglob("test_*.py")
    }
    assert len(tests) > 120
    silent = [path for path, words in tests.items() if not (words or "").partition("\n")[0].endswith(".")]
    assert silent == []
