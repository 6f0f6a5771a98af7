"""Expression -> contracted muscles, after the Facial Action Coding System (FACS; Ekman and Friesen 1978).

A muscle is a shape of the kit, such as `browDown`, without the side. 0 is at rest, 1 is the contraction that was
scanned, and more exaggerates it. Which muscles make which expression follows the prototypes and major variants of
EMFACS and the FACS investigator's guide. How strongly was set by eye.

| shape | action unit | shape | action unit |
|---|---|---|---|
| browInnerUp | 1 inner brow raiser | mouthUpperUp | 10 upper lip raiser |
| browOuterUp | 2 outer brow raiser | mouthSmile | 12 lip corner puller |
| browDown | 4 brow lowerer | mouthDimple | 14 dimpler |
| eyeWide | 5 upper lid raiser | mouthFrown | 15 lip corner depressor |
| cheekRaiser, cheekSquint | 6 cheek raiser | mouthLowerDown | 16 lower lip depressor |
| eyeSquint | 7 lid tightener | mouthShrugLower, -Upper | 17 chin raiser |
| noseSneer | 9 nose wrinkler | mouthPucker | 18 lip pucker |
| mouthStretch | 20 lip stretcher | mouthPress | 24 lip pressor |
| mouthFunnel | 22 lip funneler | jawOpen | 26, 27 jaw drop, mouth stretch |
| mouthRollLower, -Upper | 28 lip suck | jawForward | 29 jaw thrust |
| eyeBlink | 43 eyes closed | eyeLookDown, -Up | 64, 63 |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from iern.train.network.config import SEVEN_EXPRESSIONS

Range = tuple[float, float]

EXPRESSIONS = SEVEN_EXPRESSIONS
WEAK, CLEAR = 0.5, 0.65
"""Least strengths of an expression. Below CLEAR a sad face or a closed smile looks neutral."""

MAIN = 0.45
"""A muscle whose least contraction is lower is left out of a few pictures of its variant."""


@dataclass(frozen=True)
class Prototype:
    """A variant of an expression."""

    name: str
    share: int
    """How often it is drawn, compared with the other variants."""
    muscles: Mapping[str, Range]
    """Muscle -> the least and the greatest contraction in an expression of full strength, which is 1."""


def _variants(text: str) -> tuple[Prototype, ...]:
    """Read variants, separated by `;`: share, name, `:`, and the muscles with their ranges, separated by `,`."""
    variants = []
    for entry in text.split(";"):
        head, _, muscles = entry.partition(":")
        share, _, name = head.strip().partition(" ")
        ranges = {}
        for part in muscles.split(","):
            muscle, span = part.split()
            low, high = map(float, span.split("-"))
            ranges[muscle] = (low, high)
        variants.append(Prototype(name, int(share), ranges))
    return tuple(variants)


PROTOTYPES: dict[str, tuple[Prototype, ...]] = {
    "anger": _variants(
        """
        4 lips rolled in, chin raised: browDown 0.7-1.4, eyeSquint 0.3-1, noseSneer 0-0.3, mouthRollLower 0.5-1,
            mouthRollUpper 0.5-1, mouthPress 0.5-1.2, mouthShrugLower 0.4-1, mouthShrugUpper 0-0.3, mouthPucker 0-0.3,
            mouthDimple 0-0.3, mouthFrown 0-0.5;
        4 lips pressed, chin raised: browDown 0.7-1.5, eyeSquint 0.2-0.9, eyeWide 0-0.3, noseSneer 0-0.3,
            mouthPress 0.6-1.2, mouthShrugLower 0.5-1, mouthShrugUpper 0.1-0.5, mouthRollLower 0.15-0.6,
            mouthRollUpper 0.15-0.6, mouthPucker 0-0.35, mouthFrown 0-0.5;
        3 lips pressed, tight lids: browDown 1-1.6, eyeSquint 0.2-0.9, noseSneer 0-0.45, mouthPress 0.6-1.1,
            mouthRollLower 0.15-0.5, mouthRollUpper 0.1-0.45, mouthFrown 0-0.5, mouthShrugLower 0.1-0.5,
            jawForward 0-0.4;
        2 lips pressed, glaring: browDown 1-1.6, eyeWide 0.3-0.9, eyeSquint 0-0.4, noseSneer 0-0.3, mouthPress 0.5-1,
            mouthRollUpper 0.1-0.4, mouthRollLower 0.1-0.4, mouthFrown 0.1-0.5, jawForward 0-0.4;
        2 shouting: browDown 1-1.6, eyeSquint 0.2-0.7, noseSneer 0.3-0.8, jawOpen 0.35-0.75, mouthUpperUp 0.3-0.8,
            mouthLowerDown 0.5-1.1, mouthFunnel 0-0.5, cheekRaiser 0-0.4;
        2 teeth shown: browDown 1-1.6, eyeSquint 0.1-0.6, eyeWide 0-0.5, noseSneer 0.2-0.7, jawOpen 0.05-0.22,
            mouthUpperUp 0.3-0.7, mouthLowerDown 0.5-1.1, mouthStretch 0-0.3;
        2 brows and the corners of the mouth alone: browDown 1-1.6, eyeSquint 0.2-0.7, mouthFrown 0.2-0.6,
            mouthShrugLower 0.1-0.6, mouthPress 0.2-0.6;
        1 lips in a square, speaking: browDown 1-1.6, eyeWide 0.2-0.7, jawOpen 0.15-0.45, mouthFunnel 0.4-0.9,
            noseSneer 0.1-0.5, mouthLowerDown 0.2-0.6
        """
    ),
    "disgust": _variants(
        """
        3 mouth closed: noseSneer 0.8-1.3, mouthUpperUp 0.5-1, browDown 0.3-0.9, cheekRaiser 0.2-0.8, eyeSquint 0.4-1,
            mouthFrown 0.1-0.6, mouthShrugLower 0.3-0.7;
        2 mouth open: noseSneer 0.8-1.3, mouthUpperUp 0.6-1.1, browDown 0.3-0.9, cheekRaiser 0.2-0.7, eyeSquint 0.4-1,
            jawOpen 0.1-0.4, mouthLowerDown 0.3-0.9, mouthFrown 0-0.4;
        1 corners of the mouth down: noseSneer 0.7-1.2, mouthUpperUp 0.4-0.9, browDown 0.1-0.6, eyeSquint 0.3-0.7,
            mouthFrown 0.4-0.9, mouthShrugUpper 0.1-0.5, eyeBlink 0-0.3;
        1 turning away, with the lids half closed: noseSneer 0.7-1.2, mouthUpperUp 0.5-1, browDown 0.4-1,
            eyeSquint 0.4-0.9, eyeBlink 0.2-0.6, mouthStretch 0.2-0.6, jawOpen 0.15-0.5, mouthLowerDown 0.2-0.7,
            mouthFrown 0.2-0.6;
        1 nose and upper lip alone: noseSneer 0.6-1.1, mouthUpperUp 0.6-1.1, browDown 0.2-0.6, eyeSquint 0.2-0.6,
            jawOpen 0.05-0.2
        """
    ),
    "fear": _variants(
        """
        3 lips stretched, teeth shown: browInnerUp 0.7-1.4, browOuterUp 0-0.4, browDown 0.4-1, eyeWide 0-0.7,
            mouthStretch 0.8-1.25, mouthDimple 0.1-0.6, mouthUpperUp 0.3-0.8, mouthLowerDown 0.5-1.1, jawOpen 0.05-0.25;
        2 lips stretched, lids hardly raised: browInnerUp 0.7-1.4, browOuterUp 0-0.5, browDown 0.3-0.9, eyeWide 0.1-0.7,
            mouthStretch 0.8-1.3, mouthUpperUp 0.1-0.5, jawOpen 0.05-0.25, mouthLowerDown 0.4-1;
        3 the whole prototype: browInnerUp 0.9-1.5, browOuterUp 0.2-0.8, browDown 0.2-0.7, eyeWide 0.7-1.4,
            mouthStretch 0.6-1.2, jawOpen 0.1-0.4, mouthLowerDown 0.3-0.8;
        2 distress, the lids not raised: browInnerUp 1-1.6, browDown 0.4-0.9, eyeWide 0-0.3, mouthStretch 0.7-1.3,
            jawOpen 0.05-0.3, mouthLowerDown 0.3-0.8, mouthFrown 0-0.3;
        1 screaming: browInnerUp 1-1.6, browOuterUp 0.2-0.8, browDown 0.1-0.6, eyeWide 0.8-1.5, mouthStretch 0.4-0.9,
            jawOpen 0.5-0.9, mouthLowerDown 0.2-0.6, mouthUpperUp 0-0.3;
        1 mouth closed: browInnerUp 0.9-1.5, browOuterUp 0.1-0.6, browDown 0.3-0.8, eyeWide 0.7-1.4,
            mouthStretch 0.6-1.2, mouthFrown 0-0.3, mouthPress 0-0.4;
        1 brows, lids and jaw: browInnerUp 0.9-1.5, browOuterUp 0.4-1, browDown 0.1-0.5, eyeWide 0.8-1.4,
            jawOpen 0.15-0.4, mouthStretch 0.2-0.6
        """
    ),
    "happiness": _variants(
        """
        2 lips closed: mouthSmile 0.6-1.1, cheekSquint 0.3-0.9, mouthDimple 0-0.4, eyeSquint 0-0.4;
        3 teeth shown: mouthSmile 0.7-1.15, cheekSquint 0.4-1, mouthUpperUp 0.2-0.5, jawOpen 0.08-0.25,
            mouthLowerDown 0.1-0.5, eyeSquint 0-0.4;
        2 laughing: mouthSmile 0.7-1.1, cheekSquint 0.5-1.1, mouthUpperUp 0.2-0.6, jawOpen 0.25-0.6,
            mouthLowerDown 0.1-0.4, eyeSquint 0.1-0.7, eyeBlink 0-0.3, browOuterUp 0-0.3;
        1 lips pressed: mouthSmile 0.45-0.9, cheekSquint 0.1-0.5, mouthPress 0-0.3;
        1 pleased and surprised: mouthSmile 0.6-1, cheekSquint 0.2-0.6, browOuterUp 0.2-0.7, browInnerUp 0.1-0.5,
            jawOpen 0.1-0.3, mouthUpperUp 0.2-0.5, mouthLowerDown 0.1-0.4
        """
    ),
    "sadness": _variants(
        """
        3 the whole prototype: browInnerUp 0.9-1.6, browDown 0.1-0.6, mouthFrown 0.7-1.3, mouthShrugLower 0.2-0.8,
            eyeBlink 0.1-0.35, eyeSquint 0-0.3;
        1 crying: browInnerUp 0.8-1.4, browDown 0.4-1, cheekRaiser 0.3-0.8, eyeSquint 0.4-0.9, mouthFrown 0.5-1.1,
            mouthStretch 0.2-0.6, jawOpen 0.05-0.35, mouthLowerDown 0.1-0.5, eyeBlink 0.2-0.6, mouthUpperUp 0-0.3;
        2 looking down: browInnerUp 0.5-1.1, mouthFrown 0.5-1, eyeBlink 0.25-0.5, eyeLookDown 0.2-0.7,
            mouthShrugLower 0-0.3;
        1 pouting: browInnerUp 0.8-1.5, browDown 0-0.4, mouthFrown 0.6-1.1, mouthShrugLower 0.6-1,
            mouthShrugUpper 0.2-0.6, mouthPucker 0-0.3, mouthRollLower 0-0.3;
        1 composed, with pressed lips: browInnerUp 0.8-1.5, browDown 0.1-0.5, mouthFrown 0.3-0.8, mouthPress 0.3-0.8,
            mouthRollUpper 0-0.3, eyeBlink 0.1-0.4
        """
    ),
    "surprise": _variants(
        """
        3 the whole prototype: browInnerUp 0.9-1.5, browOuterUp 0.9-1.5, eyeWide 0.5-1.3, jawOpen 0.3-0.8;
        2 lips rounded: browInnerUp 0.8-1.5, browOuterUp 0.8-1.5, eyeWide 0.4-1.2, jawOpen 0.25-0.55,
            mouthFunnel 0.3-0.9;
        1 lips hardly parted: browInnerUp 0.9-1.5, browOuterUp 0.9-1.5, eyeWide 0.5-1.2, jawOpen 0.08-0.25;
        1 surprised and pleased: browInnerUp 0.7-1.3, browOuterUp 0.7-1.4, eyeWide 0.4-1.1, jawOpen 0.3-0.7,
            mouthSmile 0.1-0.35;
        1 mostly the jaw: browInnerUp 0.4-0.9, browOuterUp 0.5-1.1, eyeWide 0.3-1, jawOpen 0.5-0.95
        """
    ),
    "neutral": (Prototype("at rest", 1, {}),),
}
"""Expression -> its variants."""

RESTING: dict[str, float] = {
    "browDown": 0.2,
    "browInnerUp": 0.12,
    "browOuterUp": 0.15,
    "mouthFrown": 0.14,
    "mouthSmile": 0.10,
    "mouthPress": 0.15,
    "eyeSquint": 0.2,
    "eyeWide": 0.1,
    "eyeBlink": 0.12,
}
"""Standard deviation of the contraction that a person's face has at rest. Half of the people have none."""

