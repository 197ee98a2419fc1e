"""Silhouette families of the synthetic world. Each is regular, so occluded regions can be learnt; few are convex.

A silhouette is a list of parts, painted one after the other: (rings, 1) fills its rings by the even-odd rule, and
(rings, 0) cuts them out of what was painted before. Coordinates have no unit; y points down.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Rng = np.random.Generator
Part = tuple[list[np.ndarray], int]
Silhouette = list[Part]

TAU = 2 * np.pi


def _circle(x: float, y: float, rx: float, ry: float | None = None, num: int = 40) -> np.ndarray:
    t = np.linspace(0, TAU, num, endpoint=False)
    return np.stack([x + rx * np.cos(t), y + (rx if ry is None else ry) * np.sin(t)], 1)


def _box(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], float)


def _limb(x0: float, y0: float, x1: float, y1: float, w0: float, w1: float | None = None) -> np.ndarray:
    """A bar from one point to another with round ends, of half width w0 to w1."""
    angle = np.arctan2(y1 - y0, x1 - x0)
    t = np.linspace(-np.pi / 2, np.pi / 2, 7)
    end = np.stack([np.cos(t + angle), np.sin(t + angle)], 1)
    return np.concatenate([[x1, y1] + end * (w0 if w1 is None else w1), [x0, y0] - end * w0])


def _polar(radius: Callable[[np.ndarray], np.ndarray], num: int = 120) -> np.ndarray:
    t = np.linspace(0, TAU, num, endpoint=False)
    r = radius(t)
    return np.stack([r * np.cos(t), r * np.sin(t)], 1)


def _mirror(half_width: np.ndarray, height: np.ndarray) -> np.ndarray:
    """The closed outline of a body with the given half widths at the given heights, alike on both sides."""
    return np.concatenate([np.stack([half_width, height], 1), np.stack([-half_width, height], 1)[::-1]])


def _fill(*rings: np.ndarray) -> Silhouette:
    return [([ring], 1) for ring in rings]


def _cut(*rings: np.ndarray) -> Silhouette:
    return [([ring], 0) for ring in rings]


def superellipse(rng: Rng) -> Silhouette:
    """From a four-pointed astroid to a rounded box; some are frames."""
    power = 2 / rng.choice([rng.uniform(0.5, 0.9), rng.uniform(2, 5)])
    t = np.linspace(0, TAU, 80, endpoint=False)
    ring = np.stack([np.sign(f) * np.abs(f) ** power for f in (np.cos(t), np.sin(t))], 1)
    return _fill(ring) + (_cut(ring * rng.uniform(0.5, 0.75)) if rng.random() < 0.5 else [])


def star(rng: Rng) -> Silhouette:
    """A star with four to nine points."""
    num = int(rng.integers(4, 10))
    t = np.arange(2 * num) * np.pi / num - np.pi / 2
    r = np.where(np.arange(2 * num) % 2, rng.uniform(0.25, 0.55), 1.0)
    return _fill(np.stack([r * np.cos(t), r * np.sin(t)], 1))


def gear(rng: Rng) -> Silhouette:
    """A cog wheel with a round hole."""
    num, depth, hole = int(rng.integers(7, 14)), rng.uniform(0.15, 0.35), rng.uniform(0.2, 0.45)
    wheel = _polar(lambda t: 1 - depth * np.clip(0.5 + 2 * np.cos(num * t), 0, 1), 240)
    return _fill(wheel) + _cut(_circle(0, 0, hole))


def flower(rng: Rng) -> Silhouette:
    """Round petals about a centre."""
    num, depth = int(rng.integers(4, 9)), rng.uniform(0.3, 0.7)
    petals = _polar(lambda t: 1 - depth * (0.5 - 0.5 * np.cos(num * t)) ** rng.uniform(0.8, 2))
    return _fill(petals) + (_cut(_circle(0, 0, 0.18)) if rng.random() < 0.4 else [])


def crescent(rng: Rng) -> Silhouette:
    """A moon."""
    return _fill(_circle(0, 0, 1, num=80)) + _cut(_circle(rng.uniform(0.35, 0.7), 0, rng.uniform(0.75, 0.95), num=80))


def arrow(rng: Rng) -> Silhouette:
    """An arrow with one head or two."""
    shaft, head, back = rng.uniform(0.08, 0.22), rng.uniform(0.4, 0.7), rng.uniform(0.0, 0.25)
    tip = np.array([[1, 0], [0.35 - back, head], [0.35, shaft], [0.35, -shaft], [0.35 - back, -head]])
    tail = tip * [-1, 1] if rng.random() < 0.4 else _box(-1, -1.6 * shaft, -0.85, 1.6 * shaft)
    return _fill(_box(-0.95, -shaft, 0.4, shaft), tip, tail)


def cross(rng: Rng) -> Silhouette:
    """Three to six equal arms, straight, flared or with knobs."""
    num, near, far, knob = int(rng.integers(3, 7)), rng.uniform(0.08, 0.2), rng.uniform(0.06, 0.32), rng.random() < 0.4
    arms = []
    for angle in np.arange(num) * TAU / num - np.pi / 2:
        c, s = np.cos(angle), np.sin(angle)
        arms.append(np.array([[0, -near], [1, -far], [1, far], [0, near]]) @ [[c, s], [-s, c]])
        arms += [_circle(c, s, far * 1.3)] * knob
    return _fill(_circle(0, 0, near * 1.4), *arms)


def wheel(rng: Rng) -> Silhouette:
    """A ring, with or without spokes."""
    inner, num = rng.uniform(0.6, 0.85), int(rng.choice([0, 3, 4, 5, 6, 8]))
    spokes = [_limb(0, 0, inner * np.cos(a), inner * np.sin(a), 0.07) for a in np.arange(num) * TAU / max(1, num)]
    hub = [_circle(0, 0, rng.uniform(0.15, 0.28))] if num else []
    return _fill(_circle(0, 0, 1, num=64)) + _cut(_circle(0, 0, inner, num=64)) + _fill(*spokes, *hub)


def vase(rng: Rng) -> Silhouette:
    """A turned body, alike left and right, with or without two handles."""
    knots = np.concatenate([[rng.uniform(0.15, 0.5)], rng.uniform(0.12, 0.7, 4), [rng.uniform(0.2, 0.5)]])
    height = np.linspace(0, 1, 48)
    step = height * (len(knots) - 1)
    left = np.minimum(step.astype(int), len(knots) - 2)
    blend = 0.5 - 0.5 * np.cos(np.pi * (step - left))
    body = _mirror(knots[left] * (1 - blend) + knots[left + 1] * blend, height * 2 - 1)
    if rng.random() < 0.5:
        return _fill(body)
    x, y, r = rng.uniform(0.4, 0.55), rng.uniform(-0.5, 0), rng.uniform(0.28, 0.38)
    outer, inner = ([_circle(side * x, y, r * k, r * k * 1.3) for side in (-1, 1)] for k in (1, 0.68))
    return _fill(*outer) + _cut(*inner) + _fill(body)


def goblet(rng: Rng) -> Silhouette:
    """A bowl on a thin stem with a foot."""
    width, stem, foot = rng.uniform(0.35, 0.7), rng.uniform(0.04, 0.09), rng.uniform(0.3, 0.55)
    height = np.array([-1, -0.75, -0.5, -0.25, -0.05, 0.05, 0.75, 0.88, 1])
    bulge = rng.uniform(0.9, 1.2)
    half = np.array([width, width * bulge, width * bulge, width * 0.75, width * 0.3, stem, stem, foot * 0.7, foot])
    return _fill(_mirror(half, height))


def leaf(rng: Rng) -> Silhouette:
    """Lobes in pairs along a stalk."""
    num, depth, width = int(rng.integers(2, 6)), rng.uniform(0.25, 0.6), rng.uniform(0.4, 0.75)
    t = np.linspace(0, 1, 80)
    lobes = 1 - depth * (0.5 + 0.5 * np.cos(TAU * num * t))
    blade = _mirror(width * np.sin(np.pi * t ** rng.uniform(0.7, 1.3)) ** 0.7 * lobes + 0.02, 2 * t - 1)
    return _fill(blade, _limb(0, 0.8, 0, 1.4, 0.05))


def mug(rng: Rng) -> Silhouette:
    """A cup with a handle."""
    top, bottom, x, r = rng.uniform(0.5, 0.75), rng.uniform(0.4, 0.7), 0.6, rng.uniform(0.35, 0.5)
    thick = rng.uniform(0.55, 0.75)
    handle = _fill(_circle(x, 0, r, r * 1.3)) + _cut(_circle(x, 0, r * thick, r * 1.3 * thick))
    return handle + _fill(np.array([[-top, -0.8], [top, -0.8], [bottom, 0.8], [-bottom, 0.8]]))


def chair(rng: Rng) -> Silhouette:
    """A seat, four legs in perspective and a barred back."""
    leg, seat, depth, bars = rng.uniform(0.05, 0.09), rng.uniform(0.05, 0.12), rng.uniform(0, 0.3), rng.integers(1, 5)
    top = rng.uniform(-1.3, -0.8)
    legs = [_box(x - leg, 0, x + leg, y) for x, y in ((-0.6, 1), (0.6, 1), (-0.6 + depth, 0.8), (0.6 + depth, 0.8))]
    back = [_box(x - leg, top, x + leg, 0) for x in (-0.6 + depth, 0.6 + depth)]
    rails = [_box(-0.6 + depth, y, 0.6 + depth, y + 0.12) for y in np.linspace(top, -0.3, int(bars))]
    plate = np.array([[-0.68, seat], [0.68, seat], [0.68 + depth, -seat], [-0.68 + depth, -seat]])
    return _fill(*legs, *back, *rails, plate)


def table(rng: Rng) -> Silhouette:
    """A top on two to four legs, or on one foot."""
    thick, leg, splay = rng.uniform(0.06, 0.14), rng.uniform(0.05, 0.1), rng.uniform(-0.15, 0.15)
    height, num = rng.uniform(0.8, 1.4), int(rng.integers(1, 5))
    if num == 1:
        return _fill(_box(-1, 0, 1, 2 * thick), _box(-leg, 0, leg, height), _box(-0.5, height - 0.1, 0.5, height))
    legs = [_limb(x * 0.85, thick, x * (0.85 + splay), height, leg) for x in np.linspace(-1, 1, num)]
    shelf = [_box(-0.85, height * 0.6, 0.85, height * 0.6 + 0.1)] if rng.random() < 0.4 else []
    return _fill(_box(-1, 0, 1, 2 * thick), *legs, *shelf)


def animal(rng: Rng) -> Silhouette:
    """A body on four legs with neck, head, ears and tail."""
    body, leg, long = rng.uniform(0.25, 0.45), rng.uniform(0.06, 0.12), rng.uniform(0.5, 1.0)
    neck, thick, swing = rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.2), rng.uniform(-0.1, 0.25)
    x, y = 0.85 + neck * 0.3, -body * 0.5 - neck
    ears = [_limb(x - 0.05, y, x - 0.12 + d, y - rng.uniform(0.25, 0.4), 0.06) for d in (-0.05, 0.1)]
    feet = [(-0.6 - swing, -0.55), (-0.4 + swing, -0.5), (0.4 - swing, 0.5), (0.62 + swing, 0.55)]
    legs = [_limb(hip, 0.1, foot, body * 0.6 + long, leg * 1.4, leg) for foot, hip in feet]
    tail = _limb(-0.7, -0.1, -1.1 - rng.uniform(0, 0.4), rng.uniform(-0.6, 0.5), 0.07, 0.04)
    head = _limb(x, y, x + rng.uniform(0.2, 0.4), y + 0.08, rng.uniform(0.16, 0.24), 0.1)
    return _fill(_circle(0, 0, 0.85, body), *legs, tail, _limb(0.6, -0.05, x, y, thick * 1.3, thick), head, *ears)


def person(rng: Rng) -> Silhouette:
    """Head, trunk, two arms and two legs, alike left and right or in a stride."""
    arm, leg, lift, stride = (
        rng.uniform(0.06, 0.1),
        rng.uniform(0.09, 0.14),
        rng.uniform(-0.7, 0.6),
        rng.uniform(0, 0.4),
    )
    other = lift if rng.random() < 0.7 else rng.uniform(-0.7, 0.6)
    arms = [_limb(s * 0.24, -0.55, s * 0.75, -0.5 + angle, arm) for s, angle in ((-1, -lift), (1, -other))]
    legs = [_limb(s * 0.12, 0.1, s * (0.14 + stride), 1.1, leg, leg * 0.8) for s in (-1, 1)]
    trunk = np.array([[-0.28, -0.65], [0.28, -0.65], [0.22, 0.2], [-0.22, 0.2]])
    return _fill(_circle(0, -0.92, 0.2, 0.24), _box(-0.08, -0.8, 0.08, -0.6), trunk, *arms, *legs)


def fish(rng: Rng) -> Silhouette:
    """A pointed body with tail and fins."""
    t, deep, tail = np.linspace(0, 1, 50), rng.uniform(0.25, 0.5), rng.uniform(0.3, 0.6)
    body = _mirror(deep * np.sin(np.pi * t**0.8) ** 0.9 + 0.06 * t, 2 * t - 1)[:, ::-1]
    fork = rng.uniform(0.0, 0.3)
    tips = ((-0.4, 0.1, -rng.uniform(1.3, 1.8)), (-0.1, 0.3, rng.uniform(1.3, 1.8)))
    fins = [np.array([[root, 0], [tip, deep * high], [tip + 0.25, 0]]) for root, tip, high in tips]
    return _fill(body, np.array([[0.8, 0], [1.45, -tail], [1.45 - fork, 0], [1.45, tail]]), *fins)


def key(rng: Rng) -> Silhouette:
    """A bow with a hole, a shank and equal teeth."""
    r, shank, num = rng.uniform(0.35, 0.5), rng.uniform(0.06, 0.1), int(rng.integers(2, 5))
    teeth = [_box(x, 0, x + 0.1, rng.uniform(0.28, 0.34)) for x in 1.1 - 0.2 * np.arange(num)]
    return _fill(_circle(-0.8, 0, r), _box(-0.8, -shank, 1.2, shank), *teeth) + _cut(_circle(-0.8, 0, r * 0.55))


def comb(rng: Rng) -> Silhouette:
    """A bar with equal teeth on one side or both: comb, rake or fence."""
    num, thick, bar = int(rng.integers(3, 9)), rng.uniform(0.25, 0.6), rng.uniform(0.08, 0.2)
    pitch, long, both = 2 / num, rng.uniform(0.6, 1.2), rng.random() < 0.35
    left = -1 + pitch * (np.arange(num) + (1 - thick) / 2)
    teeth = [_box(x, -long * both, x + pitch * thick, long) for x in left]
    rail = [_box(-1, long * 0.6, 1, long * 0.6 + bar)] if both else []
    return _fill(_box(left[0], -bar, left[-1] + pitch * thick, bar), *teeth, *rail)


def fir(rng: Rng) -> Silhouette:
    """Stacked triangles on a trunk."""
    num, width, grow = int(rng.integers(2, 6)), rng.uniform(0.35, 0.6), rng.uniform(0.08, 0.2)
    pitch = 1.3 / num
    tops, wide = pitch * np.arange(num) - 1, width + grow * np.arange(num)
    tiers = [np.array([[0, y], [w, y + 1.6 * pitch], [-w, y + 1.6 * pitch]]) for y, w in zip(tops, wide, strict=True)]
    return _fill(*tiers, _box(-0.1, tops[-1] + pitch, 0.1, tops[-1] + 1.6 * pitch + 0.35))


def heart(rng: Rng) -> Silhouette:
    """The playing-card heart, some with a smaller heart cut out."""
    t = np.linspace(0, TAU, 80, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    ring = np.stack([16 * np.sin(t) ** 3, -y * rng.uniform(0.8, 1.2)], 1)
    return _fill(ring) + (_cut(ring * rng.uniform(0.45, 0.7)) if rng.random() < 0.6 else [])


def ladder(rng: Rng) -> Silhouette:
    """Two rails and equal rungs."""
    num, half, rail = int(rng.integers(3, 7)), rng.uniform(0.35, 0.6), rng.uniform(0.06, 0.11)
    top, rung = half * rng.uniform(0.5, 1), rng.uniform(0.05, 0.09)
    heights = np.linspace(-0.8, 0.8, num)
    widths = np.interp(heights, [-1, 1], [top, half])
    rungs = [_box(-w, y - rung, w, y + rung) for w, y in zip(widths, heights, strict=True)]
    return _fill(_limb(-top, -1, -half, 1, rail), _limb(top, -1, half, 1, rail), *rungs)


def umbrella(rng: Rng) -> Silhouette:
    """A scalloped canopy on a stick with a crook."""
    num, high, stick = int(rng.integers(3, 6)), rng.uniform(0.6, 0.9), rng.uniform(0.04, 0.07)
    t = np.linspace(np.pi, TAU, 40)
    dome = np.stack([np.cos(t), high * np.sin(t)], 1)
    scallops = [_circle(x, 0, 1 / num, 0.18) for x in -1 + (2 * np.arange(num) + 1) / num]
    upper_half = _box(-stick - 0.02, 0.6, 0.4, 0.95)
    crook = _fill(_circle(0.15, 0.95, 0.15 + stick)) + _cut(_circle(0.15, 0.95, 0.15 - stick), upper_half)
    return crook + _fill(dome) + _cut(*scallops) + _fill(_box(-stick, -0.9 * high, stick, 0.97))


ANY_WAY_UP = (superellipse, star, gear, flower, crescent, arrow, cross, wheel, leaf, fish, key, comb)
UPRIGHT = (vase, goblet, mug, chair, table, animal, person, fir, heart, ladder, umbrella)
