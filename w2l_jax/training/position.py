"""The position of a run."""

import dataclasses


@dataclasses.dataclass
class Position:
    """The position of a run, stored with every checkpoint; `seconds` exclude evaluation, saving and compilation."""

    step: int = 0
    seconds: float = 0.0
    best_step: int | None = None
    best_ler: float | None = None
    best_loss: float | None = None
    without_gain: int = 0

    def is_best(self, ler: float, loss: float) -> bool:
        """Records an evaluation of the weights on the dev data; returns whether they are the best so far."""
        score = (ler, loss)  # the loss breaks ties, such as 100 % at the start
        best = self.best_step is None or score < (self.best_ler, self.best_loss)
        if best:
            self.best_step, (self.best_ler, self.best_loss) = self.step, score
        self.without_gain = 0 if best else self.without_gain + 1
        return best