SPEECH: tuple[Mapping[str, Range], ...] = (
    {"jawOpen": (0.05, 0.2)},
    {"jawOpen": (0.05, 0.15), "mouthFunnel": (0.1, 0.4)},
    {"mouthPucker": (0.1, 0.4)},
    {"mouthStretch": (0.05, 0.25), "jawOpen": (0.03, 0.12)},
    {"mouthRollLower": (0.05, 0.25), "mouthRollUpper": (0.05, 0.25)},
    {"mouthUpperUp": (0.05, 0.2), "mouthLowerDown": (0.1, 0.35), "jawOpen": (0.02, 0.1)},
    {"mouthPress": (0.1, 0.4)},
)
"""Mouths of people who talk."""

TWITCHES = (
    *("browDown", "browInnerUp", "browOuterUp", "cheekRaiser", "eyeSquint", "eyeWide", "mouthDimple", "mouthFrown"),
    *("mouthPress", "mouthSmile", "mouthStretch", "noseSneer", "mouthUpperUp", "mouthLowerDown", "jawOpen"),
    *("mouthShrugLower", "jawForward", "mouthPucker", "mouthRollUpper"),
)
"""Muscles that may contract a little in any picture."""

WITHOUT_SIDES = frozenset(
    {
        *("jawOpen", "jawForward", "mouthFunnel", "mouthPucker"),
        *("mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper"),
    }
)
"""Muscles with one shape. The others have a left and a right one."""

