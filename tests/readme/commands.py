"""The commands of README.md, SECURITY.md and docs/, as they stand there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = (ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md")))
_STARTS = re.compile(r"([A-Z_]+=\S+ )*(make|python|mlflow|git|docker|ray|export|pip) ")
_CALLS = re.compile(r"(make|python -m) ")


@dataclass(frozen=True)
class Command:
    """A command: in a block of its own, where it is whole, or `inline` in a sentence, where it may be a part."""

    document: str
    line: int
    text: str
    inline: bool = False

    def __str__(self) -> str:
        return f"{self.document}:{self.line} {self.text}"


def commands() -> list[Command]:
    """Return every command of every document, in order."""
    return [command for document in DOCUMENTS for command in commands_of(document.name, document.read_text("utf-8"))]


def commands_of(document: str, text: str) -> Iterator[Command]:
    """Yield the commands of a document: lines of indented and of shell blocks, and code in sentences."""
    fence: str | None = None
    sentences: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("```"):
            fence = line.strip(" `") if fence is None else None
            sentences.append("")
        elif fence is None and not line.startswith("    "):
            sentences.append(line)
        else:
            sentences.append("")
            if fence in (None, "sh", "bash", "console") and _STARTS.match(words := line.strip()):
                yield Command(document, number, re.sub(r"\s{2,}#.*", "", words))
    prose = "\n".join(sentences)
    for match in re.finditer(r"`([^`]+)`", prose):
        words = " ".join(match[1].split())
        if _CALLS.match(f"{words} "):
            yield Command(document, prose.count("\n", 0, match.start()) + 1, words, inline=True)


def python_blocks() -> list[str]:
    """Return the Python programs of every document."""
    pattern = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [block for document in DOCUMENTS for block in pattern.findall(document.read_text("utf-8"))]
