"""Team-draft interleaving of two rankings, and who is given the credit."""

import numpy as np


def credits(a: np.ndarray, b: np.ndarray, target: np.ndarray, *, seed: int) -> np.ndarray:
    """Who contributed the item that was bought.

    In each round a fair coin says who picks first; then either picks its best item that is not in
    the list, until the list is as long as a ranking.

    Args:
      a: items best first, of each query, ``[n, k]``.
      b: likewise.
      target: what was bought, ``[n]``.
      seed: of the coins.

    Returns:
      1 where ``a`` contributed the target, -1 where ``b`` did, 0 where it is not in the list,
      ``[n]``.

    References:
      Radlinski, Kurup and Joachims (2008), section 3.2.
    """
    n, k = a.shape
    coins = np.random.default_rng(seed).random((n, k)) < 0.5
    found = np.zeros(n, np.int64)
    met = (a == target[:, None]).any(axis=1) | (b == target[:, None]).any(axis=1)
    for row in np.flatnonzero(met):
        listed: set[int] = set()
        for turn in range(k):
            sides = ((a[row], 1), (b[row], -1))
            for ranking, team in sides if coins[row, turn] else sides[::-1]:
                if len(listed) == k:
                    break
                pick = next((item for item in ranking.tolist() if item not in listed), None)
                if pick is None:
                    continue
                listed.add(pick)
                if pick == target[row]:
                    found[row] = team
            if len(listed) == k or found[row]:
                break
    return found
