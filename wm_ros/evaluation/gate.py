"""A gate: a figure, what it must not pass, and what came of it; shown the same way everywhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console

WORDS = {True: 'passed', False: 'NOT passed', None: 'not judged'}


@dataclass(frozen=True)
class Gate:
    """One gate.

    Attributes:
        name: what is asked, bound and unit included.
        passed: None where it was not judged; `note` then says why.
        value: what was found; None where there is nothing.
        bound: what it is held against, in the unit of `value`; None where the run gives it.
        note: what a reader should know beside it.
    """

    name: str
    passed: bool | None
    value: float | None
    bound: float | None
    note: str = ''

    @property
    def text(self) -> str:
        """What came of it, in words."""
        found = '' if self.value is None or self.passed is None else f' {self.value:,g}'
        return f'{WORDS[self.passed]}:{found}{f" ({self.note})" if self.note else ""}'


def show(gates: Iterable[Gate], console: Console) -> None:
    """Print one line per gate, those that were missed in red."""
    for gate in gates:
        word, _, rest = gate.text.partition(':')
        style = 'red' if gate.passed is False else ''
        line = f'{word:10} {gate.name}:{rest}'
        console.print(line, style=style, highlight=False, markup=False, soft_wrap=True)


def missed(gates: Iterable[Gate]) -> list[str]:
    """Return the names of the gates that were judged and not passed."""
    return [gate.name for gate in gates if gate.passed is False]
