"""The grid of pretraining settings that experiments go over."""

from dataclasses import dataclass

from experiments.kit import runner
from experiments.kit.study import Setting


@dataclass(frozen=True)
class Grid:
    """Settings of item2vec, and how many runs of each."""

    windows: tuple[int, ...] = (2, 8)
    """Tokens to either side that are positives."""
    negatives: tuple[int, ...] = (1, 8)
    """Negatives per anchor."""
    epochs: tuple[int, ...] = (1, 5)
    """Passes of pretraining over the data; one leaves collapsed embeddings in the grid."""
    dim: int = 32
    """Embedding dimension."""
    seeds: int = 2
    """Pretraining runs of each setting."""

    def settings(self) -> list[Setting]:
        """Every setting, those of few epochs first."""
        return [
            Setting(window, negatives, epochs)
            for epochs in self.epochs
            for window in self.windows
            for negatives in self.negatives
        ]


def check_grid(grid: Grid) -> None:
    """Refuses a grid that gives no order.

    Raises:
      ValueError: an option out of range, or a single setting.
    """
    runner.at_least(grid, windows=1, negatives=1, epochs=1, dim=1, seeds=1)
    if len(set(grid.settings())) < 2:
        raise ValueError(
            "an order of embeddings needs two settings at least; --windows, --negatives and "
            "--epochs give one"
        )