BLINKS = {"neutral": 0.06, "happiness": 0.06, "sadness": 0.06, "disgust": 0.06, "anger": 0.015}
"""How often the eyes are closing. In fear and surprise, which widen them, never."""

LIMITS = {
    **dict.fromkeys(("browDown", "browInnerUp", "browOuterUp"), 1.6),
    **dict.fromkeys(("mouthSmile", "mouthFrown", "mouthStretch", "mouthUpperUp", "mouthPress"), 1.25),
    **dict.fromkeys(("noseSneer", "eyeSquint", "cheekSquint", "cheekRaiser"), 1.25),
    **dict.fromkeys(("jawOpen", "mouthShrugLower", "mouthFunnel", "mouthPucker"), 1.0),
}
"""The strongest contractions. Beyond them the meshes fold over."""


@dataclass(frozen=True)
class Contraction:
    """What the muscles of a face do in one picture."""

    weights: Mapping[str, float]
    """Shape of the kit, with its side -> contraction."""
    gaze: tuple[float, float]
    """Direction of the eyes in the head: to the subject's left and up, radians."""

    def of(self, muscle: str, side: str = "") -> float:
        """The contraction of a muscle, at least 0. `side` is L or R for a muscle with sides."""
        return max(self.weights.get(f"{muscle}_{side}" if side else muscle, 0.0), 0.0)


