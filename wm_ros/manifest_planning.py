"""What a manifest says about planner queries: the size of a sub-batch and how uncertain the
uncertainty is, and which pictures may be goals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from wm_ros.datatypes import FloatArray
from wm_ros.manifest_fields import PackageError, same_names, typed

LARGEST_BATCH = 1024
HIGHEST_DB = 100.0


@dataclass(frozen=True)
class Calibration:
    """From the spread of noise draws to the error to expect, fitted on held-out bags.

    Expected RMS error of a latent `h` frames after the last observed one = offset + scale *
    spread; both are linear in h between the knots and held beyond them.

    Attributes:
        draws: M that it was fitted with. It nearly holds for any M of 2 or more: the variance is
            estimated without bias, its root a little low for small M; fewer draws know it less
            well.
        horizons: frames ahead of each knot, rising.
        offset: in units of the latent, by knot.
        scale: by knot.
    """

    draws: int
    horizons: tuple[int, ...]
    offset: tuple[float, ...]
    scale: tuple[float, ...]

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.horizons, self.horizons[1:], strict=False))
        if not self.horizons or self.horizons[0] < 1 or not rising:
            raise PackageError(
                f'manifest planning.uncertainty.horizons: found {list(self.horizons)}, expected '
                'frames rising from 1 or more'
            )
        if not len(self.horizons) == len(self.offset) == len(self.scale):
            raise PackageError(
                f'manifest planning.uncertainty: found {len(self.horizons)} horizons, '
                f'{len(self.offset)} offsets, {len(self.scale)} scales; expected as many of each'
            )
        if not all(math.isfinite(value) for value in (*self.offset, *self.scale)):
            raise PackageError('manifest planning.uncertainty: offsets and scales must be finite')
        if self.draws < 2:
            raise PackageError(
                f'manifest planning.uncertainty.draws: found {self.draws}, expected 2 or more'
            )

    def error_K(self, spread_K: FloatArray, horizon: int) -> FloatArray:
        """Return the expected RMS error, float32 [K], at least 0.

        Args:
            spread_K: RMS spread of the draws.
            horizon: frames from the newest observed one.
        """
        offset = np.interp(horizon, self.horizons, self.offset)
        scale = np.interp(horizon, self.horizons, self.scale)
        return np.maximum(offset + scale * spread_K, 0).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest's JSON form."""
        return {
            'draws': self.draws,
            'horizons': list(self.horizons),
            'offset': list(self.offset),
            'scale': list(self.scale),
        }

    @classmethod
    def from_dict(cls, values: Any) -> Calibration:
        """Build from the manifest's JSON form."""
        where = 'planning.uncertainty'
        same_names(values, ('draws', 'horizons', 'offset', 'scale'), where)
        return cls(
            _whole(values['draws'], f'{where}.draws'),
            tuple(
                _whole(value, f'{where}.horizons')
                for value in typed(values['horizons'], list, f'{where}.horizons')
            ),
            *(
                tuple(
                    typed(value, float, f'{where}.{name}')
                    for value in typed(values[name], list, f'{where}.{name}')
                )
                for name in ('offset', 'scale')
            ),
        )


@dataclass(frozen=True)
class Planning:
    """The manifest's `planning`.

    Attributes:
        batch: rows of a sub-batch, the same idle or loaded, so that costs are bit-equal.
        uncertainty: None where the package was not calibrated.
        goal_db: PSNR, dB, at which the tokenizer redraws what may be a goal picture; None (also
            where a manifest says nothing) where it was not measured: then a low bar for all.
    """

    batch: int = 8
    uncertainty: Calibration | None = None
    goal_db: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.batch <= LARGEST_BATCH:
            raise PackageError(
                f'manifest planning.batch: found {self.batch}, expected 1 to {LARGEST_BATCH}'
            )
        if self.goal_db is not None and not 0 < self.goal_db < HIGHEST_DB:
            raise PackageError(
                f'manifest planning.goal_db: found {self.goal_db}, expected 0 to {HIGHEST_DB:g} '
                'or null'
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest's JSON form."""
        uncertainty = self.uncertainty and self.uncertainty.to_dict()
        return {'batch': self.batch, 'uncertainty': uncertainty, 'goal_db': self.goal_db}

    @classmethod
    def from_dict(cls, values: Any) -> Planning:
        """Build from the manifest's JSON form."""
        values = {'goal_db': None, **typed(values, dict, 'planning')}
        same_names(values, ('batch', 'uncertainty', 'goal_db'), 'planning')
        uncertainty, goal_db = values['uncertainty'], values['goal_db']
        return cls(
            _whole(values['batch'], 'planning.batch'),
            None if uncertainty is None else Calibration.from_dict(uncertainty),
            None if goal_db is None else typed(goal_db, float, 'planning.goal_db'),
        )


def _whole(value: Any, where: str) -> int:
    if isinstance(value, bool):
        raise PackageError(f'manifest {where}: found {value}, expected int')
    return typed(value, int, where)
