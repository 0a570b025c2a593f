"""Every knob, declared once: frozen dataclasses with default, unit, range and a sentence.

ROS parameters and the YAML files in config/ are generated from these fields (`knob` metadata).
Those of the simulator stand in `wm_ros/sim/config.py`, those of training in
`training/recipes.py`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from wm_ros.datatypes import TensorSpec

ARMS = ('ttt', 'none', 'window')
CAMERA_TOPIC = '/camera/image_raw'
COMMAND_TOPIC = '/command'
PREDICTION_TOPIC = '/world_model/prediction'
# Fields of `ModelConfig` that packages made before them lack.
OFF_AT_ZERO = ('change_std', 'action_gain', 'reference')


def knob(
    default: Any,
    doc: str,
    *,
    unit: str = '',
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str | int, ...] = (),
) -> Any:
    """Declare a configuration field with what a user must know to set it."""
    meta = {'doc': doc, 'unit': unit, 'low': low, 'high': high, 'choices': choices}
    return field(default=default, metadata=meta)


def check_knobs(config: Any) -> None:
    """Raise ValueError naming the first field outside its declared range or choices."""
    for item in fields(config):
        value, meta = getattr(config, item.name), item.metadata
        where = f'{type(config).__name__}.{item.name} = {value!r}'
        if meta.get('choices') and value not in meta['choices']:
            raise ValueError(f'{where}: expected one of {", ".join(map(str, meta["choices"]))}')
        numbers = value if isinstance(value, tuple) else (value,)
        for number in numbers:
            if isinstance(number, int | float):
                if meta.get('low') is not None and number < meta['low']:
                    raise ValueError(f'{where}: below the lowest allowed, {meta["low"]}')
                if meta.get('high') is not None and number > meta['high']:
                    raise ValueError(f'{where}: above the highest allowed, {meta["high"]}')


@dataclass(frozen=True)
class ModelConfig:
    """Shape of one world model. Travels in the manifest; nothing else decides a tensor's size."""

    arm: str = knob('ttt', 'how the past is kept', choices=ARMS)
    action_width: int = knob(11, 'entries of the action vector', low=1, high=512)
    image_size: int = knob(64, 'side of the square frame', unit='px', low=32, high=256)
    downsample: int = knob(8, 'pixels per latent cell and side', choices=(8,))
    latent_channels: int = knob(8, 'channels of the latent', low=1, high=64)
    tokenizer_width: int = knob(24, 'channels of the first tokenizer layer', low=8, high=128)
    patch: int = knob(2, 'latent cells per token and side', low=1, high=4)
    width: int = knob(128, 'width of the trunk', low=32, high=1024)
    layers: int = knob(4, 'blocks of the trunk', low=1, high=24)
    heads: int = knob(4, 'attention heads of the trunk', low=1, high=16)
    writer_width: int = knob(96, 'width of the light writer', low=16, high=512)
    write_tokens: int = knob(4, 'tokens written per frame', low=1, high=64)
    memory_heads: int = knob(4, 'heads of the memory', low=1, high=16)
    key_width: int = knob(64, 'Dk, rows of one memory head', low=8, high=256)
    value_width: int = knob(32, 'Dv, columns of one memory head', low=8, high=256)
    window: int = knob(16, 'frames kept by the window arm', low=1, high=256)
    change_std: float = knob(
        0.0,
        'spread of a latent around the last one, from which the denoiser then starts; 0 starts '
        'from nothing',
        low=0,
        high=10,
    )
    reference: bool = knob(
        False,
        'the latent carries the last seen frame as well: the decoder moves its pixels to where '
        'the prediction says',
    )
    action_gain: float = knob(
        0.0,
        "factor of the action's change since the last frame, which is then an input of its own; "
        '0: it is not',
        low=0,
        high=1000,
    )

    def __post_init__(self) -> None:
        check_knobs(self)
        if self.latent_size % self.patch:
            raise ValueError(
                f'latent size {self.latent_size} is not a multiple of patch {self.patch}'
            )
        if self.tokens % self.write_tokens:
            raise ValueError(
                f'{self.tokens} tokens do not group into {self.write_tokens} write tokens'
            )

    @property
    def latent_size(self) -> int:
        """Latent cells per side."""
        return self.image_size // self.downsample

    @property
    def tokens(self) -> int:
        """Trunk tokens per frame (N)."""
        return (self.latent_size // self.patch) ** 2

    @property
    def coded_shape(self) -> tuple[int, int, int]:
        """Shape [C, h, w] of what the tokenizer makes of a frame and the denoiser predicts; of one
        draw of noise, too.
        """
        return (self.latent_channels, self.latent_size, self.latent_size)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape of one latent: the code, and behind it the reference where there is one."""
        reference = self.reference_shape[0] if self.reference else 0
        return (self.latent_channels + reference, self.latent_size, self.latent_size)

    @property
    def reference_shape(self) -> tuple[int, int, int]:
        """Shape of a `reference`: the code of the last seen frame and its pixels, cell by cell."""
        channels = self.latent_channels + 3 * self.downsample**2
        return (channels, self.latent_size, self.latent_size)

    def memory_specs(self) -> tuple[TensorSpec, ...]:
        """The tensors of one memory, batch axis left out.

        `latents` [2, C, h, w]: x_t and x_{t-1}, coded; `action` [A]: a_{t-1}; where latents carry
        one, `reference` [C + 3 * downsample^2, h, w]. The `ttt` arm adds
        `fast_weights` [heads, Dv, Dk]; the `window` arm `keys` [w, Nw, heads * Dk], `values`
        [w, Nw, heads * Dv] and `filled` [w] (1 where a frame is held).
        """
        specs = [
            TensorSpec('latents', (2, *self.coded_shape)),
            TensorSpec('action', (self.action_width,)),
        ]
        if self.reference:
            specs.append(TensorSpec('reference', self.reference_shape))
        if self.arm == 'ttt':
            specs.append(
                TensorSpec('fast_weights', (self.memory_heads, self.value_width, self.key_width))
            )
        if self.arm == 'window':
            rows = (self.window, self.write_tokens)
            specs.append(TensorSpec('keys', (*rows, self.memory_heads * self.key_width)))
            specs.append(TensorSpec('values', (*rows, self.memory_heads * self.value_width)))
            specs.append(TensorSpec('filled', (self.window,)))
        return tuple(specs)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values; those that are newer than the first packages
        (OFF_AT_ZERO) only where they are on.
        """
        return {
            name: value
            for name, value in asdict(self).items()
            if value or name not in OFF_AT_ZERO
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """Build from a manifest; unknown or missing fields raise ValueError naming them."""
        known = {item.name for item in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f'unknown model fields: {", ".join(unknown)}')
        if missing := sorted(known - set(values) - set(OFF_AT_ZERO)):
            raise ValueError(f'missing model fields: {", ".join(missing)}')
        return cls(**values)


@dataclass(frozen=True)
class RuntimeConfig:
    """Parameters of `world_model_node`. Read when the node is configured."""

    package: str = knob(
        'tabletop_small', 'model package: a directory, or the name of a shipped one'
    )
    contract: str = knob(
        '',
        'stream contract of this robot: a YAML file, or the name of a shipped one; empty takes '
        'the one in the package. It must fit the model',
    )
    backend: str = knob(
        'auto',
        'engine that runs the graphs; auto is resolved once, at configure',
        choices=('auto', 'tensorrt', 'cuda', 'openvino', 'onnxruntime', 'toy'),
    )
    precision: str = knob(
        'auto',
        'arithmetic of the engine; auto is its own choice',
        choices=('auto', 'fp32', 'bf16', 'fp16'),
    )
    threads: int = knob(1, 'threads of the engine', low=1, high=64)
    horizon: int = knob(
        1,
        'frames to predict ahead; beyond 1 on a fork, the last command held',
        unit='frames',
        low=1,
        high=64,
    )
    seed: int = knob(0, 'seed of the sampling noise', low=0)
    autostart: bool = knob(True, 'configure and activate at start; a failure ends the process')
    status_period_s: float = knob(
        1.0, 'period of ~/memory_status and /diagnostics', unit='s', low=0.05, high=60.0
    )
    stale_s: float = knob(
        1.0,
        'age of the newest camera or command message from which diagnostics warn',
        unit='s',
        low=0.05,
        high=600.0,
    )
    drift_frames: int = knob(
        100,
        'frames over which drift and latency figures are taken',
        unit='frames',
        low=10,
        high=10000,
    )
    jpeg_quality: int = knob(90, 'quality of ~/predicted/image/compressed', low=1, high=100)
    query_candidates: int = knob(
        256, 'candidates (K) of one planner query, at most', low=1, high=4096
    )
    query_steps: int = knob(
        64, 'actions (T) of one candidate or dream, at most', unit='frames', low=1, high=1024
    )
    query_draws: int = knob(
        2,
        'noise draws (M) per candidate where a query asks for none; 1 gives no uncertainty',
        low=1,
        high=8,
    )
    query_queue: int = knob(
        16, 'queries that wait at a time; further ones are refused', low=1, high=1024
    )
    state_budget_mib: float = knob(
        16.0, 'memory for kept states, all owners together', unit='MiB', low=0.0, high=65536.0
    )
    state_keep_s: float = knob(
        60.0, 'how long a state is kept by default', unit='s', low=1.0, high=86400.0
    )

    def __post_init__(self) -> None:
        check_knobs(self)


@dataclass(frozen=True)
class SimNodeConfig:
    """Parameters of `sim_node`, the table-top simulator as a robot."""

    kind: str = knob(
        'cup',
        'episode to play: its layout, and with driver plan its commands',
        choices=('free', 'push', 'practice', 'cup', 'drawer', 'view', 'skills'),
    )
    seed: int = knob(10_000_001, 'seed of the episode', low=0)
    frames: int = knob(0, 'frames to play; 0 plays the episode to its end', unit='frames', low=0)
    image_size: int = knob(64, 'side of the camera image', unit='px', low=32, high=256)
    rate_hz: float = knob(25.0, 'camera frames per second', unit='Hz', low=1.0, high=200.0)
    driver: str = knob(
        'plan',
        'who moves the robot: plan plays and publishes the commands of the '
        'episode, external follows the commands received',
        choices=('plan', 'external'),
    )
    loop: bool = knob(False, 'start the episode again at its end; otherwise the process ends')
    wait_subscribers: int = knob(
        1, 'camera subscribers to wait for before the first frame', low=0, high=100
    )
    settle_s: float = knob(
        1.0, 'how long no subscriber may come or go before it begins', unit='s', low=0.0, high=60.0
    )
    clock: bool = knob(False, 'publish /clock and stamp with simulated time, starting at 1 s')
    frame_id: str = knob('camera_optical_frame', 'tf frame of the camera')
    truth_file: str = knob(
        '', 'JSON lines file for the ground truth of every frame; empty writes none'
    )
    publish_log: str = knob(
        '', 'CSV file for stamp_ns, monotonic_ns and late_ms of every frame; empty writes none'
    )

    def __post_init__(self) -> None:
        check_knobs(self)


@dataclass(frozen=True)
class RecorderConfig:
    """Parameters of `recorder_node`, which writes topics into a bag that survives a kill."""

    out: str = knob('bag', 'directory of the bag; must not exist')
    topics: tuple[str, ...] = knob(
        (CAMERA_TOPIC, COMMAND_TOPIC, PREDICTION_TOPIC),
        'topics to record; types are taken from the running system',
    )
    wait_for_all: bool = knob(False, 'subscribe to nothing before every topic has a publisher')
    receive_log: str = knob(
        '',
        'CSV file for source_stamp_ns, horizon, monotonic_ns and latency_ms of every '
        'prediction received; empty writes none',
    )

    def __post_init__(self) -> None:
        check_knobs(self)


@dataclass(frozen=True)
class PlayerConfig:
    """Parameters of `player_node`, which plays a bag as if the robot were there."""

    bag: str = knob('', 'bag to play')
    topics: tuple[str, ...] = knob(('',), 'topics to play; one empty entry plays all')
    camera: str = knob(CAMERA_TOPIC, 'topic whose subscribers are waited for and that is logged')
    rate: float = knob(1.0, 'speed, 1 is as recorded', low=0.01, high=100.0)
    start_offset_s: float = knob(
        0.0, 'where in the bag to begin, from its first message', unit='s', low=0.0
    )
    loop: bool = knob(
        False,
        'begin again at the end, until stopped; with restamp the stamps go on growing over the '
        'seam, without it they jump back',
    )
    clock_hz: float = knob(
        0.0,
        'publish /clock, at least this often; time then runs at the speed of playing and stamps '
        'keep their recorded spacing. 0 publishes none',
        unit='Hz',
        low=0.0,
        high=1000.0,
    )
    restamp: bool = knob(True, 'shift the stamps in headers to now; false keeps the recorded ones')
    wait_subscribers: int = knob(
        1, 'camera subscribers to wait for before the first message', low=0, high=100
    )
    settle_s: float = knob(
        1.0, 'how long no subscriber may come or go before it begins', unit='s', low=0.0, high=60.0
    )
    publish_log: str = knob(
        '', 'CSV file for stamp_ns and monotonic_ns of every camera message; empty writes none'
    )

    def __post_init__(self) -> None:
        check_knobs(self)


@dataclass(frozen=True)
class PlannerConfig:
    """Parameters of `planner_node`, which reaches goal pictures by asking the world model."""

    world_model: str = knob('/world_model', 'full name of the node that answers queries')
    command_topic: str = knob(COMMAND_TOPIC, 'topic of the commands that it gives and listens to')
    solver: str = knob(
        'cem',
        'search where a goal does not name one; random asks about uniform candidates in every '
        'round',
        choices=('cem', 'mppi', 'random'),
    )
    candidates: int = knob(64, 'candidates of one query', low=2, high=4096)
    rounds: int = knob(4, 'queries of one search', low=1, high=100)
    draws: int = knob(1, 'noise draws per candidate while searching', low=1, high=8)
    finalists: int = knob(7, 'candidates asked about again, under fresh noise', low=1, high=1024)
    final_draws: int = knob(4, 'noise draws per finalist', low=1, high=8)
    margin: float = knob(
        0.05,
        'share of the highest cost of holding still so far that acting must save; as much again '
        'for every motion in a row that changed nothing',
        low=0.0,
        high=1.0,
    )
    searches: int = knob(
        2, 'searches that must find nothing worth it before the robot holds still', low=1, high=16
    )
    answer_s: float = knob(
        60.0, 'how long to wait for an answer or a prediction', unit='s', low=0.1, high=3600.0
    )
    knot_entries: tuple[str, ...] = knob(
        ('x', 'y', 'z'), 'skill knots: the action entries that are moved, by name'
    )
    knots: int = knob(3, 'skill knots: corners of a motion', low=1, high=64)
    knot_frames: int = knob(12, 'skill knots: length of a motion', unit='frames', low=1, high=64)
    knot_step: float = knob(
        0.1, 'skill knots: largest step per frame, as a share of the range', low=0.001, high=1.0
    )

    def __post_init__(self) -> None:
        check_knobs(self)
