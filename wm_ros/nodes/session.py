"""One running memory: mail in, predictions out. Belongs to the inference thread; knows nothing of
ROS.

The path of a frame, live: mail -> StepSynchronizer -> Step -> Stepper -> memory and predictions;
the last is what replay does with a bag.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import cast

from wm_ros import memory as memories
from wm_ros.contract import StreamContract
from wm_ros.datatypes import Frame, MemoryState, Prediction, ResetReason, Step
from wm_ros.feed import Restart, push
from wm_ros.nodes.inbox import Mail
from wm_ros.nodes.statistics import Statistics
from wm_ros.planning.query import QueryCode, QueryError, Start
from wm_ros.rejection import Rejection
from wm_ros.stepping import Stepper
from wm_ros.sync import StepSynchronizer
from wm_ros.world_model import WorldModel


@dataclass(frozen=True)
class _LiveFrame(Frame):
    """A frame with the monotonic instant of its reception, which it carries through its wait."""

    received_monotonic_ns: int = 0


@dataclass(frozen=True)
class Outcome:
    """The predictions made from one observed frame, nearest first."""

    predictions: tuple[Prediction, ...]
    index: int
    received_monotonic_ns: int


class Session:
    """Steps through the stream with one memory.

    Args:
        model: the loaded world model.
        contract: the robot's streams.
        horizon: frames to predict ahead.
        seed: of the sampling noise; the generator starts again with every reset.
        statistics: counted into.
        on_rejection: told about every refused input.
    """

    def __init__(
        self,
        model: WorldModel,
        contract: StreamContract,
        *,
        horizon: int,
        seed: int,
        statistics: Statistics,
        on_rejection: Callable[[Rejection], None],
    ) -> None:
        self.model = model
        self.contract = contract
        self.statistics = statistics
        self.synchronizer = StepSynchronizer(contract)
        self.taken: Restart | None = None  # the newest restart that came with the mail
        self._stepper = Stepper(model, contract, horizon=horizon, seed=seed)
        self._on_rejection = on_rejection
        self._due: deque[Step | Rejection | Restart] = deque()
        self._asked: Restart | None = None  # the newest restart that has not begun
        self._wish: Restart | None = None  # the same, once every step before it is done
        self._clock_ns = 0  # node clock minus monotonic clock, at the newest frame
        self._last: tuple[Step, Prediction] | None = None
        self._now: Start | None = None

    def put(self, mail: Mail) -> None:
        """Hand everything that arrived to the synchroniser, commands, views, then the frame."""
        if mail.restart is not None:
            self.restart(mail.restart)
            self.taken = mail.restart  # last: who sees it finds `_asked`
        for item in mail.queued:
            push(self.synchronizer, item)
        # They arrived, we were late: no reason to believe that the camera had a gap.
        for stamp_ns in mail.dropped_ns:
            self.synchronizer.push_dropped(stamp_ns)
        if mail.frame is not None:
            self._clock_ns = mail.frame.receive_ns - mail.monotonic_ns
            frame = mail.frame.frame
            live = _LiveFrame(frame.image_HWC, frame.stamp_ns, frame.frame_id, mail.monotonic_ns)
            push(self.synchronizer, replace(mail.frame, frame=live))

    @property
    def memory(self) -> MemoryState:
        """The live memory, after the newest step."""
        return self._stepper.memory

    @property
    def next_memory(self) -> MemoryState:
        """The memory that the next frame will find, a restart that is due included."""
        asked = self._asked  # read once: services ask from another thread
        if asked is None:
            return self.memory
        return asked.memory or self.model.reset()

    def start(self) -> Start:
        """Return where a query about now begins: the memory at its newest step, and the command
        in force from there.

        Raises:
            QueryError: NOTHING_OBSERVED, also while a restart is due.
        """
        asked, now = self._asked, self._now  # read once: services ask from another thread
        if now is None or asked is not None:
            raise QueryError(
                QueryCode.NOTHING_OBSERVED,
                'no frame observed since the memory was last started afresh or loaded',
            )
        return now

    def restart(self, wish: Restart) -> None:
        """Start afresh with the next frame; frames that wait are taken before."""
        self._asked = wish
        self.synchronizer.reset(wish.reason)
        self._due.extend(self.synchronizer.poll(0))  # nothing waits any more: all of it is decided
        self._due.append(wish)

    def wait_s(self, monotonic_ns: int, longest_s: float) -> float:
        """Return how long nothing will be decided unless mail comes."""
        deadline_ns = self.synchronizer.next_deadline_ns
        if deadline_ns is None:
            return longest_s
        return min(max((deadline_ns - self._clock_ns - monotonic_ns) / 1e9, 0.0), longest_s)

    def advance(self, monotonic_ns: int) -> Iterator[Outcome]:
        """Run the model over every step that is decided by now.

        Frames wait for their command by the monotonic clock, counted from their reception, so a
        stopped or jumping node clock cannot hold one back.
        """
        self._due.extend(self.synchronizer.poll(monotonic_ns + self._clock_ns))
        while self._due:
            item = self._due.popleft()
            if isinstance(item, Restart):
                self._wish = item
                continue
            if isinstance(item, Rejection):
                self._on_rejection(item)
                continue
            try:
                outcome = self._take(item)
            except memories.NonFiniteError as error:
                self.statistics.not_finite += 1
                self.statistics.note = str(error)
                self._last = None
                if self._asked is None:  # else a restart is due anyway: keep what it brings
                    self.restart(Restart(ResetReason.NOT_FINITE))
                continue
            if outcome is not None:
                yield outcome
                self._score(item, outcome.predictions[0])  # after it is out: not on its way

    def _take(self, step: Step) -> Outcome | None:
        """Observe one step; predict from it unless its frame is missing."""
        if step.reset is not None:
            self._begin(step.reset)
        self._stepper.observe(step)
        self._now = Start(self.memory, step.action_A)
        if step.frame is None:
            self._last = None
            return None
        received_ns = cast(_LiveFrame, step.frame).received_monotonic_ns
        return Outcome(self._stepper.predict(step, step.frame), step.index, received_ns)

    def _begin(self, reason: ResetReason) -> None:
        wish, self._wish = self._wish, None
        self._stepper.begin(wish.memory if wish is not None else None)
        self._last = self._now = None
        if wish is self._asked:
            self._asked = None  # last: services in other threads must not find the old memory
        self.statistics.resets += 1
        self.statistics.last_reset = reason

    def _score(self, step: Step, prediction: Prediction) -> None:
        """Compare a frame with what was predicted for it, and with repeating the last one; then
        keep it and its own prediction for the next.
        """
        last, self._last = self._last, (step, prediction)
        if last is None or step.frame is None:
            return
        before, predicted = last
        if before.frame is not None and step.index == before.index + 1:
            self.statistics.add_drift(
                step.frame.image_HWC, predicted.image_HWC, before.frame.image_HWC
            )
