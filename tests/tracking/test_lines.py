"""Lines of journals and ledgers: what is written is what is read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tracking import lines

WHOLE = st.integers(-(2**70), 2**70)
# Halves of a pair too: so come bytes of file names that are no text.
TEXTS = st.text(st.characters(exclude_categories=()) | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF))
VALUES = st.recursive(
    st.none() | st.booleans() | WHOLE | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
RECORDS = st.dictionaries(TEXTS.filter(lambda name: name not in ("line", "crc")), VALUES, max_size=6)


@given(record=RECORDS, number=st.integers(1, 10**9))
@example({"a": [-0.0, 5e-324, 1.7976931348623157e308, 0.1, 1.0, 1]}, 1)
@example({"path": "caf\udce9"}, 1)
def test_a_record_comes_back_as_it_was(record: dict[str, Any], number: int) -> None:
    read = lines.decode(lines.encode(record, number))
    assert repr(read) == repr({**record, "line": number}), "to the sign of a zero, and 1 is not 1.0"
    lines.take_number(read, number)
    assert read == record


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        lines.encode({"a": [value]}, 1)


def test_a_line_is_json_that_others_read() -> None:
    assert json.loads(lines.encode({"name": "ä", "value": 0.1}, 7)) == {
        "name": "ä",
        "value": 0.1,
        "line": 7,
        "crc": "43743a46",
    }
