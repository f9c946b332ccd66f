"""Problems with known answers, and slow float64 references that share no code with the library."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits, load_wine

from kernlens.targets.sequences import Past
from kernlens.types import Interactions

GOLDEN = Path(__file__).parent / "golden"


class Problem(NamedTuple):
    """Rows with a class each: ``x [n, d]`` float64, ``codes [n]`` int32."""

    x: np.ndarray
    codes: np.ndarray
    num_classes: int


def gaussian_classes(
    seed, *, n=120, dim=6, num_classes=4, separation=1.0, mean=0.0, scale=1.0, unlabelled=0
) -> Problem:
    """Normal classes about normal means, classes of falling size, every class present.

    ``separation`` is the spread of the class means over that within a class, ``mean`` a common
    mean in units of the spread; all is then multiplied by ``scale``.
    """
    rng = np.random.default_rng(seed)
    shares = 1.0 / np.arange(1, num_classes + 1)
    codes = rng.choice(num_classes, n, p=shares / shares.sum())
    codes[:num_classes] = np.arange(num_classes)
    means = separation * rng.standard_normal((num_classes, dim))
    spread = np.geomspace(1.0, 0.3, dim)
    x = means[codes] + spread * rng.standard_normal((n, dim))
    x = scale * (x + mean * np.linspace(0.5, 1.0, dim))
    codes[n - unlabelled :] = -1
    return Problem(x, codes.astype(np.int32), num_classes)


def hostile_rows(seed=0, *, n=12, dim=3) -> np.ndarray:
    """Rows where gradients break: equal rows, zero rows, opposite and collinear rows."""
    x = np.random.default_rng(seed).standard_normal((n, dim))
    x[1] = x[0]
    x[2] = 0.0
    x[3] = 0.0
    x[4] = -x[5]
    x[6] = 2.0 * x[7]
    return x


def pasts(rows) -> Past:
    """The past of each example from lists of items."""
    ends = np.cumsum([len(row) for row in rows])
    items = np.array([item for row in rows for item in row], np.int32)
    return Past(items, np.concatenate([[0], ends[:-1]]).astype(int), ends)


def golden_problems() -> dict[str, Problem]:
    """Inputs of the golden values: 32 principal components of the digits, standardised wine."""
    x, y = load_digits(return_X_y=True)
    digits = Problem(principal_components(x.astype(np.float64), 32), y.astype(np.int32), 10)
    x, y = load_wine(return_X_y=True)
    wine = Problem((x - x.mean(0)) / x.std(0), y.astype(np.int32), 3)
    return {"digits_pca32": digits, "wine_std": wine}


def golden_pairs() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Two embeddings of the same rows: the leading columns, and a random projection."""
    pairs = {}
    for name, width, seed in [("digits_pca32", 16, 1), ("wine_std", 6, 2)]:
        x = golden_problems()[name].x
        projection = np.random.RandomState(seed).standard_normal((x.shape[1], width))
        pairs[name] = (x[:, :width], x @ projection / np.sqrt(x.shape[1]))
    return pairs


def golden_values() -> dict:
    """What the original authors' code returned on the golden inputs, by problem and score."""
    return json.loads((GOLDEN / "golden_values.json").read_text())


def principal_components(x, k) -> np.ndarray:
    """Scores on the first ``k`` components, the largest loading of each made positive."""
    centred = x - x.mean(0)
    loadings = np.linalg.svd(centred, full_matrices=False)[2][:k]
    peaks = loadings[np.arange(k), np.abs(loadings).argmax(1)]
    return centred @ (loadings * np.sign(peaks)[:, None]).T


def label_gram(codes) -> np.ndarray:
    """The label kernel by a double loop; no label equals nothing."""
    return np.array([[float(a == b and a >= 0) for b in codes] for a in codes])


def class_cosine_reference(x, codes) -> float:
    """Mean cosine over same-class pairs, diagonal included; zero rows have cosine 0."""
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    rows = np.divide(x, norms, out=np.zeros_like(x), where=norms > 0)
    same = label_gram(codes)
    return float((rows @ rows.T * same).sum() / same.sum())


def proposition1_reference(x, codes) -> float:
    """``E[k_Y k] / sqrt(E[k^2])`` over all ordered pairs, from the Gram matrix."""
    gram = x @ x.T
    return float((gram * label_gram(codes)).mean() / np.sqrt((gram**2).mean()))


def alignment_reference(gram1, gram2) -> float:
    """Cosine of two Gram matrices after double centring."""
    n = len(gram1)
    h = np.eye(n) - 1.0 / n
    a, b = h @ gram1 @ h, h @ gram2 @ h
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


def unbiased_hsic(gram1, gram2) -> float:
    """The U-statistic of Song et al. (2012), equation 5, on Gram matrices as they are."""
    n = len(gram1)
    a, b = gram1 - np.diag(np.diag(gram1)), gram2 - np.diag(np.diag(gram2))
    ones = np.ones(n)
    total = np.trace(a @ b) + (ones @ a @ ones) * (ones @ b @ ones) / ((n - 1) * (n - 2))
    return float((total - 2.0 / (n - 2) * (ones @ a @ b @ ones)) / (n * (n - 3)))


def debiased_reference(gram1, gram2) -> float:
    """Cosine of two Gram matrices under the unbiased HSIC."""
    own = unbiased_hsic(gram1, gram1) * unbiased_hsic(gram2, gram2)
    return unbiased_hsic(gram1, gram2) / np.sqrt(own)


def toy_interactions(sequences) -> Interactions:
    """Interactions of the given item id sequences, one user each."""
    lengths = [len(sequence) for sequence in sequences]
    items = np.concatenate([np.asarray(s, np.int32) for s in sequences]).astype(np.int32)
    num_items = int(items.max(initial=-1)) + 1
    return Interactions(
        items=items,
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        users=np.arange(len(sequences), dtype=np.int32),
        times=None,
        item_keys=np.arange(num_items),
        user_keys=np.arange(len(sequences)),
        labels={},
        user_labels={},
        text=None,
        session_attributes={},
        notes={},
    )


def has_own_test(name: str) -> bool:
    """Whether a member of a table has a test file named after it, which holds its reference."""
    return any(Path(__file__).parent.glob(f"test_*{name}.py"))
