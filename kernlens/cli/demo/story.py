"""What the demo found, in sentences and a table."""

from collections.abc import Sequence

import numpy as np

from kernlens.cli.demo.grid import SCORE, Row, name_of
from kernlens.metrics.agreement import Agreement, agreement
from kernlens.show.table import Column, Table

TITLE = "Predicted without training, then trained"


def agree(rows: Sequence[Row], values: Sequence[float], head: str) -> Agreement:
    """Agreement of a value of each row with the macro-F1 of a trained head, without intervals."""
    return agreement(np.array(values), np.array([row.mean(head) for row in rows]), draws=1)


def conclusion(rows: Sequence[Row]) -> str:
    """What the demo shows, in one sentence: whether the prediction came true."""
    head = next(iter(rows[0].trained))
    best = max(rows, key=lambda row: row.predicted.value)
    place = 1 + sum(row.mean(head) > best.mean(head) for row in rows)
    found = "is best" if place == 1 else f"is number {place} of {len(rows)}"
    missed = agree(rows, [row.predicted.value for row in rows], head).mean_absolute_error.value
    return (
        f"{name_of(best.setting, best.seed)} was predicted best, and {found} once {head} is "
        f"trained: predictions of {len(rows)} embeddings miss the trained macro-F1 by {missed:.3f} "
        "on average."
    )


def agreement_line(rows: Sequence[Row]) -> str:
    """How near the prediction came to the trained heads, in a sentence."""
    parts = []
    for head in rows[0].trained:
        agreed = agree(rows, [row.predicted.value for row in rows], head)
        parts.append(
            f"{head} Spearman {agreed.spearman.value:.2f}, "
            f"mean |error| {agreed.mean_absolute_error.value:.3f}"
        )
    seconds = sum(row.predict_seconds for row in rows)
    training = sum(sum(row.train_seconds.values()) for row in rows)
    return (
        f"A linear head as predicted, against trained macro-F1 over {len(rows)} embeddings: "
        f"{'; '.join(parts)}; "
        f"predicting took {seconds:.1f} s in all, training {training:.0f} s."
    )


def failure_line(rows: Sequence[Row], head: str) -> str:
    """Where the published score is most wrong, in a sentence.

    Names the embedding that it ranks furthest above its place by the trained head, and the common
    direction of the items where that makes up most of the score.
    """
    rank = 1 + np.argsort(np.argsort([-row.score for row in rows]))
    trained_rank = 1 + np.argsort(np.argsort([-row.mean(head) for row in rows]))
    worst = int(np.argmax(trained_rank - rank))
    gap, row = int(trained_rank[worst] - rank[worst]), rows[worst]
    if 4 * gap < len(rows):
        return (
            f"{SCORE} puts no embedding more than {max(gap, 0)} places of {len(rows)} above "
            f"its place by trained {head} macro-F1."
        )
    why = ": most of what the score reads is their common direction" * (
        2 * row.mean_cosine > row.score > 0
    )
    return (
        f"{SCORE} ranks {row.setting} (seed {row.seed}) number {rank[worst]} of {len(rows)}, at "
        f"{row.score:.2f}; trained {head} puts it number {trained_rank[worst]}, macro-F1 "
        f"{row.mean(head):.3f}. The mean cosine between its items is {row.mean_cosine:.2f}{why}."
    )


def table(rows: Sequence[Row]) -> Table:
    """The embeddings, best prediction first."""
    columns = [
        Column("setting"),
        Column("predicted", "predicted macro-F1", ".3f"),
        Column("predict_seconds", "seconds to predict", ".2f"),
    ]
    for head in rows[0].trained:
        columns += [
            Column(head, f"trained {head}", ".3f"),
            Column(f"{head} spread", f"± {head}", ".3f"),
            Column(f"{head} seconds", f"seconds to train {head}", ".1f"),
        ]
    cells = [
        {
            **row._asdict(),
            **{head: row.mean(head) for head in row.trained},
            **{f"{head} spread": row.spread(head) for head in row.trained},
            **{f"{head} seconds": took for head, took in row.train_seconds.items()},
        }
        for row in sorted(rows, key=lambda row: -row.predicted.value)
    ]
    return Table(cells, [*columns, Column("score", "published score", ".2f")], TITLE)
