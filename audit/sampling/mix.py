"""The order in which suspects, controls, gold items and second opinions take turns."""

import random
from dataclasses import dataclass
from typing import Literal

BLOCK = 20

Turn = Literal["suspect", "control", "gold", "second"]


@dataclass(frozen=True, slots=True)
class Mix:
    """How many of every 20 items are controls, gold items and second opinions. `second_share`: share of the decided cells that
    another reviewer sees too, besides all cells that are disputed or where somebody could not tell."""

    controls: int = 2
    gold: int = 1
    second_opinions: int = 3
    second_share: float = 0.1

    def turn(self, answered: int, *, seed: int, reviewer: str) -> Turn:
        """The kind of a reviewer's next item after `answered` answers: each block holds the set number of each, shuffled."""
        block, place = divmod(answered, BLOCK)
        kinds: dict[Turn, int] = {
            "control": self.controls,
            "gold": self.gold,
            "second": self.second_opinions,
        }
        turns = [kind for kind, count in kinds.items() for _ in range(count)]
        turns += ["suspect"] * (BLOCK - len(turns))
        random.Random(f"{seed}/{reviewer}/{block}").shuffle(turns)
        return turns[place]
