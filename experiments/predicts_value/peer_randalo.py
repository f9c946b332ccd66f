"""RandALO's leave-one-out of logistic regression, run by a Python that has it.

    PYTHON experiments/predicts_value/peer_randalo.py ROWS.npz

Reads ``x [n, d]`` and ``y [n]`` of two classes; prints accuracy, macro-F1 and processor seconds as
JSON. RandALO reads two classes alone.

References:
  Nobel, LeJeune and Candès (2024), RandALO: out-of-sample risk estimation in no time flat.
"""

import json
import sys
import time


def estimate(path: str) -> dict[str, float]:
    """Metrics of ``LogisticRegression(C=1)`` on standardised columns, each row left out."""
    import numpy as np
    import torch  # pyright: ignore[reportMissingImports]
    from randalo import RandALO  # pyright: ignore[reportMissingImports]
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    with np.load(path, allow_pickle=False) as file:
        x, y = file["x"].astype(np.float64), file["y"]
    begin = time.process_time()
    torch.manual_seed(0)
    z = StandardScaler().fit_transform(x)
    model = LogisticRegression(C=1.0, max_iter=2000).fit(z, y)
    # It reads the name of the penalty, which later scikit-learn leaves unset.
    model.penalty = "l2"
    risk = RandALO.from_sklearn(model, z, y)

    def f1(target, logits, side: float):
        own, given = target * side > 0, logits * side > 0
        return 2.0 * torch.sum(own & given) / (torch.sum(own) + torch.sum(given))

    accuracy = risk.evaluate(lambda target, logits: torch.mean((target * logits > 0).double()))
    macro = risk.evaluate(lambda t, z: 0.5 * (f1(t, z, 1.0) + f1(t, z, -1.0)))
    return {
        "accuracy": float(accuracy),
        "macro_f1": float(macro),
        "seconds": time.process_time() - begin,
    }


if __name__ == "__main__":
    print(json.dumps(estimate(sys.argv[1])))
