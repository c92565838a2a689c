"""Made-up classes for the base model's training. The prompt defines each word, and never twice in the same way.

So the model learns to match what it sees with definitions that it is given, and learns no label of the demo. The demo's
labels are among a hundred names. Each name stands for each value equally often, and no prompt defines all five events.
(Leaving out just the demo's own pairs would teach them too: a base trained so never wrote "theft" after "Taking".)
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from rbft_plugin.demo.synthetic_video import AGENTS, COLORS, EVENTS, SIDES, Scene

# A definition names one value of one attribute of a scene.
VALUES = {"color": tuple(COLORS), "agent": AGENTS, "side": SIDES, "event": tuple(EVENTS)}
# The word for a value that definitions use; each is one token, and so is each name.
WORD_OF = {value: value.capitalize() for kind in ("color", "agent", "side") for value in VALUES[kind]}
WORD_OF |= {"pass": "Passing", "stop": "Stopping", "turn": "Turning", "drop": "Leaving", "take": "Taking"}
_NAMES = (
    "harvest market signal garden travel theft delivery patrol normal loitering parade rescue holiday lesson "
    "meeting contest visit search escape repair welcome farewell journey errand routine alarm hazard nuisance "
    "leisure duty trade gift chore prank stunt drill survey transit detour shortcut incident accident ceremony "
    "custom habit practice exercise display salute greeting warning threat protest dispute bargain exchange "
    "purchase refund storage supply cargo freight luggage parcel laundry cleaning planting cooking hunting fishing "
    "racing wandering lingering hiding watching waiting guarding scouting hauling towing parking shopping camping "
    "training dancing marching resting commuting smuggling littering dumping stealing borrowing lending sharing "
    "giving finding losing sorting stacking "
)
NAMES = tuple(_NAMES.split())
MOST = 4  # the largest number of definitions in one prompt
EXPLAIN = "Describe what happens in the video, then say what it is:"
ANSWER = "What is it? Answer with the name alone:"
# Without definitions: the answer is the word for the value, at once or on a last line after the description.
QUESTIONS = {
    "event": "What happens? Answer in a word.",
    "color": "Which color? Answer in a word.",
    "agent": "Who is seen? Answer in a word.",
    "side": "From where? Answer in a word.",
}
CONCLUDE = 'Describe the video. End with a last line of its own: "Answer: " and what happens in a word.'


def conclusion(scene: Scene) -> str:
    """The caption of the scene, an empty line, and the word for its event."""
    return f"{scene.caption}\n\nAnswer: {WORD_OF[scene.event]}"


@dataclass(frozen=True)
class Classes:
    """Names for some values of one attribute."""

    kind: str
    name_of: dict[str, str]

    def prompt(self, request: str) -> str:
        return "\n".join([request, *(f"{WORD_OF[value]}: {name}" for value, name in self.name_of.items())])

    def name(self, scene: Scene) -> str:
        return self.name_of[getattr(scene, self.kind)]

    def rationale(self, scene: Scene) -> str:
        """The caption of the scene, and the definition that it meets."""
        return f"{scene.caption}\n{WORD_OF[getattr(scene, self.kind)]}: {self.name(scene)}"


def draw(scene: Scene, rng: random.Random) -> Classes:
    """Two to MOST classes; the scene belongs to one of them."""
    kind = rng.choice(list(VALUES))
    true = getattr(scene, kind)
    others = [value for value in VALUES[kind] if value != true]
    values = [true, *rng.sample(others, rng.randint(1, min(MOST, len(VALUES[kind])) - 1))]
    rng.shuffle(values)
    return Classes(kind, dict(zip(values, rng.sample(NAMES, len(values)), strict=True)))
