"""A rasterised cups world: the smallest world in which memory decides. A test fixture, not the
product.

Six cups on a 2 x 3 grid, each over a coloured square; a gripper visits cups and lifts their lids
for a few frames. Action: absolute gripper position and lift, three entries in [-1, 1]. Seeded,
numpy only.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from training.fingerprint import array_digest
from training.world import Clip, ProbeEpisode, ProbeTest, skewed_weights

SIZE = 32
CUPS = 6
CENTRES = np.array([(x, y) for y in (9, 24) for x in (5, 16, 27)])
PALETTE = np.array(
    [(220, 40, 40), (40, 200, 60), (50, 70, 230), (230, 210, 40), (200, 50, 210), (40, 210, 210)],
    np.uint8,
)
REACH = 5.0
LAGS = (48, 128, 256)


class _Hand:
    """Where the gripper is and what it is about to do."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.position = rng.uniform(4, 28, 2)
        self.hold = 0

    def towards(self, cup: int) -> bool:
        """Move one frame towards a cup; True once it is there."""
        gap = CENTRES[cup] - self.position
        distance = float(np.hypot(*gap))
        if distance <= REACH:
            self.position = CENTRES[cup].astype(float)
            return True
        self.position = self.position + gap / distance * REACH
        return False


def _paint(colours: np.ndarray, position: np.ndarray, lifted: int) -> np.ndarray:
    image = np.full((SIZE, SIZE, 3), 28, np.uint8)
    for cup, (x, y) in enumerate(CENTRES):
        if cup == lifted:
            image[y - 4 : y + 4, x - 4 : x + 4] = PALETTE[colours[cup]]
            image[y - 7 : y - 5, x - 4 : x + 4] = 130
        else:
            image[y - 4 : y + 4, x - 4 : x + 4] = 130
    px, py = np.clip(np.round(position).astype(int), 1, SIZE - 2)
    image[py - 1 : py + 2, px] = 255
    image[py, px - 1 : px + 2] = 255
    return image


def _simulate(
    colours: np.ndarray, targets: list[tuple[int, int]], frames: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Play (cup, not before frame) targets and return positions [T, 2], lifted cup per frame
    [T], actions [T, 3].
    """
    hand = _Hand(rng)
    queue = list(targets)
    positions, lifted, actions = (
        np.zeros((frames, 2)),
        np.full(frames, -1),
        np.zeros((frames, 3), np.float32),
    )
    current, aim = -1, int(rng.integers(CUPS))
    for t in range(frames):
        positions[t], lifted[t] = hand.position, current
        due = bool(queue) and t >= queue[0][1] - 14
        if hand.hold > 0:
            hand.hold -= 1
            if hand.hold == 0:
                current = -1
        else:
            aim = queue[0][0] if due else aim
            if hand.towards(int(aim)):
                if due and t >= queue[0][1]:
                    current, hand.hold = int(aim), int(rng.integers(2, 5))
                    queue.pop(0)
                elif not due:
                    aim = int(rng.integers(CUPS))
        # a_t is what is commanded from frame t on: the pose and lid that frame t + 1 will show.
        actions[t] = (*(hand.position / (SIZE / 2) - 1), 1.0 if current >= 0 else -1.0)
    return positions, lifted, actions


class CupsWorld:
    """Practice clips and recall probes of the cups world (the `World` protocol)."""

    action_width = 3
    image_size = SIZE
    clips = 0

    def made_of(self, skills: bool = False) -> dict[str, Any]:
        """Name the world by a short sample of what it plays."""
        clip = self.practice(0, 100)
        sample = array_digest(clip.images_THWC, clip.actions_TA.round(3), clip.visible_TF)
        return {'name': 'cups', 'sample': sample}

    def practice(self, seed: int, frames: int) -> Clip:
        """Return a clip with about a hundred reveals per thousand frames, revisits skewed."""
        rng = np.random.default_rng(seed)
        colours = rng.integers(0, 6, CUPS)
        targets, t = [], 0
        weights = skewed_weights(rng, CUPS)
        while t < frames:
            if rng.random() < 0.04:
                weights = skewed_weights(rng, CUPS)
            targets.append((int(rng.choice(CUPS, p=weights)), t))
            t += int(rng.integers(6, 14))
        return self._clip(colours, targets, frames, rng)

    def probe(self, seed: int) -> ProbeEpisode:
        """Return one clip with its twins: each cup shown once, then again only after its lag."""
        rng = np.random.default_rng(seed)
        order = rng.permutation(CUPS)
        colours = (rng.permutation(6) + seed) % 6
        frames = 16 * CUPS + max(LAGS) + 40
        targets = [(int(cup), 4 + 14 * i) for i, cup in enumerate(order)]
        # The last three shown are tested; the first three may be lifted again in between.
        tested = order[3:]
        for cup, lag in zip(tested, LAGS, strict=True):
            shown = next(t for c, t in targets if c == cup)
            targets.append((int(cup), shown + 3 + lag))
        busy = [(int(rng.choice(order[:3])), t) for t in range(100, frames, 20)]
        targets += [b for b in busy if all(abs(b[1] - t) > 14 for _, t in targets)]
        targets.sort(key=lambda item: item[1])
        play_seed = int(rng.integers(2**31))
        base = self._clip(colours, targets, frames, np.random.default_rng(play_seed))
        images, tests = [base.images_THWC], []
        for cup, lag in zip(tested, LAGS, strict=True):
            # The partner is a cup that is never tested and not shown shortly before.
            shows = np.flatnonzero(base.visible_TF[:, cup])
            scored = int(shows[shows > shows[0] + 20][0])
            partner = next(
                int(c) for c in order[:3] if not base.visible_TF[scored - 12 : scored, c].any()
            )
            swapped = colours.copy()
            swapped[[cup, partner]] = colours[[partner, cup]]
            images.append(
                self._clip(swapped, targets, frames, np.random.default_rng(play_seed)).images_THWC
            )
            tests.append(ProbeTest(len(images) - 1, lag, scored - 1, scored))
        return ProbeEpisode(np.stack(images), base.actions_TA, tuple(tests))

    def _clip(
        self,
        colours: np.ndarray,
        targets: list[tuple[int, int]],
        frames: int,
        rng: np.random.Generator,
    ) -> Clip:
        positions, lifted, actions = _simulate(colours, targets, frames, rng)
        images = np.stack([_paint(colours, p, c) for p, c in zip(positions, lifted, strict=True)])
        return Clip(images, actions, lifted[:, None] == np.arange(CUPS))
