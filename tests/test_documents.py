"""The documents: no dead link, no dead anchor, every page in reach, and the site can be built."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
GENERATED = {"settings.md"}  # by docs/site.py


def prose(page: Path) -> str:
    """Return a page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target or target in GENERATED:
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            dead.append(target)
    assert dead == []


def test_the_readme_is_one_screen_of_reading_and_names_every_guide() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert len(readme.splitlines()) <= 150
    for picture in re.findall(r"\]\((docs/images/[^)]+)\)", readme):
        assert (ROOT / picture).stat().st_size < 300_000, picture


def test_messages_of_the_page_of_troubles_are_those_of_the_product() -> None:
    rows = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs" / "troubleshooting.md").read_text("utf-8"), re.M)
    files = [file for package in ("safe", "sweeps", "tracking") for file in sorted((ROOT / package).rglob("*.py"))]
    texts = " ".join([*(file.read_text("utf-8") for file in files), (ROOT / "Makefile").read_text("utf-8")])
    assert len(rows) > 9
    for message in rows:
        parts = [part.strip() for part in re.split(r"\.\.\.|'x'|DAT\w+|31\.0 GiB of|\(pid|\bN$|: did", message)]
        missing = [part for part in parts if len(part) > 8 and part not in texts]
        assert missing == [], message


@pytest.mark.skipif(find_spec("material") is None, reason="needs the extra `docs`")
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "fast.feature_weight" in (tmp_path / "settings.html").read_text("utf-8")
