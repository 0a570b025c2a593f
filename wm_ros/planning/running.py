"""A query under way: all its work in units of a few milliseconds, one at a time.

Axes: K candidates, M noise draws, T time, C channels, H W latent cells.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator

import numpy as np

from wm_ros.datatypes import FloatArray
from wm_ros.memory import NonFiniteError
from wm_ros.planning.effort import Pace, Units, pieces, spread_units
from wm_ros.planning.errors import QueryCode, QueryError
from wm_ros.planning.goals import GoalPictures, Term
from wm_ros.planning.objectives import Objective, Reward
from wm_ros.planning.picture_book import PictureBook
from wm_ros.planning.pricing import draw_spread, evaluate, stops_early, term_costs, term_units
from wm_ros.planning.query import Evaluation, FramesWanted, ImaginedFrame, Query
from wm_ros.planning.rollouts import Rollouts
from wm_ros.world_model import WorldModel


class Running:
    """A query under way; made by `Evaluator.start`."""

    def __init__(
        self,
        query: Query,
        model: WorldModel,
        rollouts: Rollouts,
        book: PictureBook,
        pace: Pace,
        clock_ns: Callable[[], int],
    ) -> None:
        self.query = query
        self._model = model
        self._rollouts = rollouts
        self._book = book
        self._pace = pace
        self._clock_ns = clock_ns
        self._calibration = model.package.manifest.planning.uncertainty
        self._ready: deque[ImaginedFrame] = deque()
        self._evaluation: Evaluation | None = None
        self._stopped = False
        self._kind = ''
        self._closed = False
        self._pictures_left = sum(
            term.units for term in query.objectives if isinstance(term, GoalPictures)
        )
        self._cost_units = sum(term_units(query, term) for term in query.objectives) + 1
        self._cost_units += spread_units(len(query.actions_KTA), query.draws)
        self._cost_units_done = 0
        self._decode_units_done = 0
        rollouts.begin(
            query.start,
            query.actions_KTA,
            query.draws,
            query.seed,
            rewards=any(isinstance(term, Reward) for term in query.objectives),
        )
        self._work = self._walk()
        self._whole = self.units

    @property
    def answered(self) -> bool:
        """Whether `result` is ready. Frames of the last step or of the best candidate come after
        it.
        """
        return self._evaluation is not None

    @property
    def steps_done(self) -> int:
        """Steps that all candidates have behind them."""
        if self._evaluation is not None:
            return self._evaluation.horizon
        return 0 if self._closed else self._rollouts.steps_done

    @property
    def units(self) -> Units:
        """What is left to do, frames included."""
        if self._closed:
            return Units()
        rolling = not (self._stopped or self.answered)
        k, t, _ = self.query.actions_KTA.shape
        every = pieces(t, self.query.every)
        frames = {
            FramesWanted.NONE: 0,
            FramesWanted.LAST: pieces(k, self._book.batch),
            FramesWanted.EVERY: rolling * every * pieces(k, self._book.batch),
            FramesWanted.BEST: pieces(every, self._book.batch),
        }[self.query.frames]
        return Units(
            self._pictures_left,
            rolling * self._rollouts.units_left,
            0 if self.answered else self._cost_units - self._cost_units_done,
            max(frames - self._decode_units_done, 0),
        )

    @property
    def units_left(self) -> int:
        """Units of work until everything is done, frames included."""
        return self.units.total

    def needed_ms(self, busy_share: float = 0.0) -> float:
        """Return how long what is left takes, frames included."""
        return self._pace.needed_ms(self.units, busy_share)

    def closing_ms(self, busy_share: float = 0.0) -> float:
        """Return how long it takes from `stop` to the answer."""
        units = Units(prepare=self._pictures_left, cost=0 if self.answered else self._cost_units)
        return self._pace.needed_ms(units, busy_share)

    def unit(self) -> bool:
        """Do one unit of work.

        Returns:
            False when all was done before.

        Raises:
            QueryError: INVALID_GOAL for a picture that the tokenizer does not know,
                MODEL_NOT_FINITE, or DEADLINE when stopped before the first step was complete. The
                query is over.
        """
        started_ns = self._clock_ns()
        try:
            next(self._work)
        except StopIteration:
            self.close()
            return False
        except QueryError:
            self.close()
            raise
        except NonFiniteError as error:
            self.close()
            raise QueryError(QueryCode.MODEL_NOT_FINITE, str(error)) from error
        self._pace.add(self._kind, (self._clock_ns() - started_ns) / 1e6)
        return True

    def frames(self) -> Iterator[ImaginedFrame]:
        """Hand out the frames that became ready since the last call."""
        while self._ready:
            yield self._ready.popleft()

    def stop(self) -> None:
        """Roll no further: the answer covers the steps that are complete."""
        self._stopped = True

    def close(self) -> None:
        """Let go of everything but the answer and the frames that are ready; give up what is not
        done.
        """
        if not self._closed:
            self._closed = True
            self._work.close()
            self._rollouts.end()

    def result(self, partial: bool = False) -> Evaluation:
        """Return the answer.

        Args:
            partial: stop here and work out the costs of what is there, if it is not done.

        Raises:
            RuntimeError: not answered yet, or given up.
            QueryError: as `unit`.
        """
        if partial and self._evaluation is None:
            self.stop()
            while self._evaluation is None and self.unit():
                pass
        if self._evaluation is None:
            raise RuntimeError('the query is not answered: units are left, or it was closed')
        return self._evaluation

    def _walk(self) -> Generator[None]:
        """All the work; every item is the end of a unit."""
        query, rollouts = self.query, self._rollouts
        objectives: list[Objective] = []
        for term in query.objectives:
            yield from self._prepare(term, objectives)
        while not self._stopped and rollouts.unit():
            yield from self._done('rollout')
            if query.frames is FramesWanted.EVERY and rollouts.at_step_end:
                yield from self._show_step(rollouts.steps_done - 1)
        horizon = rollouts.steps_done
        if horizon == 0:
            raise QueryError(
                QueryCode.DEADLINE,
                'stopped before the first step of all candidates was complete',
                self._pace.needed_ms(self._whole),
            )
        latents_KMTCHW, rewards_KMT = rollouts.latents_KMTCHW, rollouts.rewards_KMT
        terms: list[FloatArray] = []
        count = len(query.actions_KTA)
        cost_steps_K = np.full(count, horizon, np.int64)
        early = next(filter(stops_early, objectives), None)
        for objective in objectives:
            terms.append(np.empty(count, np.float32))
            steps_K = cost_steps_K if objective is early else None
            for _ in term_costs(
                objective, query, latents_KMTCHW, rewards_KMT, terms[-1], steps_K
            ):
                self._cost_units_done += 1
                yield from self._done('cost')
        spread_K = np.empty(count, np.float32)
        for _ in draw_spread(latents_KMTCHW, spread_K):
            self._cost_units_done += 1
            yield from self._done('cost')
        self._evaluation = evaluate(
            query, objectives, terms, spread_K, horizon, self._calibration, cost_steps_K
        )
        yield from self._done('cost')
        if query.frames is FramesWanted.LAST:
            yield from self._show([(k, horizon - 1) for k in range(len(query.actions_KTA))])
        if query.frames is FramesWanted.BEST:
            best = self._evaluation.best
            yield from self._show(
                [(best, step) for step in range(horizon) if self._wanted(step, horizon)]
            )

    def _done(self, kind: str) -> Iterator[None]:
        self._kind = kind
        yield

    def _prepare(self, term: Term, objectives: list[Objective]) -> Iterator[None]:
        if isinstance(term, GoalPictures):
            for finished in term.prepare(self._model):
                if self._stopped:
                    return
                self._pictures_left -= 1
                if finished is not None:
                    objectives.append(finished)
                yield from self._done('prepare')
        else:
            objectives.append(term)

    def _wanted(self, step: int, steps: int) -> bool:
        return (steps - 1 - step) % self.query.every == 0

    def _show_step(self, step: int) -> Iterator[None]:
        k, t, _ = self.query.actions_KTA.shape
        if self._wanted(step, t):
            yield from self._show([(candidate, step) for candidate in range(k)])

    def _show(self, places: list[tuple[int, int]]) -> Iterator[None]:
        """Decode frames, a sub-batch at a time."""
        latents_KMTCHW = self._rollouts.latents_KMTCHW
        for first in range(0, len(places), self._book.batch):
            if self._stopped and not self.answered:
                return  # the answer is more urgent
            some = places[first : first + self._book.batch]
            latents_NCHW = np.stack([latents_KMTCHW[k, 0, step] for k, step in some])
            images = self._book.decode(latents_NCHW, self.query.start.memory)
            for (k, step), image_HWC in zip(some, images, strict=True):
                ahead = self.query.start.frames_ahead(step + 1)
                self._ready.append(ImaginedFrame(k, step, ahead, image_HWC))
            self._decode_units_done += 1
            yield from self._done('decode')