def sides_of(muscle: str) -> tuple[str, ...]:
    """The names of a muscle's shapes."""
    return (muscle,) if muscle in WITHOUT_SIDES else (f"{muscle}_L", f"{muscle}_R")


def shape_names() -> tuple[str, ...]:
    """The names of all shapes that a contraction may have."""
    prototypes = [prototype.muscles for variants in PROTOTYPES.values() for prototype in variants]
    muscles = {*RESTING, *TWITCHES, "eyeBlink", "eyeLookDown", "eyeLookUp"}.union(*prototypes, *SPEECH)
    return tuple(sorted(name for muscle in muscles for name in sides_of(muscle)))


def rest(rng: np.random.Generator) -> dict[str, float]:
    """-> shape -> contraction of a person's face at rest."""
    contractions = {muscle: max(0.0, rng.normal(0, deviation)) for muscle, deviation in RESTING.items()}
    return {name: value for muscle, value in contractions.items() for name in sides_of(muscle)}


def contract(expression: str, at_rest: Mapping[str, float], rng: np.random.Generator) -> Contraction:
    """-> the muscles of a person with this face at rest who shows an expression, at a random strength and variant."""
    weights: dict[str, float] = {}
    strength = _contract_prototype(weights, expression, rng)
    neutral = expression == "neutral"
    share_of_rest = 0.8 if neutral else 1 - 0.6 * strength
    for name, value in at_rest.items():
        weights[name] = weights.get(name, 0.0) + share_of_rest * value
    if rng.random() < (0.5 if neutral else 0.12):
        for muscle, (low, high) in SPEECH[rng.integers(len(SPEECH))].items():
            _add(weights, muscle, rng.uniform(low, high) * (1 if neutral else 0.7), rng)
    for muscle in TWITCHES:
        if rng.random() < 0.12:
            _add(weights, muscle, rng.uniform(0, 0.12), rng, asymmetry=0.4)
    gaze = _look(weights, expression, rng)
    _limit(weights)
    return Contraction(weights, gaze)


