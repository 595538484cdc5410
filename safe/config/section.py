"""A group of settings that describe themselves."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, field_validator

from safe.config.marks import Acts, Needs


class Section(BaseModel):
    """A group of settings; `acts` and `needs` are the marks of those that have none of their own."""

    acts: ClassVar[Acts | None] = None
    needs: ClassVar[tuple[Needs, ...]] = ()
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @field_validator("*")
    @classmethod
    def _no_nul(cls, value: Any) -> Any:
        if isinstance(value, str) and "\0" in value:
            raise ValueError(f"no name and no path has a NUL in it, got {value!r}")
        return value
