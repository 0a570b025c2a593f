"""One package that is replayed over a bag: its stepper, the time that it takes, what went wrong.

In: steps. Out: the one-step prediction and the memory after it. What steps the model is the live
session's own `Stepper`. An output that is not finite starts the memory afresh with the next frame,
as it does live; the stream itself goes on, since another contender may share it, so step numbers
and integrated twists do not begin anew. The clock is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from wm_ros.contract import StreamContract
from wm_ros.datatypes import ImageArray, MemoryState, Step
from wm_ros.memory import NonFiniteError
from wm_ros.stepping import Stepper
from wm_ros.world_model import WorldModel


@dataclass(frozen=True)
class Taken:
    """What came of one step.

    Attributes:
        prediction_HWC: uint8 frame predicted for the next step; None for a missing frame and
            where the output was not finite.
        memory: after the step; None where it is not finite.
        observe_ms, predict_ms: how long it took; 0 where it was not done.
    """

    prediction_HWC: ImageArray | None
    memory: MemoryState | None
    observe_ms: float
    predict_ms: float


NOTHING = Taken(None, None, 0.0, 0.0)


class Contender:
    """A package on its way through a bag.

    Args:
        name: of the contender in all tables: `model` or `second`.
        model: the package on an engine.
        contract: the bag's streams.
        seed: of the noise of its one-step predictions.
        clock_ns: a monotonic clock, for the latencies only.

    Attributes:
        not_finite: steps and futures with an output that was not finite.
        age: steps since the first of the present memory, missing frames included; -1 without one.
    """

    def __init__(
        self,
        name: str,
        model: WorldModel,
        contract: StreamContract,
        seed: int,
        clock_ns: Callable[[], int],
    ) -> None:
        self.name = name
        self.model = model
        self.not_finite = 0
        self.age = -1
        self._stepper = Stepper(model, contract, horizon=1, seed=seed)
        self._clock_ns = clock_ns
        self._afresh = False

    def take(self, step: Step) -> Taken:
        """Observe a step and predict the next frame; a memory begins with a frame, so missing ones
        before it are passed over.
        """
        if self._afresh and step.frame is None and step.reset is None:
            return NOTHING
        if self._afresh and step.reset is None:  # nothing led to the first frame of a memory
            step = replace(step, action_prev_A=step.action_A)
        if self._afresh or step.reset is not None:
            self._stepper.begin()
            self._afresh, self.age = False, -1
        self.age += 1
        try:
            return self._timed(step)
        except NonFiniteError:
            self.not_finite += 1
            self._afresh, self.age = True, -1
            return NOTHING

    def _timed(self, step: Step) -> Taken:
        begin_ns = self._clock_ns()
        self._stepper.observe(step)
        observed_ns = self._clock_ns()
        observe_ms = (observed_ns - begin_ns) / 1e6
        if step.frame is None:
            return Taken(None, self._stepper.memory, observe_ms, 0.0)
        (prediction,) = self._stepper.predict(step, step.frame)
        predict_ms = (self._clock_ns() - observed_ns) / 1e6
        return Taken(prediction.image_HWC, self._stepper.memory, observe_ms, predict_ms)
