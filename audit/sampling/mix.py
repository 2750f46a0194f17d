"""In which order suspects, controls, planted items and second opinions take turns."""

import random
from dataclasses import dataclass
from typing import Literal

from ..storage.items import Stage

BLOCK = 20

Turn = Literal["suspect", "control", "planted", "second"]


@dataclass(frozen=True, slots=True)
class Mix:
    """Of each 20 items in a row so many are controls, planted ones and second opinions; `second_share`: the share of decided
    cells that another reviewer sees too, besides all that are disputed or that somebody could not tell."""

    controls: int = 2
    planted: int = 1
    seconds: int = 3
    second_share: float = 0.1

    def turn(self, answered: int, *, seed: int, reviewer: str) -> Turn:
        """The kind of a reviewer's next item after so many answers: each block holds its share of each, shuffled."""
        block, place = divmod(answered, BLOCK)
        kinds: dict[Turn, int] = {"control": self.controls, "planted": self.planted, "second": self.seconds}
        turns = [kind for kind, count in kinds.items() for _ in range(count)]
        turns += ["suspect"] * (BLOCK - len(turns))
        random.Random(f"{seed}/{reviewer}/{block}").shuffle(turns)
        return turns[place]


@dataclass(frozen=True, slots=True)
class Turned:
    """An item's number and the stage in which it is to be answered."""

    number: int
    stage: Stage
