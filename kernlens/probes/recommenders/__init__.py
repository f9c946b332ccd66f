"""Recommenders in closed form, from who met what: those that an embedding has to beat.

    queries = ranking.all_items(split.test)
    x = recommenders.session_matrix(known)
    for name, baseline in recommenders.BASELINES.items():
        print(name, ranking.recall(baseline(x, queries), 10).mean())

:func:`user_ridge` takes the same two arguments; its cost is that of users², which not all data
allow, so it is not among the baselines that are always run.
"""

from collections.abc import Callable
from typing import Any

from kernlens.metrics.ranking import Place, Queries
from kernlens.probes.recommenders.baselines import (
    item_knn,
    last_item,
    near_last,
    own_past,
    popular,
    popularity,
    session_matrix,
)
from kernlens.probes.recommenders.ease import Ease, ease, fit_ease
from kernlens.probes.recommenders.user_ridge import (
    UserRidge,
    fit_user_ridge,
    infinite_autoencoder,
    linear_rows,
    user_ridge,
)

BASELINES: dict[str, Callable[[Any, Queries], Place]] = {
    "popularity": popular,
    "own past": own_past,
    "near the last item": near_last,
    "item k-NN": item_knn,
    "EASE": ease,
}
"""Rankers to beat by name, of a session matrix and the queries of a protocol."""

__all__ = [
    "BASELINES",
    "Ease",
    "UserRidge",
    "ease",
    "fit_ease",
    "fit_user_ridge",
    "infinite_autoencoder",
    "item_knn",
    "last_item",
    "linear_rows",
    "near_last",
    "own_past",
    "popular",
    "popularity",
    "session_matrix",
    "user_ridge",
]
