"""One recorded run: a source of frames, the world model and the recorder as separate processes.

Both demos are this, with another source. Ends with a bag, logs, a summary with its gates and a
report in one folder.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from wm_ros.contract import StreamContract
from wm_ros.evaluation import gate
from wm_ros.evaluation.report import write_report_from_bag
from wm_ros.model_package import PackageError
from wm_ros.nodes import gates, measure, table
from wm_ros.nodes.logs import CsvLog, read_log
from wm_ros.nodes.processes import NodeProcess, ProcessFailed, private_domain

SAMPLE_S = 0.5
START_S = 90.0
AFTERGLOW_S = 1.0
RESULTS = ('report.html', 'side_by_side.mp4', 'summary.json', 'bag')
OUTPUTS = (*RESULTS, 'logs', 'publish.csv', 'receive.csv', 'memory.csv', 'truth.jsonl')


@dataclass(frozen=True)
class Rehearsal:
    """What to run.

    Attributes:
        out: folder of the results; those of an earlier run are replaced.
        package: directory of the model package.
        contract: of the robot that the source plays.
        source: `sim` or `player`, keys of the table.
        source_parameters: over those of the table.
        frames: camera frames that the source will send.
        rate_hz: how fast it sends them.
        model_parameters: of the world model node, over package and seed.
        moments: given the stamps of the frames sent, what the report should show: text -> stamp.
    """

    out: Path
    package: Path
    contract: StreamContract
    source: str
    source_parameters: Mapping[str, Any]
    frames: int
    rate_hz: float
    title: str
    model_parameters: Mapping[str, Any] = field(default_factory=dict)
    moments: Callable[[list[int]], Mapping[str, int]] | None = None


def rehearse(plan: Rehearsal, console: Console) -> dict[str, Any]:
    """Run it, measure it, write `summary.json` and the report; return the summary.

    The results of an earlier run go first, so that none of them can be taken for this run's.

    Raises:
        ProcessFailed: a process ended with an error or took too long.
        ValueError: nothing was predicted.
    """
    out = plan.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    for name in OUTPUTS:
        target = out / name
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)
    samples = play(plan, out, console)
    memory_log = CsvLog(str(out / 'memory.csv'), ('monotonic_ns', 'rss_bytes', 'shared_bytes'))
    for sample in samples:
        memory_log.write(sample.monotonic_ns, sample.rss_bytes, sample.shared_bytes)
    memory_log.close()
    latencies = measure.read_latencies(out / 'publish.csv', out / 'receive.csv')
    summary = measure.summarise(out / 'bag', latencies, samples)
    summary |= {'source': plan.source, **plan.source_parameters}
    for path in ('publish_log', 'truth_file', 'bag'):
        summary.pop(path, None)
    found = gates.judge(summary, plan.frames)
    summary['gates'] = [asdict(one) for one in found]
    (out / 'summary.json').write_text(json.dumps(summary, indent=1, allow_nan=False) + '\n')
    stamps = [int(row['stamp_ns']) for row in read_log(out / 'publish.csv')]
    write_report_from_bag(
        out / 'bag',
        plan.contract,
        out,
        {**summary, 'gates': {one.name: one.text for one in found}},
        title=plan.title,
        memory_bytes=[sample.rss_bytes for sample in samples],
        memory_text=summary['rss_text'],
        moments_ns=plan.moments(stamps) if plan.moments is not None else None,
    )
    return summary


def play(plan: Rehearsal, out: Path, console: Console) -> list[measure.MemorySample]:
    """Start the three processes, wait for the source to end, stop the others."""
    model = {'package': str(plan.package), **plan.model_parameters}
    recorder = {
        'out': str(out / 'bag'),
        'receive_log': str(out / 'receive.csv'),
        'topics': table.recorded_topics(plan.contract),
    }
    source = {**plan.source_parameters, 'publish_log': str(out / 'publish.csv')}
    with private_domain() as environment, ExitStack() as stack:
        nodes = [
            stack.enter_context(
                NodeProcess(name, out / 'logs' / f'{name}.log', environment, parameters)
            )
            for name, parameters in (
                ('world_model', model),
                ('recorder', recorder),
                (plan.source, source),
            )
        ]
        samples = watch(plan, nodes, out / 'publish.csv', console)
        time.sleep(AFTERGLOW_S)
        nodes[1].stop()
        nodes[0].stop()
    return samples


def watch(
    plan: Rehearsal, nodes: list[NodeProcess], publish_log: Path, console: Console
) -> list[measure.MemorySample]:
    """Show progress and sample the world model's memory until the source has ended."""
    process = psutil.Process(nodes[0].pid)
    samples = []
    deadline_s = time.monotonic() + START_S + 2 * plan.frames / plan.rate_hz
    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        TextColumn('{task.completed} frames'),
    )
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task('starting', total=plan.frames)
        while nodes[2].running:
            time.sleep(SAMPLE_S)
            for node in nodes:
                node.check()
            if time.monotonic() > deadline_s:
                raise ProcessFailed(f'{nodes[2].name} has not ended in time:\n{nodes[2].tail()}')
            memory = process.memory_info()
            samples.append(measure.MemorySample(time.monotonic_ns(), memory.rss, memory.shared))
            sent = publish_log.read_bytes().count(b'\n') - 1 if publish_log.exists() else 0
            progress.update(
                task, completed=max(sent, 0), description='playing' if sent > 0 else None
            )
    nodes[2].check()
    return samples


def run(name: str, make: Callable[[], Rehearsal]) -> int:
    """Make a plan, rehearse it, print the figures that matter and the gates.

    Returns:
        The exit status: 1 when a part is missing or a process fails; 2 when a gate that the run
        is long enough to judge is missed, which is named; otherwise 0.
    """
    console = Console()
    try:
        plan = make()
        summary = rehearse(plan, console)
    except (PackageError, ProcessFailed, ValueError) as error:
        print(f'{name}: {error}', file=sys.stderr)
        return 1
    found = gates.judge(summary, plan.frames)
    show(summary, found, plan.out, console)
    if missed := gate.missed(found):
        text = f'{name}: gates missed: {"; ".join(missed)}'
        console.print(text, style='red', markup=False, soft_wrap=True)
        return 2
    return 0


def show(summary: Mapping[str, Any], found: list[gate.Gate], out: Path, console: Console) -> None:
    """Print the figures that matter, the gates, and where to look."""
    latency, state = summary['latency_ms'], summary['state_bytes']
    console.print(
        f'{summary["predictions"]} predictions of {summary["frames_sent"]} frames; camera to '
        f'prediction in another process p50 {latency["p50"]:.1f} ms, p99 {latency["p99"]:.1f} ms; '
        f'state {state["first"]} -> {state["last"]} B; {summary["backend"]} '
        f'{summary["precision"]}; load {summary["load"][0]}',
        highlight=False,
    )
    console.print(summary['rss_text'], highlight=False)
    gate.show(found, console)
    for name in RESULTS:
        console.print(f'  {out / name}', highlight=False, soft_wrap=True)
