"""The loop that every stage shares: AdamW, warm-up and cosine by step, clipping, moving average,
resume.

A stage is a function from (step, generators) to a loss. The running state is saved every minute
and after the last step into the work folder; a stage that was cut off goes on there, unless it is
another one by now. Whoever keeps the result removes it (`running_state`).
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from training.fingerprint import MadeOf, stale, weights_digest

SAVE_SECONDS = 60.0
console = Console()
LossFunction = Callable[[np.random.Generator, torch.Generator], Tensor]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: steps, peak learning rate, warm-up steps, final share of the rate,
    weight decay.
    """

    steps: int
    rate: float
    warm_up: int = 100
    floor: float = 0.05
    decay: float = 0.01
    ema: float = 0.995
    clip: float = 1.0

    def at(self, step: int) -> float:
        """Learning rate of a step."""
        if step < self.warm_up:
            return self.rate * (step + 1) / self.warm_up
        done = (step - self.warm_up) / max(1, self.steps - self.warm_up)
        return self.rate * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * done)))


def average_into(average: nn.Module, module: nn.Module, decay: float) -> None:
    """Move the averaged weights towards the module's: a <- decay a + (1 - decay) w."""
    with torch.no_grad():
        for slow, fast in zip(average.parameters(), module.parameters(), strict=True):
            slow.lerp_(fast, 1 - decay)
        for slow, fast in zip(average.buffers(), module.buffers(), strict=True):
            slow.copy_(fast)


def running_state(work: Path, name: str) -> Path:
    """Where a stage keeps how far it is."""
    return work / f'{name}.running'


def optimise(
    module: nn.Module,
    loss: LossFunction,
    schedule: Schedule,
    *,
    name: str,
    work: Path,
    seed: int,
    made_of: MadeOf,
    average: nn.Module | None = None,
    trained: list[nn.Parameter] | None = None,
    on_step: Callable[[int, float, nn.Module], None] | None = None,
) -> nn.Module:
    """Minimise `loss` over `module` and return the moving average of its weights. Its running
    state stays: what follows the last step may be cut off as well.

    Args:
        loss: called once per step with a numpy and a torch generator seeded by (seed, step).
        work: folder for the running state and the curve `<name>.jsonl`.
        made_of: what the loss is made of; a running state of anything else, or of other initial
            weights, is not continued.
        average: the averaged twin, when the loss itself needs it (consistency target); made here
            otherwise.
        trained: parameters to optimise (all by default).
        on_step: called with (step, seconds so far, averaged module) after every step; may raise
            to stop the stage.
    """
    average = average if average is not None else copy.deepcopy(module)
    average.requires_grad_(False)
    parameters = (
        trained if trained is not None else [p for p in module.parameters() if p.requires_grad]
    )
    optimiser = torch.optim.AdamW(
        parameters, schedule.rate, betas=(0.9, 0.98), weight_decay=schedule.decay
    )
    running, first, before = running_state(work, name), 0, 0.0
    made_of = {
        'schedule': asdict(schedule),
        'seed': seed,
        'from': weights_digest(module),
        **made_of,
    }
    work.mkdir(parents=True, exist_ok=True)
    state = torch.load(running, weights_only=True) if running.exists() else None
    if state and (why := stale(state.get('made_of'), made_of)):
        console.print(f'{name} starts anew, {running} is of another run: {why}', soft_wrap=True)
    elif state:
        module.load_state_dict(state['module'])
        average.load_state_dict(state['average'])
        optimiser.load_state_dict(state['optimiser'])
        first, before = state['step'], state['seconds']
    start = saved = time.monotonic()
    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn('loss {task.fields[loss]:.4f}'),
    )
    smooth = math.nan
    with (
        Progress(*columns) as progress,
        (work / f'{name}.jsonl').open('a' if first else 'w') as curve,
    ):
        bar = progress.add_task(name, total=schedule.steps, completed=first, loss=math.nan)
        for step in range(first, schedule.steps):
            for group in optimiser.param_groups:
                group['lr'] = schedule.at(step)
            value = loss(
                np.random.default_rng((seed, step)),
                torch.Generator().manual_seed(seed * 1_000_003 + step),
            )
            if not torch.isfinite(value):
                raise FloatingPointError(f'{name}: loss is {value.item()} at step {step}')
            optimiser.zero_grad(set_to_none=True)
            value.backward()
            norm = nn.utils.clip_grad_norm_(parameters, schedule.clip)
            optimiser.step()
            # Early on the average would be mostly the initial weights: let its memory grow with
            # the run.
            average_into(average, module, min(schedule.ema, (step + 1) / (step + 10)))
            smooth = value.item() if math.isnan(smooth) else 0.95 * smooth + 0.05 * value.item()
            seconds = before + time.monotonic() - start
            progress.update(bar, completed=step + 1, loss=smooth)
            if (step + 1) % 25 == 0:
                row = {
                    'step': step + 1,
                    'seconds': round(seconds, 1),
                    'loss': smooth,
                    'grad': float(norm),
                }
                curve.write(json.dumps(row) + '\n')
                curve.flush()
            if on_step is not None:
                on_step(step + 1, seconds, average)
            if time.monotonic() - saved >= SAVE_SECONDS or step + 1 == schedule.steps:
                saved = time.monotonic()
                _save(running, made_of, module, average, optimiser, step + 1, seconds)
    return average


def _save(
    path: Path,
    made_of: MadeOf,
    module: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
    step: int,
    seconds: float,
) -> None:
    partial = path.with_suffix('.partial')
    torch.save(
        {
            'made_of': json.loads(json.dumps(made_of)),
            'module': module.state_dict(),
            'average': average.state_dict(),
            'optimiser': optimiser.state_dict(),
            'step': step,
            'seconds': seconds,
        },
        partial,
    )
    partial.replace(path)
