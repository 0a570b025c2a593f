"""From what was imagined to costs: terms in small pieces, then the sum, the best and the
uncertainty.

Axes: K candidates, M noise draws, T time, A action, C channels, H W latent cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from wm_ros.datatypes import FloatArray
from wm_ros.manifest import Calibration
from wm_ros.planning.effort import candidates_per_piece, pieces, steps_per_piece
from wm_ros.planning.errors import QueryCode, QueryError
from wm_ros.planning.goals import GoalPictures, Term
from wm_ros.planning.objectives import BEST, LAST, GoalImage, Objective, Outlook, StepArray
from wm_ros.planning.query import Evaluation, Query
from wm_ros.planning.uncertainty import spread


def term_units(query: Query, term: Term) -> int:
    """Pieces of work that `term_costs` takes for one term: a goal counts once for each picture and
    for each span of steps.
    """
    goals = spans = 1
    if isinstance(term, GoalImage):
        goals = len(term.latents_GCHW)
    if isinstance(term, GoalPictures):
        goals = len(term.images_GHWC)
    if isinstance(term, GoalImage | GoalPictures):
        spans = len(_spans(term.over, query.actions_KTA.shape[1], query.draws))
    return goals * spans * pieces(len(query.actions_KTA), _piece(query))


def stops_early(objective: Objective) -> bool:
    """Whether a term takes a candidate's best frame, so that it is carried out up to there."""
    return isinstance(objective, GoalImage) and objective.over == BEST


def term_costs(
    objective: Objective,
    query: Query,
    latents_KMTCHW: FloatArray,
    rewards_KMT: FloatArray | None,
    costs_K: FloatArray,
    steps_K: StepArray | None = None,
) -> Iterator[None]:
    """Work out one term, some candidates for each item of the iterator.

    Args:
        objective: the term.
        query: what was asked.
        latents_KMTCHW: of the steps that are complete.
        rewards_KMT: likewise, None where no term wants them.
        costs_K: filled in, mean over draws.
        steps_K: filled in where the term is a goal: after how many actions its cost is reached.

    Raises:
        QueryError: MODEL_NOT_FINITE, the term gives numbers that are not finite.
    """
    horizon, size = latents_KMTCHW.shape[2], _piece(query)
    for first in range(0, len(costs_K), size):
        part = slice(first, first + size)
        outlook = Outlook(
            query.actions_KTA[part, :horizon],
            latents_KMTCHW[part],
            None if rewards_KMT is None else rewards_KMT[part],
            query.start.latched_A,
        )
        if isinstance(objective, GoalImage):
            spans = _spans(objective.over, horizon, query.draws)
            nearest_KMT = np.full((*outlook.latents_KMTCHW.shape[:2], horizon), np.inf, np.float32)
            for index, (goal, span) in enumerate(product(range(objective.goals), spans)):
                if index:
                    yield
                near_KMT = nearest_KMT[:, :, span]
                other_KMT = objective.distance(goal, outlook.latents_KMTCHW[:, :, span])
                np.minimum(near_KMT, other_KMT, out=near_KMT)
            costs_KM, reached_K = objective.settle(nearest_KMT[:, :, spans[0].start :])
            if steps_K is not None:
                steps_K[part] = reached_K
        else:
            costs_KM = objective.costs(outlook)
        costs_K[part] = costs_KM.mean(1)
        if not np.isfinite(costs_K[part]).all():
            raise QueryError(QueryCode.MODEL_NOT_FINITE, f'term {objective.name} is not finite')
        yield


def draw_spread(latents_KMTCHW: FloatArray, spread_K: FloatArray) -> Iterator[None]:
    """Work out the spread of the last latents, some candidates for each item of the iterator.

    Args:
        latents_KMTCHW: of the steps that are complete.
        spread_K: filled in; NaN with one draw, at once and without an item.
    """
    draws = latents_KMTCHW.shape[1]
    if draws < 2:
        spread_K[:] = np.nan
        return
    size = candidates_per_piece(1, draws)
    for first in range(0, len(spread_K), size):
        part = slice(first, first + size)
        spread_K[part] = spread(latents_KMTCHW[part, :, -1])
        yield


def evaluate(
    query: Query,
    objectives: Sequence[Objective],
    terms_NK: Sequence[FloatArray],
    spread_K: FloatArray,
    horizon: int,
    calibration: Calibration | None,
    cost_steps_K: StepArray,
) -> Evaluation:
    """Add the terms up.

    Args:
        query: what was asked.
        objectives: the terms.
        terms_NK: costs of each of them.
        spread_K: of the draws of the last latent, NaN with one draw.
        horizon: steps that are complete, at least one.
        calibration: the package's.
        cost_steps_K: after how many actions each cost is reached.

    Raises:
        QueryError: INVALID_OBJECTIVE, the sum of finite terms is not finite; MODEL_NOT_FINITE.
    """
    costs_K = np.zeros(len(query.actions_KTA), np.float32)
    named: dict[str, FloatArray] = {}
    for objective, term_K in zip(objectives, terms_NK, strict=True):
        with np.errstate(over='ignore', invalid='ignore'):  # looked for below
            costs_K += np.float32(objective.weight) * term_K
        named[_free_name(objective.name, named)] = term_K
    if not np.isfinite(costs_K).all():
        raise QueryError(
            QueryCode.INVALID_OBJECTIVE,
            f'the weighted sum of candidate {int(np.argmin(np.isfinite(costs_K)))} is beyond '
            'float32, though every term is finite: expected smaller weights',
        )
    uncertainty_K = spread_K
    if query.draws > 1 and not np.isfinite(uncertainty_K).all():
        raise QueryError(QueryCode.MODEL_NOT_FINITE, 'the spread of the draws is not finite')
    # The variance over M draws is estimated without bias for any M of 2 or more, so the fit nearly
    # holds for all of them; fewer draws only know it less well (docs/planning.md).
    calibrated = calibration is not None and query.draws > 1
    if calibration is not None and calibrated:
        uncertainty_K = calibration.error_K(uncertainty_K, query.start.frames_ahead(horizon))
    return Evaluation(
        costs_K,
        named,
        uncertainty_K,
        calibrated,
        cost_steps_K=cost_steps_K,
        best=int(np.argmin(costs_K)),
        horizon=horizon,
        partial=horizon < query.actions_KTA.shape[1],
    )


def _piece(query: Query) -> int:
    return candidates_per_piece(query.actions_KTA.shape[1], query.draws)


def _spans(over: str, steps: int, draws: int) -> list[slice]:
    """The steps that a goal term looks at, as many in a piece as one candidate may have."""
    if over == LAST:
        return [slice(steps - 1, steps)]
    size = steps_per_piece(steps, draws)
    return [slice(first, min(first + size, steps)) for first in range(0, steps, size)]


def _free_name(name: str, taken: dict[str, FloatArray]) -> str:
    if name not in taken:
        return name
    number = 2
    while f'{name}_{number}' in taken:
        number += 1
    return f'{name}_{number}'
