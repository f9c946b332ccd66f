"""The laws for others: what keeps them passes, and an error names the law that is broken.

Scores of the package are held to them in ``test_scores.py``.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from kernlens import moments, testing
from kernlens.kernels import KERNELS, linear, rbf
from kernlens.kernels.of_decoder import DECODERS
from kernlens.scores import SCORES
from kernlens.scores.estimator import Score


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_keep_the_laws(name):
    testing.check_kernel(KERNELS[name])


@pytest.mark.parametrize("name", DECODERS)
def test_decoders_keep_the_laws(name):
    testing.check_decoder(DECODERS[name].kind())


@pytest.mark.slow
def test_other_heads_keep_the_laws():
    class Head(nn.Module):
        num_outputs: int = 1

        @nn.compact
        def __call__(self, z):
            return nn.Dense(self.num_outputs)(jnp.tanh(nn.Dense(4)(z)))

    testing.check_decoder(Head())
    testing.check_decoder(
        (lambda key, x: jax.random.normal(key, (x.shape[1], 3)), lambda w, x: jnp.sin(x @ w))
    )


@pytest.mark.parametrize(
    ("kernel", "match"),
    [
        (lambda a, b: linear(a, b)[:, :1], "shape"),
        (lambda a, b: linear(a, b) + a[:, :1], "not symmetric"),
        (lambda a, b: -linear(a, b), "not positive semi-definite"),
        (lambda a, b: linear(a, b) / len(b), "not the slice|not symmetric"),
        (lambda a, b: linear(a - a.mean(0), b - b.mean(0)), "not the slice"),
        (lambda a, b: jax.lax.stop_gradient(rbf(a, b)), "difference quotient"),
        (lambda a, b: linear(unit(a), unit(b)), "zero row"),
    ],
)
def test_a_kernel_that_breaks_a_law_is_told_which(kernel, match):
    with pytest.raises(AssertionError, match=match):
        testing.check_kernel(kernel)


def unit(x):
    return x / jnp.linalg.norm(x, axis=1, keepdims=True)


def changed(name, fn):
    return SCORES[name]._replace(fn=lambda m: fn(*SCORES[name].fn(m), m))


SHIFTED = changed("h_score", lambda v, null, m: Score(v + 0.01 * m.mean[0], null))


@pytest.mark.parametrize(
    ("row", "match"),
    [
        (changed("h_score", lambda v, null, m: Score(v, null + 0.5)), "not its null"),
        (SCORES["h_score"]._replace(sign=-1), "where noise scores"),
        (changed("h_score", lambda v, null, m: Score(v, null + 0.02)), "not its null"),
        (SHIFTED, "depends on scale"),
        (SHIFTED._replace(scale_free=False), "depends on a common mean"),
        (changed("h_score", lambda v, null, m: Score(v * m.count, null)), "not its null"),
        (
            changed(
                "h_score",
                lambda v, null, m: Score(
                    v + (m.class_counts[0] - m.class_counts[1]) / m.count, null
                ),
            ),
            "names of classes",
        ),
        (
            changed("proposition1", lambda v, null, m: Score(jax.lax.stop_gradient(v), null)),
            "difference quotient",
        ),
    ],
)
def test_a_score_that_breaks_a_law_is_told_which(row, match):
    with pytest.raises(AssertionError, match=match):
        testing.check_score(row)


@pytest.mark.thorough
def test_a_score_without_bounds_keeps_the_laws():
    """Calinski and Harabasz's: its mean over noise is 1, far from 0.03 in a single draw."""

    def fn(m):
        between = jnp.sum(m.class_counts[:, None] * (moments.class_means(m) - m.mean) ** 2)
        within = jnp.trace(m.scatter) - between
        classes = m.class_counts.shape[0]
        ratio = (between / (classes - 1)) / (within / (m.count - classes))
        return Score(ratio, jnp.ones(()))

    testing.check_score(SCORES["h_score"]._replace(fn=fn, rotation_free=True, shift_free=True))
