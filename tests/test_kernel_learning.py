"""Learnt kernels: the error against refits, its gradient against differences, what is found."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernlens import kernels, probes
from kernlens.kernels import features
from kernlens.probes import kernel_learning
from kernlens.types import Labels


def classes(rng, n, names=("a", "b", "c")):
    return Labels(rng.permutation(np.arange(n) % len(names)).astype(np.int32), names)


def refitted(x, codes, num_classes, strength):
    """Mean squared error of rows left out, by a refit for each."""
    y = np.eye(num_classes)[codes]
    z = x - x.mean(axis=0)
    penalty = strength * np.sum(z**2) / x.shape[1]
    total = 0.0
    for i in range(len(x)):
        rest = np.arange(len(x)) != i
        # With a free bias the penalised refit is that of rows centred among themselves.
        mean, prior = x[rest].mean(axis=0), y[rest].mean(axis=0)
        a = x[rest] - mean
        slope = np.linalg.solve(a.T @ a + penalty * np.eye(x.shape[1]), a.T @ (y[rest] - prior))
        total += np.sum((y[i] - prior - (x[i] - mean) @ slope) ** 2)
    return total / len(x)


@pytest.mark.parametrize("strength", [1e-3, 1.0])
def test_error_is_that_of_refits_and_of_the_ridge_probe(strength):
    rng = np.random.default_rng(0)
    labels = classes(rng, 40)
    x = rng.standard_normal((40, 5)) + 2.0 * np.eye(5)[labels.codes]
    with jax.enable_x64(True):
        found = kernel_learning.leave_one_out_error(
            jnp.asarray(x), jnp.asarray(labels.codes), num_classes=3, strength=strength
        )
    np.testing.assert_allclose(found, refitted(x, labels.codes, 3, strength), rtol=1e-10)
    given = probes.ridge(x, labels, strengths=(strength,), standardised=False, draws=1)
    np.testing.assert_allclose(found, given.metrics[given.loss].value, rtol=1e-10)


@pytest.mark.thorough
def test_gradient_is_that_of_differences():
    rng = np.random.default_rng(1)
    labels = classes(rng, 30)
    parts = (rng.standard_normal((30, 4)), rng.standard_normal((30, 3)))

    def error(log_weights):
        return kernel_learning.leave_one_out_error(
            kernel_learning.weighted(log_weights, parts),
            jnp.asarray(labels.codes),
            num_classes=3,
            strength=0.1,
        )

    with jax.enable_x64(True):
        parts = tuple(map(jnp.asarray, parts))
        at = jnp.array([0.3, -0.7])
        found = jax.grad(error)(at)
        step = 1e-5
        for index in range(2):
            move = step * jnp.eye(2)[index]
            expected = (error(at + move) - error(at - move)) / (2 * step)
            # Central differences are right to step^2 times the third derivative.
            np.testing.assert_allclose(found[index], expected, rtol=1e-6, atol=1e-10)


@pytest.mark.thorough
def test_weights_go_to_the_part_that_tells_and_the_error_falls():
    rng = np.random.default_rng(2)
    labels = classes(rng, 300)
    tells = rng.standard_normal((300, 4)) + 1.5 * np.eye(4)[labels.codes]
    noise = 10.0 * rng.standard_normal((300, 40))
    parts = (tells, noise)
    start = kernel_learning.weights_of(parts)
    found = kernel_learning.learn(kernel_learning.weighted, start, parts, labels)
    gained = found.params - start
    assert gained[0] - gained[1] > 2.0
    assert found.errors.min() < 0.95 * found.errors[0]
    held = rng.standard_normal((300, 4)) + 1.5 * np.eye(4)[labels.codes]
    fresh = (held, 10.0 * rng.standard_normal((300, 40)))
    equal, learnt = (
        probes.ridge(
            np.asarray(kernel_learning.weighted(w, fresh)), labels, standardised=False, draws=1
        )
        .metrics["squared_error"]
        .value
        for w in (jnp.asarray(start, jnp.float32), jnp.asarray(found.params, jnp.float32))
    )
    assert learnt < equal


@pytest.mark.thorough
def test_a_lengthscale_is_learnt_to_the_least_of_a_path():
    rng = np.random.default_rng(3)
    x = rng.uniform(-3, 3, (200, 1))
    labels = Labels((np.floor(x[:, 0]).astype(np.int32) % 2), ("even", "odd"))
    landmarks = np.linspace(-3, 3, 25)[:, None]

    def feature_fn(log_scale, rows):
        # A ridge on kernel columns: enough to have a scale that is best.
        return kernels.rbf(rows, jnp.asarray(landmarks), lengthscale=jnp.exp(log_scale))

    found = kernel_learning.learn(feature_fn, 0.5, x, labels, strength=1e-3)
    path = np.linspace(-2.5, 1.0, 15)
    with jax.enable_x64(True):
        errors = [
            float(
                kernel_learning.leave_one_out_error(
                    feature_fn(jnp.float64(p), jnp.asarray(x)),
                    jnp.asarray(labels.codes),
                    num_classes=2,
                    strength=found.strength,
                )
            )
            for p in path
        ]
    assert found.errors.min() <= min(errors) + 1e-3
    assert found.errors.min() < 0.7 * found.errors[0]


def test_weighted_features_have_the_weighted_kernel():
    rng = np.random.default_rng(4)
    parts = [jnp.asarray(rng.standard_normal((6, p)), jnp.float32) for p in (2, 3)]
    z = kernel_learning.weighted(jnp.log(jnp.array([2.0, 0.5])), parts)
    expected = 2.0 * parts[0] @ parts[0].T + 0.5 * parts[1] @ parts[1].T
    np.testing.assert_allclose(z @ z.T, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.thorough
def test_unlabelled_rows_take_no_part():
    rng = np.random.default_rng(5)
    labels = classes(rng, 40)
    part = rng.standard_normal((40, 3)) + np.eye(3)[labels.codes]
    more = np.concatenate([part, 1e3 * rng.standard_normal((5, 3))])
    codes = np.concatenate([labels.codes, np.full(5, -1, np.int32)])
    a = kernel_learning.learn(kernel_learning.weighted, np.zeros(1), (part,), labels, steps=3)
    b = kernel_learning.learn(
        kernel_learning.weighted, np.zeros(1), (more,), Labels(codes, labels.names), steps=3
    )
    np.testing.assert_array_equal(a.errors, b.errors)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "must be positive"),
        ({"strength": 0.0}, "must be positive"),
        ({"rows": (np.zeros((3, 2)),)}, "one label each"),
        ({"labels": Labels(np.zeros(4, np.int32), ("a", "b"))}, "two classes"),
        ({"rows": (np.full((4, 2), np.nan),)}, "finite"),
    ],
)
def test_what_cannot_be_learnt_is_refused(change, message):
    given = {
        "rows": (np.eye(4, 2),),
        "labels": Labels(np.array([0, 1, 0, 1], np.int32), ("a", "b")),
    } | change
    rows, labels = given.pop("rows"), given.pop("labels")
    with pytest.raises(ValueError, match=message):
        kernel_learning.learn(kernel_learning.weighted, np.zeros(1), rows, labels, **given)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((), "got none"),
        ((np.eye(3), np.eye(2)), "same n rows"),
        ((np.ones((3, 2)),), "vary over"),
        ((np.full((3, 2), np.inf),), "finite"),
    ],
)
def test_parts_that_have_no_weight_are_refused(parts, message):
    with np.errstate(invalid="ignore"), pytest.raises(ValueError, match=message):
        kernel_learning.weights_of(parts)


@pytest.mark.thorough
def test_the_learnt_kernel_is_features_like_any_other():
    rng = np.random.default_rng(6)
    labels = classes(rng, 60)
    x = (rng.standard_normal((60, 3)) + 2 * np.eye(3)[labels.codes]).astype(np.float32)
    map_fn = features.nystrom(kernels.linear, jnp.asarray(x[:10]))
    found = kernel_learning.learn(
        lambda scale, rows: scale * map_fn(rows.astype(jnp.float32)).astype(scale.dtype),
        np.ones(()),
        x,
        labels,
        steps=2,
        strength=0.1,
    )
    # The penalty is relative, so the scale changes no error; the strength is learnt along with it.
    mapped = np.asarray(map_fn(jnp.asarray(x)), np.float64)
    np.testing.assert_allclose(found.errors[0], refitted(mapped, labels.codes, 3, 0.1), rtol=1e-6)


@pytest.mark.thorough
def test_all_steps_are_one_program():
    rng = np.random.default_rng(7)
    labels = classes(rng, 41)  # rows of a number that no other test has
    known = kernel_learning._Descent.step._cache_size()
    kernel_learning.learn(
        kernel_learning.weighted, np.zeros(1), (rng.standard_normal((41, 2)),), labels, steps=3
    )
    assert kernel_learning._Descent.step._cache_size() == known + 1
