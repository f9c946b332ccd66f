"""What the tournament compares, and how much of it."""

from dataclasses import dataclass

SMALL = ("digits", "wine", "breast cancer", "diabetes, thirds")
ITEMS = ("departments", "categories")
TEXT_TASK = "departments"
"""The item task whose embeddings are of the items' texts too."""

DEFAULT = "discriminant"
"""What `kl.predict` and `kl.compare` take when nothing else is asked for."""

ORDER = "discriminant, log loss"
"""What the documentation says to order by: chosen after its first run, on these data."""

REFERENCE = "cv_logistic"
"""Five-fold cross-validated logistic regression, by its accuracy."""


@dataclass(frozen=True)
class Config:
    """The tasks, the label budgets and the readers."""

    tasks: tuple[str, ...] = (*SMALL, *ITEMS)
    """Tasks, by name."""
    budgets: tuple[int, ...] = (60, 200, 0)
    """Labels that scores and heads see; 0 for all of the rows that may be labelled."""
    splits: int = 3
    """Draws of the labelled rows."""
    share: float = 0.7
    """Share of the rows that may be labelled; the rest is always held out."""
    heads: tuple[str, ...] = ("LR", "MLP", "k-NN", "boosting")
    """Trained readers."""
    components: tuple[int, ...] = (4, 16)
    """Principal components kept of a small set."""
    noise: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Noise added to a small set, in the root mean square of its columns' spreads."""
    shift: float = 30.0
    """Common mean added, in the same unit."""
    item_classes: int = 10
    """Most classes of an item task, the largest."""
    item_rows: int = 200
    """Most items of a class, so that accuracy says something."""
    embeddings: int = 0
    """Embeddings of a task, the first so many; 0 for all."""
    scores: tuple[str, ...] = ()
    """Scores, by name; all by default."""
    clocked: int = 2
    """Embeddings of a task, the first so many, on which every ranker is timed."""
    landmarks: int = 128
    """Of the probe on RBF features."""
    forecast: int = 4
    """Times the labels at which the test error is foretold."""
    draws: int = 500
    """Bootstrap draws over embeddings."""
    level: float = 0.9
    """Coverage of the intervals."""
    jobs: int = 2
    """Processes that train heads; scores are timed with none of them at work."""
    seed: int = 0
    """Of noise, splits and draws."""


TINY = Config(
    tasks=("wine",),
    budgets=(30,),
    splits=1,
    heads=("LR", "k-NN"),
    embeddings=5,
    components=(),
    scores=("gcv", "debiased_alignment", "rankme", "parc", "uniformity"),
    landmarks=16,
    draws=50,
    jobs=1,
)
