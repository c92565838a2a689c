"""Short generated videos of moving things.

A scene has four attributes. The tiny base model learned to describe scenes in a clean look (`GENERAL`). The demo's
videos show such scenes as a bad night camera would (`NIGHT`), and its labels follow from the event.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SIZE = 112  # pixels, both sides of a source video
COLORS = {"red": (225, 40, 40), "green": (40, 190, 60), "blue": (50, 80, 235), "yellow": (235, 220, 40)}
AGENTS = ("person", "car", "ball")
SIDES = ("left", "right", "top", "bottom")
EVENTS = {
    "pass": "passes through",
    "stop": "stops in the middle",
    "turn": "turns back",
    "drop": "leaves a box",
    "take": "takes a box",
}


@dataclass(frozen=True)
class Scene:
    """What happens in a video, in keys of COLORS, AGENTS, SIDES and EVENTS."""

    color: str
    agent: str
    side: str
    event: str

    @property
    def caption(self) -> str:
        return f"A {self.color} {self.agent} comes from the {self.side} and {EVENTS[self.event]}."


@dataclass(frozen=True)
class Camera:
    """How a scene is shown. Levels and noise are in 8-bit grey levels, the shake is in pixels of the frame."""

    background: tuple[float, float]
    gradient: float
    noise: tuple[float, float]
    shake: int
    clutter: int
    light: float = 1.0
    lift: float = 0.0


GENERAL = Camera(background=(0, 70), gradient=20, noise=(0, 6), shake=0, clutter=1)
NIGHT = Camera(background=(40, 90), gradient=30, noise=(10, 18), shake=2, clutter=4, light=0.5, lift=10)


def random_scene(rng: random.Random) -> Scene:
    return Scene(rng.choice(list(COLORS)), rng.choice(AGENTS), rng.choice(SIDES), rng.choice(list(EVENTS)))


def frame_times(n: int) -> NDArray[np.float64]:
    """The middles of `n` equal parts of the unit interval, (n,): frames of canonical clips are taken there too."""
    return (np.arange(n) + 0.5) / n


def render(scene: Scene, camera: Camera, times: NDArray[np.float64], rng: random.Random) -> NDArray[np.uint8]:
    """Draw a scene at the given times in [0, 1]; returns uint8 (len(times), SIZE, SIZE, 3)."""
    scale = rng.uniform(0.9, 1.2)
    lane = rng.uniform(34, SIZE - 34)
    middle = rng.uniform(0.42, 0.58)  # the place of the event, as a part of the way across
    moment = rng.uniform(0.4, 0.6)  # its time
    background, canvas = _background(camera, rng)
    shade = np.array(COLORS[scene.color]) * rng.uniform(0.8, 1.1) + [rng.uniform(-12, 12) for _ in range(3)]
    noise = rng.uniform(*camera.noise)
    grain = np.random.default_rng(rng.getrandbits(32))

    def place(way: float) -> tuple[float, float]:
        along = -4 + way * (SIZE + 8)
        return {
            "left": (along, lane),
            "right": (SIZE - along, lane),
            "top": (lane, along),
            "bottom": (lane, SIZE - along),
        }[scene.side]

    frames = []
    for time in times:
        image = canvas.copy()
        draw = ImageDraw.Draw(image)
        if (scene.event == "drop" and time >= moment) or (scene.event == "take" and time < moment):
            x, y = place(middle)
            half = 6 * scale
            draw.rectangle([x - half, y - half, x + half, y + half], fill=(245, 245, 245))
        _draw_agent(draw, scene.agent, place(_way(scene.event, time, moment, middle)), _rgb(shade), scale)
        if camera.shake:
            dx, dy = rng.randint(-camera.shake, camera.shake), rng.randint(-camera.shake, camera.shake)
            shift = (1, 0, dx, 0, 1, dy)
            image = image.transform(image.size, Image.Transform.AFFINE, shift, fillcolor=_rgb(background))
        pixels = np.asarray(image).astype(np.float32) * camera.light + camera.lift
        if noise:  # grains of 2 x 2 pixels: they survive when the picture is halved
            grains = grain.normal(0, noise, (SIZE // 2, SIZE // 2, 3)).astype(np.float32)
            pixels += grains.repeat(2, axis=0).repeat(2, axis=1)
        frames.append(pixels.clip(0, 255).astype(np.uint8))
    return np.stack(frames)


def write_video(path: Path, frames: NDArray[np.uint8], fps: int, crf: int = 18) -> None:
    """Encode uint8 (T, H, W, 3) frames as an H.264 mp4 file."""
    import av

    with av.open(str(path), "w") as container:
        # With a lookahead, x264 encodes about one video in ten to other bytes each time.
        options = {"crf": str(crf), "preset": "veryfast", "threads": "1", "x264-params": "rc-lookahead=0"}
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def _way(event: str, time: float, moment: float, middle: float) -> float:
    """Where the agent is at `time`, as a part of the way across the picture."""
    if time < moment:
        return time / moment * middle
    if event == "stop":
        return middle
    after = (time - moment) / (1 - moment)
    return middle * (1 - after) if event == "turn" else middle + after * (1 - middle)


def _background(camera: Camera, rng: random.Random) -> tuple[NDArray[np.float64], Image.Image]:
    level = np.array([rng.uniform(*camera.background) for _ in range(3)])
    ramp = np.linspace(-1, 1, SIZE)
    slope = ramp[:, None, None] * rng.uniform(-1, 1) + ramp[None, :, None] * rng.uniform(-1, 1)
    image = Image.fromarray((level + slope * camera.gradient).clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.randint(0, camera.clutter)):
        x, y, w, h = rng.uniform(0, SIZE), rng.uniform(0, SIZE), rng.uniform(3, 20), rng.uniform(3, 20)
        draw.rectangle([x, y, x + w, y + h], fill=_rgb(level + rng.uniform(-35, 35)))
    return level, image


def _draw_agent(
    draw: ImageDraw.ImageDraw, agent: str, at: tuple[float, float], fill: tuple[int, int, int], scale: float
) -> None:
    x, y = at
    if agent == "person":
        w, h = 5 * scale, 13 * scale
        draw.rectangle([x - w, y - h / 2, x + w, y + h], fill=fill)
        draw.ellipse([x - w, y - h / 2 - 2 * w, x + w, y - h / 2], fill=fill)
    elif agent == "car":
        w, h, r = 17 * scale, 7 * scale, 4 * scale
        draw.rectangle([x - w, y - h, x + w, y + h], fill=fill)
        for wheel in (x - 0.55 * w, x + 0.55 * w):
            draw.ellipse([wheel - r, y + h - r, wheel + r, y + h + r], fill=(15, 15, 15))
    else:
        r = 11 * scale
        draw.ellipse([x - r, y - r, x + r, y + r], fill=fill)


def _rgb(values: NDArray[np.float64]) -> tuple[int, int, int]:
    r, g, b = (int(v) for v in np.clip(values, 0, 255))
    return r, g, b
