"""What MkDocs does not do by itself: the menu, the reference of all settings, formulas, the pages outside of docs/."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel

from safe.config.settings import Config

ROOT = Path(__file__).parents[1]
OUTSIDE = ("SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")
# Pages by heading; what stands nowhere here comes under the last one.
MENU = {
    "Start": ("index", "quickstart", "report", "troubleshooting"),
    "Guides": (
        "sweeps", "tuning", "own-data", "data", "backbones", "heads", "mlflow", "cluster", "cost", "python", "upgrading"
    ),
    "Reference": ("settings", "metrics", "files", "names"),
    "Background": (
        "method", "architecture", "evidence", "results", "variants", "audit-claim", "performance", "reliability"
    ),
}  # fmt: skip
OTHERS = "Project"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that no file in docs/ holds, and make the menu of those that are there."""
    files.append(File.generated(config, "settings.md", content=settings_page()))
    for name in OUTSIDE:
        files.append(File.generated(config, name, content=(ROOT / name).read_text("utf-8")))
    there = {file.src_uri.removesuffix(".md"): file.src_uri for file in files.documentation_pages()}
    listed = {name for names in MENU.values() for name in names}
    menu = {heading: [there[name] for name in names if name in there] for heading, names in MENU.items()}
    menu[OTHERS] = sorted(page for name, page in there.items() if name not in listed)
    config.nav = [{heading: pages} for heading, pages in menu.items()]
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn formulas into MathML, links to pages outside of docs/ into those of the site, and other links into code."""
    prefix = "" if page.file.src_uri in OUTSIDE else "../"
    for name in OUTSIDE:
        markdown = markdown.replace(f"]({prefix}{name}", f"]({name}")
    if not prefix:
        markdown = markdown.replace("](docs/", "](")
    markdown = re.sub(r"\[([^\]]*)\]\((?:\.\./|)(examples[^)]*|docs/[^)]*)\)", r"`\2`", markdown)
    markdown = re.sub(r"\$\$(.+?)\$\$", lambda match: convert(match[1], display="block"), markdown, flags=re.S)
    return re.sub(r"(?<![\w$`\\])\$(?=\S)([^$\n`]{1,60}?)(?<=\S)\$(?![\w$])", lambda match: convert(match[1]), markdown)


def settings_page() -> str:
    """Return the reference of every setting as the configuration describes it: type, default, meaning."""
    lines = ["# Settings", "", "As `key=value` on any command line, in a YAML file, or in a search space.", ""]
    lines += ["## Run", "", *_rows(Config, "")]
    for name, field in Config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            lines += ["", f"## {name}", "", *([field.description, ""] if field.description else [])]
            lines += _rows(field.annotation, f"{name}.")
    return "\n".join(lines)


def _rows(section: type[BaseModel], prefix: str) -> list[str]:
    rows = ["| setting | default | |", "|---|---|---|"]
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            continue
        meaning = " ".join((field.description or "").split()).replace("|", "\\|")
        rows.append(f"| `{prefix}{name}` | `{_default(field.default)}` | {meaning} |")
    return rows


def _default(value: object) -> str:
    return "" if value is None else str(value)
