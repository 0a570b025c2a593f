"""propose: bags -> a stream contract with a reason for every guess.

`choice.py` picks the topics, `ranges.py` reads their messages, `commands.py` makes sources of
them, `text.py` writes the YAML. Here they are put together, with the rate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from wm_ros.bag import iter_steps
from wm_ros.bag.episodes import bag_name
from wm_ros.contract import StreamContract
from wm_ros.contract_fields import ContractError
from wm_ros.contract_init.choice import Topic, choose_actions, choose_camera, topics_of
from wm_ros.contract_init.commands import Commands, commands_of
from wm_ros.contract_init.ranges import CameraFacts, camera_facts
from wm_ros.contract_init.text import contract_text
from wm_ros.sources import CameraSource, ResetPolicy

FASTEST_HZ = 30.0
COMMON_HZ = (1, 2, 3, 4, 5, 6, 7.5, 8, 10, 12, 12.5, 15, 20, 24, 25, 30, 40, 50, 60)
NEAR = 0.03  # a rate this close to a common one is that one


@dataclass(frozen=True)
class Wish:
    """What the user wants decided; None and empty leave it to the proposal.

    Attributes:
        name: of the contract.
        image, actions: topics.
        rate_hz: steps per second.
        image_size: side of the picture that the model sees, px.
    """

    name: str = 'my_robot'
    image: str | None = None
    actions: tuple[str, ...] = ()
    rate_hz: float | None = None
    image_size: int = 64


@dataclass(frozen=True)
class Proposal:
    """A contract, its YAML text with comments, and what a person should check, line by line."""

    contract: StreamContract
    text: str
    to_check: tuple[str, ...]


def propose(bags: Sequence[Path], wish: Wish, held_out: Sequence[Path] = ()) -> Proposal:
    """Propose a contract; rate, entries and limits are over all bags but those held out.

    Args:
        bags: recordings of one robot.
        wish: what the user has decided.
        held_out: more of them, to judge a model by: only their lists of topics are read, so that
            no limit knows what they hold.

    Raises:
        BagError: a bag cannot be read.
        ContractError: no camera or no command topic that can be used, listing what there is.
    """
    topics = topics_of([*bags, *held_out])
    camera_topic, camera_remarks = choose_camera(topics, wish.image)
    chosen, action_remarks = choose_actions(topics, wish.actions)
    camera = camera_facts(bags, camera_topic)
    rate_hz, rate_remarks = _rate(camera, wish.rate_hz)
    reset = ResetPolicy(gap_s=max(1.0, round(3 / rate_hz, 1)))
    parts, left_out = _parts(bags, chosen, camera, rate_hz, reset.gap_s, bool(wish.actions))
    contract = StreamContract(
        name=wish.name,
        rate_hz=rate_hz,
        image_size=wish.image_size,
        cameras=(CameraSource(camera_topic.name, camera_topic.msgtype),),
        actions=tuple(part.source for part in parts),
        reset=reset,
    )
    remarks: dict[str, Sequence[str]] = {
        '': _heading(bags, held_out),
        'rate_hz': rate_remarks,
        'image_size': _size_remarks(camera),
        'cameras': camera_remarks,
        'actions': (*action_remarks, *left_out),
    }
    found: dict[str, str] = {}
    for part in parts:
        remarks[part.source.topic] = part.remarks
        found |= part.found
    others = ('rate_hz', 'cameras', 'actions', *(part.source.topic for part in parts))
    to_check = tuple(line for name in others for line in remarks[name])
    return Proposal(contract, contract_text(contract, remarks, found), to_check)


def try_out(bag: Path, contract: StreamContract, steps: int = 200) -> tuple[int, Counter[str]]:
    """Read the first steps of a bag under a contract.

    Returns:
        Number of steps, and the reader's counts, refusals among them.

    Raises:
        BagError: no step at all, saying why.
    """
    counts: Counter[str] = Counter()
    read = sum(1 for _ in islice(iter_steps(bag, contract, counts=counts), steps))
    return read, counts


def _parts(
    bags: Sequence[Path],
    topics: Sequence[Topic],
    camera: CameraFacts,
    rate_hz: float,
    gap_s: float,
    all_wanted: bool,
) -> tuple[list[Commands], list[str]]:
    """Describe the command topics; one that cannot be used is left out, unless it is wanted."""
    parts: list[Commands] = []
    left_out: list[str] = []
    for topic in topics:
        try:
            part = commands_of(bags, topic, camera, round(1e9 / rate_hz), round(gap_s * 1e9))
            _require_new_names(part, parts)
        except ContractError as error:
            if all_wanted or len(topics) == 1:
                raise
            left_out.append(f'not chosen: {error}')
        else:
            parts.append(part)
    if not parts:
        raise ContractError(f'no action topic that can be used: {"; ".join(left_out)}')
    return parts, left_out


def _require_new_names(part: Commands, parts: Sequence[Commands]) -> None:
    taken = {entry.name: held.source.topic for held in parts for entry in held.source.entries}
    for entry in part.source.entries:
        if entry.name in taken:
            raise ContractError(
                f'{part.source.topic}: {entry.name} comes from {taken[entry.name]} already'
            )


def _heading(bags: Sequence[Path], held_out: Sequence[Path]) -> tuple[str, ...]:
    named = ', '.join(map(bag_name, bags[:3])) + (', ...' if len(bags) > 3 else '')
    number = '1 bag' if len(bags) == 1 else f'{len(bags)} bags'
    apart = ', '.join(map(bag_name, held_out)) or 'nothing'
    return (
        f'Proposed by `wm contract init` from {number} ({named}). Check every guess.',
        'Limits: the range found, widened on each side by a fifth, angles by 0.1 rad at least.',
        f'Held out, so not in any range: {apart}.',
    )


def _size_remarks(camera: CameraFacts) -> tuple[str, ...]:
    width, height = camera.size_px
    return (
        f'The camera sends {width} x {height} px; the largest centred square of it is seen.',
        'Another part: crop: {left: , top: , width: , height: } behind the type of the camera.',
    )


def _rate(camera: CameraFacts, wanted_hz: float | None) -> tuple[float, tuple[str, ...]]:
    """Return the contract's rate and remarks; above 30 Hz every second frame is taken."""
    period_s = camera.period_s
    if period_s is None:
        if wanted_hz is None:
            raise ContractError('a single frame has no rate: say which with --rate')
        return wanted_hz, ()
    found = f'median gap of the header stamps {period_s * 1e3:.3g} ms'
    if wanted_hz is not None:
        return wanted_hz, (f'As asked for; {found}.',)
    bag_hz = _sensible(1 / period_s)
    if bag_hz <= FASTEST_HZ:
        return bag_hz, (f'guess: {found}.',)
    # The synchroniser refuses frames closer than 0.6 periods: it can halve a rate, no more.
    return bag_hz / 2, (
        f'guess: {found}, so {bag_hz:g} Hz; halved, so every second frame is refused as '
        'too_soon. A model costs its time per step: most robots need no more than 30 Hz.',
    )


def _sensible(rate_hz: float) -> float:
    nearest = min(COMMON_HZ, key=lambda common: abs(common - rate_hz))
    if abs(nearest - rate_hz) <= NEAR * rate_hz:
        return float(nearest)
    return float(round(rate_hz)) if rate_hz >= 10 else float(f'{rate_hz:.3g}')
