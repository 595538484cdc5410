"""Rounds: which jobs of a search are proposed together."""

from __future__ import annotations

from dataclasses import dataclass

from sweeps.ledger.jobs import Kind


@dataclass(frozen=True)
class Round:
    """Jobs of one kind that are proposed at once, before any result of theirs is known."""

    kind: Kind
    indices: range

    @property
    def first(self) -> bool:
        """Whether no job of this kind came before."""
        return self.indices.start == 0


def in_rounds(trials: int, size: int) -> list[Round]:
    """Return trials cut into rounds of `size`; the cuts stay where they are when there are more trials."""
    return [Round(Kind.TRIAL, range(start, min(start + size, trials))) for start in range(0, trials, size)]
