"""One pass over a bag: each step goes through every contender, and everything is measured on the
way.

In: steps, in order. Out: a `Findings`. What is held has one size whatever the bag's length, but
for one reading of curves per part of the bag. The same steps, seed and engine give the same
findings, bit for bit; times are kept apart from them. No files, no clock of its own.

Axes: H W pixels, C channels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from wm_ros import memory as memories
from wm_ros.cameras import camera_names
from wm_ros.contract import StreamContract
from wm_ros.datatypes import ImageArray, MemoryState, Step
from wm_ros.evaluation.replay_contender import Contender, Taken
from wm_ros.evaluation.replay_film import Film
from wm_ros.evaluation.replay_free import FreeRuns, choose_anchors, last_anchor
from wm_ros.evaluation.replay_futures import SETTLED, Future, Futures
from wm_ros.evaluation.replay_hooks import Hooks
from wm_ros.evaluation.replay_horizons import Horizons
from wm_ros.evaluation.replay_lags import Lags
from wm_ros.evaluation.replay_marks import Marks
from wm_ros.evaluation.replay_moments import Moments
from wm_ros.evaluation.replay_one_step import OneStep
from wm_ros.evaluation.replay_tally import Tally, Timeline, Times
from wm_ros.evaluation.replay_window import Moment, Window

STAGES = ('observe', 'predict', 'whole')


@dataclass
class Norms:
    """The memory of one contender over the bag: bytes of a state, norm of the long memory."""

    state_bytes: int = 0
    first: float | None = None
    last: float | None = None
    largest: float | None = None

    def add(self, memory: MemoryState, norm: float) -> None:
        """Take the memory after one step."""
        self.state_bytes = memory.nbytes
        self.first = norm if self.first is None else self.first
        self.last = norm
        self.largest = norm if self.largest is None else max(self.largest, norm)


@dataclass
class Timing:
    """Wall-clock findings, never part of the metrics.

    Attributes:
        times: (contender, stage) -> times of one step, ms.
        curves: means of the same over the parts of the bag.
        rss_bytes: (steps done, resident memory), one reading per part.
    """

    times: dict[tuple[str, str], Times] = field(default_factory=dict)
    curves: Tally = field(default_factory=Tally)
    rss_bytes: list[tuple[int, int]] = field(default_factory=list)

    def add(self, who: str, part: int, taken: Taken) -> None:
        """Take the times of one step that was predicted from."""
        values = (taken.observe_ms, taken.predict_ms, taken.observe_ms + taken.predict_ms)
        for stage, value_ms in zip(STAGES, values, strict=True):
            self.times.setdefault((who, stage), Times()).add(value_ms)
            self.curves.add(stage, who, part, value_ms)


class Replay:
    """Measures, see the module text.

    Args:
        contenders: one package or two, the one under test first.
        contract: the bag's streams.
        frames: steps that are expected, for spreading anchors and curves; a bag with fewer or
            more is measured all the same.
        seed: of all noise of imagined futures.
        hooks: measures that may be missing.
        rss_bytes: resident memory of the process, read once per part of the bag.
        anchors: steps at which an earlier run began free-running futures, to be judged at the
            same ones as far as the bag goes; none to choose them.

    Attributes:
        steps, missing: steps so far, and those of them without a frame.
        left_out: measures that this installation lacks, and why.
    """

    def __init__(
        self,
        contenders: Sequence[Contender],
        contract: StreamContract,
        frames: int,
        seed: int,
        hooks: Hooks,
        rss_bytes: Callable[[], int],
        anchors: Sequence[int] = (),
    ) -> None:
        self.contenders = tuple(contenders)
        self.contract = contract
        self.steps = self.missing = 0
        self.resets: Counter[str] = Counter()
        self.timeline = Timeline(frames)
        cameras = camera_names(contract.cameras)
        names = [contender.name for contender in contenders]
        self.one_step = OneStep(self.timeline, names, len(cameras))
        self.window = Window()
        self.futures = Futures(contenders, self.window, seed)
        self.left_out = hooks.left_out
        self.horizons = Horizons(hooks.perceptual, cameras)
        self.lags = Lags(hooks.reappearances, hooks.cell_px)
        self.moments = Moments()
        last = last_anchor(frames, contract.rate_hz)
        known = [number for number in anchors if number <= last]
        anchors = known or choose_anchors(frames, contract.rate_hz)
        self.free = FreeRuns(contenders, anchors, contract.rate_hz, seed)
        self.marks = Marks(hooks.perceptual, len(cameras))
        self.norms = {name: Norms() for name in names}
        self.norm_curves = Tally()
        self.timing = Timing()
        self._rss_bytes = rss_bytes
        self._predicted: Mapping[str, ImageArray] = {}  # for the next step

    def take(self, step: Step, film: Film | None = None) -> None:
        """Take the next step of the bag; `film` draws the steps that are complete by now."""
        part = self.timeline.part_of(self.steps)
        moment = self._moment(step)
        taken = {contender.name: contender.take(step) for contender in self.contenders}
        self._note(taken, part)
        settled = {
            one.name: memory
            for one in self.contenders
            if one.age >= SETTLED and (memory := taken[one.name].memory) is not None
        }
        self.one_step.score(self.window.at(self.steps - 1), moment)
        self.window.push(moment)
        self.lags.look(moment)
        self.free.take(moment, settled)
        for future in self.futures.take(moment, settled):
            self._judge(future, film)
        if film is not None:
            film.advance(self.steps)
        self.steps += 1
        if part != self.timeline.part_of(self.steps):
            self.timing.rss_bytes.append((self.steps, self._rss_bytes()))

    def finish(self, told: Callable[[str, int, int], None], film: Film | None = None) -> None:
        """Imagine and score what is left, once no more steps come: above all free-running futures.

        Args:
            told: contender, frames done and frames in all.
            film: as for `take`; drawn to its end.
        """
        for future in self.futures.finish():
            self._judge(future, film)
        if film is not None:
            film.advance(self.steps, to_the_end=True)
        pictures = {
            contender.name: self.free.roll_out(contender, partial(told, contender.name))
            for contender in self.contenders
        }
        self.marks.score(self.free, pictures)

    def _moment(self, step: Step) -> Moment:
        self.missing += step.frame is None
        if step.reset is not None:
            self.resets[step.reset.value] += 1
        return Moment(self.steps, step, self._predicted)

    def _note(self, taken: Mapping[str, Taken], part: int) -> None:
        self._predicted = {
            who: one.prediction_HWC for who, one in taken.items() if one.prediction_HWC is not None
        }
        for who, one in taken.items():
            if one.memory is not None:
                norm = memories.norm(one.memory)
                self.norms[who].add(one.memory, norm)
                self.norm_curves.add('memory_norm', who, part, norm)
            if one.prediction_HWC is not None:
                self.timing.add(who, part, one)

    def _judge(self, future: Future, film: Film | None) -> None:
        if film is not None:
            film.add(future)
        verdict = self.horizons.score(future)
        self.moments.consider(future, verdict, self.lags.score(future))
