"""`wm replay`: a bag through a package, and what came of it, as files for people and for machines.

In: names of a bag and of packages. Out: a folder with `metrics.json`, `timing.json`, `report.html`
and `side_by_side.mp4`. What was measured before a bag turned out damaged is kept.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from wm_ros.backends import resolve_backend
from wm_ros.bag import BagError, iter_steps
from wm_ros.contract import StreamContract, find_contract
from wm_ros.datatypes import Step
from wm_ros.evaluation import machine, replay_result
from wm_ros.evaluation.fail_if import Condition, ConditionError, Judgement, judge
from wm_ros.evaluation.pictures import Video
from wm_ros.evaluation.replay import Replay
from wm_ros.evaluation.replay_baseline import anchors_of, load_baseline, with_baseline
from wm_ros.evaluation.replay_closing import closing
from wm_ros.evaluation.replay_contender import Contender
from wm_ros.evaluation.replay_faults import faults_of
from wm_ros.evaluation.replay_film import Film, stride_of
from wm_ros.evaluation.replay_hooks import installed
from wm_ros.evaluation.replay_length import expected_steps
from wm_ros.evaluation.replay_moments import Strip
from wm_ros.evaluation.replay_page import FILM, write_page
from wm_ros.evaluation.replay_result import Origin
from wm_ros.evaluation.replay_tally import BASELINE, MODEL, SECOND
from wm_ros.model_package import ModelPackage, find_package
from wm_ros.world_model import WorldModel

METRICS, TIMING, REPORT = 'metrics.json', 'timing.json', 'report.html'
FILES = (METRICS, TIMING, REPORT, FILM)
DONE, INCOMPLETE, FAILED = 0, 1, 2


@dataclass(frozen=True)
class Order:
    """What is to be replayed.

    Attributes:
        bag: folder or file.
        package: name or folder of the package under test.
        compare: a second one; empty for none.
        contract: of the bag, by name or file; the package's own when empty.
        backend: engine, as `resolve_backend`.
        seed: of all noise.
        frames: steps at most; None for the whole bag.
        conditions: each makes the run fail where it holds.
        command: for `timing.json`.
        baseline: `metrics.json` of an earlier run, or its folder; None for none.
    """

    bag: Path
    package: str
    compare: str = ''
    contract: str = ''
    backend: str = 'auto'
    seed: int = 0
    frames: int | None = None
    conditions: tuple[Condition, ...] = ()
    command: str = ''
    baseline: Path | None = None


@dataclass(frozen=True)
class Done:
    """What came of a replay.

    Attributes:
        metrics: content of `metrics.json`.
        judgements: what came of the conditions.
        strips: pictures of chosen futures, by what they show.
    """

    metrics: dict[str, Any]
    judgements: tuple[Judgement, ...]
    strips: Mapping[str, Strip]

    @property
    def code(self) -> int:
        """0; 1 where the bag could be read in part only; 2 where a condition holds."""
        if self.metrics['error'] is not None:
            return INCOMPLETE
        return FAILED if any(judgement.failed for judgement in self.judgements) else DONE


def run(order: Order, out: Path, *, console: Console | None = None) -> int:
    """Replay, write the files, print where they are; return `Done.code`. See `perform`."""
    return perform(order, out, console=console).code


def perform(
    order: Order, out: Path, *, console: Console | None = None, stale: Sequence[Path] = ()
) -> Done:
    """Replay, write the files, print where they are and what came of the conditions.

    Files of an earlier run that this one would write are removed before it begins, but not where
    it is refused: a run that fails leaves no results of another.

    Args:
        order: what to do.
        out: folder, made if missing.
        console: to print to.
        stale: further files of an earlier run, removed with them.

    Raises:
        BagError: nothing of the bag can be used, or its list of faults cannot be read.
        BaselineError: the earlier run cannot stand beside this one.
        ConditionError: a condition names a run or a package that was not given.
        PackageError: no such package, or a damaged one.
        EngineUnavailable: the engine does not run here.
        ContractError: the contract does not fit a package.
        OSError: the files cannot be written.
    """
    console = console or Console()
    began_s = time.monotonic()
    require_named(order)
    contenders, contract = load(order)
    faults = faults_of(order.bag)
    earlier = None
    if order.baseline is not None:
        earlier = load_baseline(order.baseline, replay_result.FORMAT, contract.rate_hz)
    frames = expected_steps(order.bag, contract, order.frames)
    out.mkdir(parents=True, exist_ok=True)
    remove((*files_of(out), *stale))
    hooks = installed(contract.image_size, len(contract.cameras))
    anchors = () if earlier is None else anchors_of(earlier)
    replay = Replay(contenders, contract, frames, order.seed, hooks, machine.rss_bytes, anchors)
    counts: Counter[str] = Counter()
    with Video(out / FILM, contract.rate_hz) as video, _bar(console) as bar:
        film = _film(replay, video, frames)
        task = bar.add_task('replay', total=frames)
        error = _read(replay, order, film, counts, lambda: bar.update(task, advance=1))
        _imagine_on(replay, film, bar)
    if not video.count:
        (out / FILM).unlink(missing_ok=True)
    origin = Origin(order.bag.name, order.seed, counts, error, faults)
    metrics = replay_result.metrics(replay, origin)
    timing = replay_result.timing(replay, time.monotonic() - began_s, order.command)
    (out / METRICS).write_text(replay_result.text(metrics))  # first: what follows may fail
    (out / TIMING).write_text(replay_result.text(timing))
    both = metrics if earlier is None else with_baseline(metrics, earlier)
    judgements = [judge(condition, both) for condition in order.conditions]
    write_page(out / REPORT, replay, metrics, timing, judgements, bool(video.count), earlier)
    for line in closing(both, timing, judgements, out / REPORT, out / METRICS):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return Done(metrics, tuple(judgements), replay.moments.chosen())


def files_of(out: Path) -> list[Path]:
    """Return the files that a replay into a folder writes."""
    return [out / name for name in FILES]


def remove(files: Iterable[Path]) -> None:
    """Remove files, those of them that there are."""
    for path in files:
        path.unlink(missing_ok=True)


def require_named(order: Order) -> None:
    """Refuse what could only count as not measured, minutes later.

    Raises:
        ConditionError: a condition names a run or a package that was not given.
    """
    given = {SECOND: order.compare, BASELINE: order.baseline}
    options = {SECOND: '--compare', BASELINE: '--baseline'}
    for condition in order.conditions:
        if condition.who in given and not given[condition.who]:
            option = options[condition.who]
            raise ConditionError(f'condition {condition.text!r} needs {option}')


def load(order: Order) -> tuple[list[Contender], StreamContract]:
    """Load the packages onto their engines and the contract; see `run` for what is refused."""
    named = {MODEL: order.package} | ({SECOND: order.compare} if order.compare else {})
    packages = {who: ModelPackage.load(find_package(name)) for who, name in named.items()}
    contract = packages[MODEL].manifest.contract
    if order.contract:
        contract = StreamContract.load(find_contract(order.contract))
    contenders = []
    for who, package in packages.items():
        contract.require_fit(package.manifest.contract)
        model = WorldModel(package, resolve_backend(order.backend, package))
        contenders.append(Contender(who, model, contract, order.seed, time.perf_counter_ns))
    return contenders, contract


def _film(replay: Replay, video: Video, frames: int) -> Film:
    rate_hz, names = replay.contract.rate_hz, [one.name for one in replay.contenders]
    return Film(video, names, replay.window, stride_of(frames, rate_hz), 1 / rate_hz)


def _read(
    replay: Replay,
    order: Order,
    film: Film,
    counts: Counter[str],
    told: Callable[[], None],
) -> str | None:
    """Take every step of the bag; return what ended it early, None for nothing."""
    steps: Iterator[Step] = iter_steps(order.bag, replay.contract, counts=counts)
    error = None
    try:
        for step in islice(steps, order.frames):
            replay.take(step, film)
            told()
    except BagError as found:
        if not replay.steps:
            raise
        error = str(found)
    return error


def _imagine_on(replay: Replay, film: Film, bar: Progress) -> None:
    tasks: dict[str, Any] = {}

    def told(who: str, done: int, total: int) -> None:
        if who not in tasks:
            tasks[who] = bar.add_task(f'free-running, {who}', total=total)
        bar.update(tasks[who], completed=done)

    replay.finish(told, film)


def _bar(console: Console) -> Progress:
    """Return a progress bar that shows on a terminal only."""
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn())
    return Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
    )
