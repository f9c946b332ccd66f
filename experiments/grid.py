"""The grid of pretraining settings that experiments go over."""

from dataclasses import dataclass

from kernlens.study import Setting


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
