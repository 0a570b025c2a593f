"""Whether a query can be answered at all: everything that is refused before any work is done."""

from __future__ import annotations

import numpy as np

from wm_ros.model_package import ModelPackage
from wm_ros.planning.errors import QueryCode, QueryError
from wm_ros.planning.goals import Term
from wm_ros.planning.query import Limits, Query, Start, check_counts

LARGEST_WEIGHT = float(np.finfo(np.float32).max)


def check_query(query: Query, package: ModelPackage, limits: Limits) -> None:
    """Refuse a query that this package or these limits do not allow.

    Raises:
        QueryError: with the code that says what is wrong.
    """
    _check_actions(query, package, limits)
    _check_size(query, limits)
    check_start(query.start, package)
    if not query.objectives:
        raise QueryError(QueryCode.NO_OBJECTIVE, 'no objective term: expected at least one')
    if len(query.objectives) > limits.terms:
        raise QueryError(
            QueryCode.INVALID_OBJECTIVE,
            f'{len(query.objectives)} objective terms: at most {limits.terms}',
        )
    for term in query.objectives:
        _check_term(term, package, limits)


def check_start(start: Start, package: ModelPackage) -> None:
    """Refuse a start that is not a state of this package.

    Raises:
        QueryError: INVALID_REQUEST.
    """
    found = {name: array.shape for name, array in start.memory.arrays.items()}
    expected = {spec.name: (1, *spec.shape) for spec in package.memory_specs}
    if found != expected:
        raise QueryError(
            QueryCode.INVALID_REQUEST, f'start has memory {found}, the package needs {expected}'
        )
    latched_A = start.latched_A
    if latched_A is not None and latched_A.shape != (package.model.action_width,):
        raise QueryError(
            QueryCode.INVALID_REQUEST,
            f'start has a command of {latched_A.size} entries, the model takes '
            f'{package.model.action_width}',
        )


def _check_actions(query: Query, package: ModelPackage, limits: Limits) -> None:
    actions, width = query.actions_KTA, package.model.action_width
    if actions.ndim != 3 or actions.dtype != np.float32 or actions.shape[2] != width:
        raise QueryError(
            QueryCode.WRONG_DIMS,
            f'actions are {actions.dtype} {list(actions.shape)}: expected float32 '
            f'[candidates, steps, {width}]',
        )
    k, t, _ = actions.shape
    check_counts(k, t, limits)
    if not np.isfinite(actions).all():
        raise QueryError(QueryCode.NOT_FINITE, 'actions are not finite')
    if (np.abs(actions) > 1).any():
        raise QueryError(
            QueryCode.OUT_OF_LIMITS,
            f'normalised actions reach {float(np.abs(actions).max()):g}: expected -1 to 1',
        )


def _check_size(query: Query, limits: Limits) -> None:
    k, t, _ = query.actions_KTA.shape
    m = query.draws
    if m < 1 or query.every < 1 or query.seed < 0:
        raise QueryError(
            QueryCode.INVALID_REQUEST,
            f'{m} draws, every {query.every}th frame, seed {query.seed}: expected 1 or more, '
            '1 or more, 0 or more',
        )
    if m > limits.draws:
        raise QueryError(QueryCode.TOO_MANY_ROWS, f'{m} noise draws: at most {limits.draws}')
    if k * m > limits.rows:
        raise QueryError(
            QueryCode.TOO_MANY_ROWS,
            f'{k} candidates x {m} draws are {k * m} rows: at most {limits.rows}',
        )
    if k * m * t > limits.latents:
        raise QueryError(
            QueryCode.TOO_MANY_ROWS,
            f'{k} candidates x {m} draws x {t} steps are {k * m * t} latents: at most '
            f'{limits.latents}',
        )


def _check_term(term: Term, package: ModelPackage, limits: Limits) -> None:
    if not abs(term.weight) <= LARGEST_WEIGHT:  # written so that NaN is refused too
        raise QueryError(
            QueryCode.INVALID_OBJECTIVE,
            f'{term.name}: weight {term.weight} is not a finite float32',
        )
    term.check(package)
    pictures = getattr(term, 'units', 0)
    if pictures > limits.goals:
        raise QueryError(
            QueryCode.INVALID_GOAL,
            f'{term.name}: {pictures} goal pictures, at most {limits.goals}',
        )