def _contract_prototype(weights: dict[str, float], expression: str, rng: np.random.Generator) -> float:
    """Contract the muscles of a variant, and in some pictures a little of a second one -> the strength."""
    variants = PROTOTYPES[expression]
    level = rng.random()
    prototype = variants[_draw_variant(variants, rng)]
    weakest = weakest_of(expression, prototype)
    strength = weakest + (1 - weakest) * level
    asymmetry = 0.1 if rng.random() < 0.75 else 0.3
    common = rng.random()
    for muscle, (low, high) in prototype.muscles.items():
        share = (rng.random() + common) / 2 if rng.random() < 0.5 else rng.random()
        if rng.random() < 0.06 and low < MAIN:
            continue
        _add(weights, muscle, (low + (high - low) * share) * strength, rng, asymmetry)
    if len(variants) > 1 and rng.random() < 0.2:
        for muscle, (low, high) in variants[rng.integers(len(variants))].muscles.items():
            _add(weights, muscle, rng.uniform(low, high) * strength * 0.25, rng, asymmetry)
    return strength


def weakest_of(expression: str, prototype: Prototype) -> float:
    """-> the least strength at which a variant of an expression is drawn. The greatest is 1."""
    closed_smile = expression == "happiness" and "jawOpen" not in prototype.muscles
    return CLEAR if closed_smile or expression == "sadness" else WEAK


def _draw_variant(variants: Sequence[Prototype], rng: np.random.Generator) -> int:
    shares = np.array([variant.share for variant in variants], float)
    return int(rng.choice(len(variants), p=shares / shares.sum()))


def _add(
    weights: dict[str, float], muscle: str, value: float, rng: np.random.Generator, asymmetry: float = 0.12
) -> None:
    """Contract a muscle more. `asymmetry` is the standard deviation of a side's relative distance from the mean."""
    if muscle in WITHOUT_SIDES:
        weights[muscle] = weights.get(muscle, 0.0) + value
        return
    lean = float(np.clip(rng.normal(0, asymmetry), -0.5, 0.5))
    for name, factor in zip(sides_of(muscle), (1 + lean, 1 - lean), strict=True):
        weights[name] = weights.get(name, 0.0) + value * factor


def _look(weights: dict[str, float], expression: str, rng: np.random.Generator) -> tuple[float, float]:
    """Draw the gaze and blinks; the lids follow them."""
    across, up = rng.normal(0, (0.16, 0.08) if rng.random() < 0.6 else (0.05, 0.03))
    if expression == "sadness" and rng.random() < 0.4:
        up -= rng.uniform(0.1, 0.35)
    if rng.random() < BLINKS.get(expression, 0.0):
        _add(weights, "eyeBlink", rng.uniform(0.5, 1.0), rng, asymmetry=0.02)
    across, up = float(np.clip(across, -0.5, 0.5)), float(np.clip(up, -0.4, 0.25))
    _add(weights, "eyeLookDown" if up < 0 else "eyeLookUp", abs(up) * 1.6, rng, asymmetry=0)
    return across, up


def _limit(weights: dict[str, float]) -> None:
    """Keep the contractions in what the meshes can show."""
    for muscle, most in LIMITS.items():
        for name in sides_of(muscle):
            if name in weights:
                weights[name] = float(np.clip(weights[name], 0, most))
    for side in "LR":  # a lid that looks down is partly closed already
        open_lid = max(0.0, 1 - 0.6 * weights.get(f"eyeLookDown_{side}", 0.0))
        weights[f"eyeBlink_{side}"] = float(np.clip(weights.get(f"eyeBlink_{side}", 0.0), 0, open_lid))
    for name in ("mouthRollLower", "mouthRollUpper", "mouthShrugLower"):  # not with an open mouth
        if name in weights:
            weights[name] *= max(0.0, 1 - 2 * weights.get("jawOpen", 0.0))
