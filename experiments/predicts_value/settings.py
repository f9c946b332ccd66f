"""What is predicted and trained, on what, and what was declared before the numbers."""

from dataclasses import dataclass
from pathlib import Path

TUNED = (
    "CJ departments, behaviour", "CJ categories, behaviour", "CJ brands, behaviour", "digits",
)  # fmt: skip
"""Sets that the method was tuned on, declared before the numbers; no rule is chosen on another."""

BASES = {
    "CJ departments, behaviour": "item2vec w8 k8 e4 d32",
    "CJ departments, text": "GloVe",
    "ML-1M by time": "item2vec w8 k8 e4 d32",
    "Fashion-MNIST": "PCA 64",
}
"""The embeddings that are damaged, by set."""

CUTS = (
    "At most 4,000 rows of a set: the largest classes give fewer, so that rare ones stay whole; of "
    "Complete Journey's categories the 25 largest.",
    "10 splits, 20 of sets below 1,000 rows and of logistic regression on natural embeddings; 3 of "
    "kernel SVM and boosting; 40 of k-NN and 100 of class means, which cost little.",
    "Damaged embeddings: no MLP(256), cosine head, kernel SVM or boosting; no rankers.",
    "Rankers on sets of 3 natural embeddings and more; randalo where another Python has it.",
    "tabicl is not run: its weights come from a model hub and not with its package.",
    "Learning curves: natural embeddings of 1,600 rows and more.",
)
"""What is cut for the sake of time, declared before the numbers."""

HEADS = (
    "logistic", "logistic, C = 1", "MLP(32)", "MLP(256)", "class means", "cosine", "k-NN",
    "kernel SVM", "boosting",
)  # fmt: skip
"""Heads that are trained; boosting is not predicted."""

DAMAGED_HEADS = ("logistic", "logistic, C = 1", "MLP(32)", "class means", "k-NN")
"""Heads that are trained on damaged embeddings."""

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""scikit-learn's ``C`` that inner cross-validation chooses from."""

NEIGHBOURS = (1, 3, 5, 10, 20, 50)
"""Numbers of neighbours that leave-one-out among the training rows chooses from."""


@dataclass(frozen=True)
class Config:
    """The sets, the heads and how often each is trained."""

    sets: tuple[str, ...] = (
        "CJ departments, behaviour", "CJ departments, text", "CJ categories, behaviour",
        "CJ categories, with text", "CJ brands, behaviour", "CJ brands, text", "ML-1M by time",
        "ML-1M in random order", "Fashion-MNIST", "digits", "wine", "breast cancer",
        "diabetes, thirds", "synthetic: Gaussian", "synthetic: noise", "synthetic: rings",
    )  # fmt: skip
    """Sets, by name."""
    movielens: Path | None = None
    """Folder with MovieLens-1M, RecBole's atomic files or GroupLens' own; without it, its sets are
    left out."""
    fashion_mnist: Path | None = None
    """Folder with the four idx files of Fashion-MNIST; without it, the set is left out."""
    peer: Path | None = None
    """A Python that has randalo, which is left out without it."""
    heads: tuple[str, ...] = HEADS
    """Heads that are trained."""
    rows: int = 4000
    """Most rows of a set."""
    class_rows: int = 50
    """Least rows of a class of items."""
    splits: int = 10
    """Splits 80/20 of a set of 1,000 rows or more; twice as many of a smaller one."""
    linear_splits: int = 20
    """Splits of logistic regression on natural embeddings, whose truth is to be known best."""
    slow_splits: int = 3
    """Splits of kernel SVM and boosting."""
    light_splits: int = 100
    """Splits of class means and of the cosine head, which cost nothing and vary most."""
    neighbour_splits: int = 40
    """Splits of k-NN, which costs little."""
    folds: int = 3
    """Folds of the inner cross-validation by which a trained head takes its penalty."""
    embeddings: int = 0
    """Natural embeddings of a set, the first so many; 0 for all."""
    damages: bool = True
    """Whether four embeddings are damaged too."""
    samples: int = 2
    """Draws of a few labels."""
    scores: tuple[str, ...] = ()
    """Scores that rank, by name; all by default."""
    costs: bool = True
    """Whether to time predictions beside trainings and cross-validation."""
    large: bool = True
    """Whether to measure time and memory at 10^5 x 768 and 10^6 x 64."""
    level: float = 0.9
    """Nominal coverage of the intervals."""
    jobs: int = 2
    """Processes that train scikit-learn's heads."""
    seed: int = 0
    """Of rows, damages and splits."""

    def splits_of(self, head: str, n: int, *, natural: bool) -> int:
        """Splits on which a head is trained on a set of ``n`` labelled rows."""
        if head in ("kernel SVM", "boosting"):
            return self.slow_splits
        if head in ("class means", "cosine"):
            return self.light_splits
        if head == "k-NN":
            return self.neighbour_splits
        if natural and head.startswith("logistic"):
            return self.linear_splits
        return self.splits if n >= 1000 else 2 * self.splits


TINY = Config(
    sets=("wine", "synthetic: Gaussian"),
    heads=("logistic", "logistic, C = 1", "MLP(32)", "class means", "k-NN"),
    rows=300,
    splits=2,
    slow_splits=1,
    light_splits=4,
    neighbour_splits=3,
    linear_splits=2,
    costs=False,
    embeddings=2,
    damages=False,
    samples=1,
    scores=("gcv", "debiased_alignment"),
    large=False,
    jobs=1,
)
