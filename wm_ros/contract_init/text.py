"""Limits from a range that was found, and a contract as YAML with a comment for every guess."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from wm_ros.contract import StreamContract
from wm_ros.contract_fields import plain
from wm_ros.sources import ActionSource

SHARE = 0.2  # of the range, added on each side
LEAST_RAD = 0.1  # added on each side of angles at least, and of entries that never change
CONSTANT = 1e-6  # a range below this is none


def widened(low: float, high: float, unit: str) -> tuple[float, float]:
    """Return limits for a range that was found: a fifth wider on each side, rounded outwards.

    Args:
        low: smallest value found, in `unit`.
        high: largest value found.
        unit: `rad` is widened by 0.1 at least; entries that never change by 0.1 in any unit.
    """
    least = LEAST_RAD if unit == 'rad' or high - low < CONSTANT else 0.0
    margin = max(SHARE * (high - low), least)
    size = max(high - low + 2 * margin, abs(low) * 1e-6, abs(high) * 1e-6)
    step = 10.0 ** math.floor(math.log10(size / 20))
    digits = max(0, -round(math.log10(step)))
    below = math.floor((low - margin) / step + 1e-6) * step
    above = math.ceil((high + margin) / step - 1e-6) * step
    return round(below, digits), round(above, digits)


def contract_text(
    contract: StreamContract,
    remarks: Mapping[str, Sequence[str]],
    found: Mapping[str, str] | None = None,
) -> str:
    """Write a contract as YAML that `StreamContract.load` reads.

    Args:
        contract: what to write.
        remarks: lines of comment put above a part: `` (the top), a field's name such as
            `rate_hz`, or a topic.
        found: entry name -> comment behind it.
    """
    lines = [*_comments(remarks, ''), f'name: {_flow(contract.name)}']
    for name in ('rate_hz', 'image_size'):
        lines += [*_comments(remarks, name), f'{name}: {_flow(getattr(contract, name))}']
    lines += [*_comments(remarks, 'cameras'), 'cameras:']
    for camera in contract.cameras:
        lines += _comments(remarks, camera.topic, '  ')
        lines.append(f'  - {_flow(_without_defaults(plain(camera)))}')
    lines += [*_comments(remarks, 'actions'), 'actions:']
    for source in contract.actions:
        lines += _source(source, remarks, found or {})
    for name in ('action_lead_ms', 'action_wait_ms', 'reset'):
        value = _flow(plain(getattr(contract, name)))
        lines += [*_comments(remarks, name), f'{name}: {value}']
    return '\n'.join(lines) + '\n'


def _source(
    source: ActionSource, remarks: Mapping[str, Sequence[str]], found: Mapping[str, str]
) -> Iterator[str]:
    yield from _comments(remarks, source.topic, '  ')
    values = _without_defaults(plain(source))
    entries = values.pop('entries')
    for index, (name, value) in enumerate(values.items()):
        yield f'  {" " if index else "-"} {name}: {_flow(value)}'
    yield '    entries:'
    for entry in entries:
        comment = f'  # {found[entry["name"]]}' if entry['name'] in found else ''
        yield f'      - {_flow(entry)}{comment}'


def _comments(remarks: Mapping[str, Sequence[str]], part: str, indent: str = '') -> Iterator[str]:
    for line in remarks.get(part, ()):
        yield f'{indent}# {line}'


def _without_defaults(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6)
    return text.removesuffix('\n').removesuffix('\n...')
