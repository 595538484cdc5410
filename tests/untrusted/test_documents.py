"""Every test that SECURITY.md and docs/reliability.md name exists where they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("document", ["SECURITY.md", "docs/reliability.md"])
def test_the_named_tests_exist(document: str) -> None:
    text = (ROOT / document).read_text("utf-8")
    everywhere = "\n".join(file.read_text("utf-8") for file in (ROOT / "tests").rglob("test_*.py"))
    missing, named = [], 0
    for cell in re.split(r"[|;\n]", text):
        files = [ROOT / path for path in re.findall(r"`(tests/[\w/]+\.py)`", cell)]
        missing += [str(file) for file in files if not file.is_file()]
        code = "\n".join(file.read_text("utf-8") for file in files if file.is_file()) or everywhere
        for name in re.findall(r"`(test_\w+)`", cell):
            named += 1
            if f"def {name}(" not in code:
                missing.append(name)
    assert missing == []
    assert named > 20
