"""Coding rates from rows and from moments."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from kernlens import moments, scores
from tests import cases


def rates_by_determinants(x, codes, epsilon):
    """TransRate from its definition, in float64."""
    z = x - x.mean(axis=0)

    def rate(rows):
        return (
            0.5 * np.linalg.slogdet(np.eye(x.shape[1]) + rows.T @ rows / (len(rows) * epsilon))[1]
        )

    parts = [rate(z[codes == c]) for c in np.unique(codes[codes >= 0])]
    return rate(z) - np.mean(parts)


@pytest.mark.parametrize(("n", "dim"), [(60, 40), (300, 6)])  # few rows a class, and many
@pytest.mark.parametrize("mean", [0.0, 100.0])
def test_transrate_of_rows_is_that_of_moments(n, dim, mean):
    x, codes, num_classes = cases.gaussian_classes(1, n=n, dim=dim, unlabelled=5)
    x = (x + mean).astype(np.float32)
    codes[codes == 2] = 1  # a class without rows, and one twice as large
    got = scores.transrate_of_rows(x, codes, num_classes, epsilon=0.1)
    expected = rates_by_determinants(x.astype(np.float64), codes, 0.1)
    assert_allclose(got.value, expected, rtol=1e-5)
    of_moments = moments.from_arrays(x, codes, num_classes, class_scatters=True)
    assert_allclose(scores.transrate(of_moments, epsilon=0.1).value, expected, rtol=1e-5)
    assert got.null == 0.0


def test_transrate_of_rows_refuses_what_moments_refuse():
    x = np.ones((5, 9), np.float32)
    with pytest.raises(ValueError, match=r"must lie in -1\.\.1; got 2 at row 4"):
        scores.transrate_of_rows(x, np.array([0, 1, 0, 1, 2]), 2)
    x[3] = np.nan
    with pytest.raises(ValueError, match="the first is row 3"):
        scores.transrate_of_rows(x, np.array([0, 1, 0, 1, 1]), 2)
