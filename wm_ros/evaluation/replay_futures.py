"""Re-anchored futures: at every tenth frame, 25 frames imagined with the true actions, with the
command held, and with commands five frames late, all three with the same noise.

In: the steps of a bag as they come. Out: futures, once all of their frames and actions are known.
Only the memories of the few anchors that wait are kept. Judges nothing.

Axes: B batch, T time, A action, H W pixels, C channels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wm_ros.datatypes import FloatArray, ImageArray, MemoryState
from wm_ros.evaluation.replay_contender import Contender
from wm_ros.evaluation.replay_window import Moment, Window
from wm_ros.memory import NonFiniteError, freeze, select
from wm_ros.tiles import tile_places

HORIZON = 25
EVERY = 10  # steps from anchor to anchor
SETTLED = 25  # steps of a memory, from its first on, from which nothing is anchored
SHIFT = 5  # steps by which the shifted commands are late
ROWS = 3  # of one anchor in a batch
TRUE, HELD, LATE = range(ROWS)
GROUP = 4  # anchors imagined side by side
LONGEST_WAIT = HORIZON + GROUP * EVERY  # steps, where anchors fall out for missing frames
STREAM = 1  # of the noise, apart from that of other measures


@dataclass(frozen=True)
class Future:
    """What was imagined from one anchor, and what came.

    Attributes:
        number: step of the anchor, the last one observed.
        stamp_ns: its stamp.
        last_HWC: its frame.
        truths: frames of the next 25 steps, None for a missing one.
        imagined_BTHWC: contender -> uint8 [3, 25, H, W, C]: with true, held and late commands.
    """

    number: int
    stamp_ns: int
    last_HWC: ImageArray
    truths: tuple[ImageArray | None, ...]
    imagined_BTHWC: Mapping[str, ImageArray]

    def of_cameras(self, cameras: int) -> list[Future]:
        """Return what each camera sees of it: the same with the frames cut to the camera's tile;
        with one camera itself.
        """
        places = tile_places(cameras, self.last_HWC.shape[0])
        return [self._cut(*place) for place in places] if cameras > 1 else [self]

    def _cut(self, rows: slice, columns: slice) -> Future:
        truths = [None if image is None else image[rows, columns] for image in self.truths]
        shown = {who: x[..., rows, columns, :] for who, x in self.imagined_BTHWC.items()}
        last_HWC = self.last_HWC[rows, columns]
        return Future(self.number, self.stamp_ns, last_HWC, tuple(truths), shown)


@dataclass(frozen=True)
class _Anchor:
    number: int
    memories: Mapping[str, MemoryState]


class Futures:
    """Anchors, waits, imagines: several anchors at once, since a row of a large batch costs half
    of what it costs in a small one.

    Args:
        contenders: packages under test.
        window: holds the newest steps, the present one included when `take` is called.
        seed: of the noise, drawn anew for every anchor.

    Attributes:
        made: futures that every contender has imagined.
        not_finite: anchors that have none, since an output of some contender was not finite: in
            the future itself, or so shortly before that its memory was too young.
    """

    def __init__(self, contenders: Sequence[Contender], window: Window, seed: int) -> None:
        self.made = self.not_finite = 0
        self._contenders = contenders
        self._window = window
        self._seed = seed
        self._waiting: deque[_Anchor] = deque()  # for frames to come
        self._whole: list[_Anchor] = []  # all frames are there
        self._cut_off = 0

    @property
    def broken_off(self) -> int:
        """Anchors that have no future: a reset came too early, or the bag has not gone on yet.
        Those in `not_finite` are not among them.
        """
        return self._cut_off + len(self._waiting)

    def take(self, moment: Moment, memories: Mapping[str, MemoryState]) -> list[Future]:
        """Anchor at this step if it is its turn; return the futures that are imagined now.

        Args:
            moment: the newest step.
            memories: contender -> memory after it; without those that are not finite or not yet
                settled.
        """
        index = moment.step.index
        if moment.step.reset is not None:
            self._cut_off += len(self._waiting)
            self._waiting.clear()
        if index >= SETTLED and index % EVERY == 0 and moment.image_HWC is not None:
            if len(memories) == len(self._contenders):
                self._waiting.append(_Anchor(moment.number, memories))
            else:
                self.not_finite += 1
        if self._waiting and self._waiting[0].number + HORIZON <= moment.number:
            self._whole.append(self._waiting.popleft())
        full = len(self._whole) == GROUP
        late = bool(self._whole) and self._whole[0].number + LONGEST_WAIT <= moment.number
        return self.finish() if full or late else []

    def finish(self) -> list[Future]:
        """Imagine what is still to be imagined; return the futures that every contender has, so
        that all their means are over the same set.
        """
        anchors, self._whole = self._whole, []
        imagined: dict[int, dict[str, ImageArray]] = {anchor.number: {} for anchor in anchors}
        for contender in self._contenders:
            for number, frames_BTHWC in self._imagine(contender, anchors).items():
                imagined[number][contender.name] = frames_BTHWC
        whole = {n: found for n, found in imagined.items() if len(found) == len(self._contenders)}
        self.made += len(whole)
        self.not_finite += len(anchors) - len(whole)
        return [self._future(number, found) for number, found in whole.items()]

    def _future(self, number: int, imagined_BTHWC: Mapping[str, ImageArray]) -> Future:
        anchor = self._window.at(number)
        if anchor is None or anchor.image_HWC is None:
            raise LookupError(f'step {number} is not held')
        truths = tuple([self._window.image(number + t) for t in range(1, HORIZON + 1)])
        return Future(number, anchor.step.stamp_ns, anchor.image_HWC, truths, imagined_BTHWC)

    def _imagine(self, contender: Contender, anchors: Sequence[_Anchor]) -> dict[int, ImageArray]:
        """Return anchor -> pictures; one that is not finite does not cost the others theirs."""
        if not anchors:
            return {}
        try:
            return self._rollout(contender, anchors)
        except NonFiniteError:
            if len(anchors) == 1:
                contender.not_finite += 1
                return {}
        found: dict[int, ImageArray] = {}
        for anchor in anchors:
            found |= self._imagine(contender, [anchor])
        return found

    def _rollout(self, contender: Contender, anchors: Sequence[_Anchor]) -> dict[int, ImageArray]:
        model = contender.model
        noises, actions = [], []
        for anchor in anchors:
            rng = np.random.default_rng([self._seed, STREAM, anchor.number])
            noises.append(np.repeat(model.noise(rng, 1, HORIZON), ROWS, 0))
            actions.append(self._actions_BTA(anchor.number))
        states = side_by_side([anchor.memories[contender.name] for anchor in anchors])
        rollout = model.imagine(
            select(states, np.repeat(np.arange(len(anchors)), ROWS)),
            np.concatenate(actions),
            np.concatenate(noises),
            decode=False,
            write_last=False,
        )
        found = {}
        for place, anchor in enumerate(anchors):  # decoded one by one: large pictures are large
            latents_BTCHW = rollout.latents_BTCHW[place * ROWS : (place + 1) * ROWS]
            frames = model.decode(latents_BTCHW.reshape(-1, *latents_BTCHW.shape[2:]))
            found[anchor.number] = frames.reshape(ROWS, HORIZON, *frames.shape[1:])
        return found

    def _actions_BTA(self, number: int) -> FloatArray:
        true_TA = self._window.actions_TA(number, HORIZON)
        held_TA = np.repeat(true_TA[:1], HORIZON, 0)
        late_TA = self._window.actions_TA(number - SHIFT, HORIZON)
        return np.stack([true_TA, held_TA, late_TA])


def side_by_side(states: Sequence[MemoryState]) -> MemoryState:
    """Join memories of different moments; the batch's own count of frames means nothing."""
    names = states[0].arrays
    arrays = {name: np.concatenate([state.arrays[name] for state in states]) for name in names}
    return MemoryState(freeze(arrays))
