"""Trained outcomes: splits, heads and machines against scikit-learn, and their laws."""

import sys
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score
from sklearn.svm import SVC

from kernlens import kernels
from kernlens.models import decoders
from kernlens.train import heads, loop
from kernlens.train.heads.recipes import Affine, General, is_affine
from kernlens.train.heads.splits import make_task
from kernlens.types import Labels
from tests import cases

LINEAR = decoders.Linear()
MLP = decoders.Mlp(8)
READERS = {
    "linear": partial(heads.classify, decoder=LINEAR, seeds=3),
    "mlp": partial(heads.classify, decoder=MLP, seeds=3, steps=100),
    "svm": partial(heads.kernel_svm, kernel=kernels.linear, seeds=3),
}


def as_labels(problem):
    return Labels(problem.codes, tuple(f"class {c}" for c in range(problem.num_classes)))


@pytest.fixture(scope="module")
def problem():
    """Four overlapping classes, sizes about 1 : 1/2 : 1/3 : 1/4, one column shrunk and moved."""
    made = cases.gaussian_classes(0, n=240, dim=5)
    return made._replace(x=made.x * [1, 1, 1, 1e-3, 1] + [0, 0, 0, 7, 0])


@pytest.fixture(scope="module")
def outcomes(problem):
    return {name: read(problem.x, as_labels(problem)) for name, read in READERS.items()}


def standardised(x, held_out):
    trained = x[~held_out]
    return (x - trained.mean(0)) / trained.std(0)


# Splits.


@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.5, 0.95])
def test_a_split_holds_out_a_share_of_every_class(fraction):
    codes = np.repeat([0, 1, 2, 3, -1, 5], [1, 2, 7, 100, 9, 3])
    codes = np.random.default_rng(0).permutation(codes)
    held = heads.stratified_split(4, codes, fraction)
    assert held.dtype == bool
    assert not held[codes < 0].any()
    for c, total in [(0, 1), (1, 2), (2, 7), (3, 100), (5, 3)]:
        out = held[codes == c].sum()
        if total == 1:
            assert out == 0
        else:
            assert 1 <= out <= total - 1
            # The nearest whole number of rows, unless one part would be left empty.
            assert abs(out - fraction * total) <= 0.5 or out in (1, total - 1)


def test_a_split_is_fixed_by_its_seed_and_every_row_is_drawn_alike():
    codes = np.repeat([0, 1, -1], [10, 50, 5])
    splits = np.stack([heads.stratified_split(s, codes) for s in range(400)])
    assert_array_equal(splits[7], heads.stratified_split(7, codes))
    assert len(np.unique(splits, axis=0)) == 400
    assert_array_equal(splits.sum(axis=1), 12)
    # A row's share of 400 draws at 0.2 has standard deviation 0.02; five of them over 60 rows.
    assert_allclose(splits[:, :60].mean(axis=0), 0.2, atol=0.1)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.2, float("nan")])
def test_a_split_needs_a_fraction(fraction):
    with pytest.raises(ValueError, match=r"strictly between 0 and 1; got"):
        heads.stratified_split(0, np.array([0, 0, 1, 1]), fraction)


# All readers.


@pytest.mark.thorough
@pytest.mark.parametrize("name", READERS)
def test_metrics_are_scikit_learns_of_the_classes_given(problem, outcomes, name):
    outcome = outcomes[name]
    assert outcome.predicted.shape == outcome.held_out.shape == (3, len(problem.codes))
    assert outcome.predicted.dtype == np.int32
    for s in range(3):
        assert_array_equal(outcome.held_out[s], heads.stratified_split(s, problem.codes))
        for found, kept in [
            (outcome.metrics, outcome.held_out[s]),
            (outcome.train_metrics, ~outcome.held_out[s]),
        ]:
            y, p = problem.codes[kept], outcome.predicted[s, kept]
            assert_allclose(found.accuracy[s], np.mean(y == p))
            assert_allclose(found.micro_f1[s], f1_score(y, p, average="micro"))
            assert_allclose(found.macro_f1[s], f1_score(y, p, average="macro"))
            assert_allclose(found.balanced_accuracy[s], balanced_accuracy_score(y, p))
    assert outcome.seconds > 0


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(("scale", "shift"), [(1e-4, 0.0), (1e4, 0.0), (3.0, 50.0)])
def test_outcomes_do_not_depend_on_scale_and_shift(problem, outcomes, name, scale, shift):
    moved = READERS[name](problem.x * scale + shift, as_labels(problem))
    # Rounding can tip a row that lies on a boundary; at most one in a hundred does.
    assert np.mean(moved.predicted != outcomes[name].predicted) < 0.01


@pytest.mark.parametrize("name", READERS)
def test_rows_without_a_label_are_left_out(problem, outcomes, name):
    x = np.concatenate([problem.x, np.full((4, 5), np.nan)])
    codes = np.concatenate([problem.codes, np.full(4, -1, np.int32)])
    order = np.concatenate([np.arange(100), np.arange(240, 244), np.arange(100, 240)])
    outcome = READERS[name](x[order], as_labels(problem)._replace(codes=codes[order]))
    assert_array_equal(outcome.predicted, outcomes[name].predicted)
    assert_array_equal(outcome.held_out, outcomes[name].held_out)


@pytest.mark.parametrize("name", READERS)
def test_nothing_is_learnt_from_held_out_rows(problem, outcomes, name):
    before, held = outcomes[name], outcomes[name].held_out[1]
    x = problem.x.copy()
    x[held] = x.mean(0) + 2.0 * (x[held][::-1] - x.mean(0))
    after = READERS[name](x, as_labels(problem))
    assert_array_equal(after.held_out, before.held_out)
    # Rounding again: the coordinates that the search runs in do see the held-out rows.
    assert np.mean(before.predicted[1, ~held] != after.predicted[1, ~held]) < 0.01
    assert np.mean(before.predicted[1, held] != after.predicted[1, held]) > 0.3


@pytest.mark.thorough
@pytest.mark.parametrize("name", READERS)
def test_seeds_together_equal_each_seed_alone(problem, outcomes, name):
    for place in (0, 2):
        alone = READERS[name](problem.x, as_labels(problem), seeds=[place])
        assert_array_equal(alone.held_out[0], outcomes[name].held_out[place])
        assert np.mean(alone.predicted[0] != outcomes[name].predicted[place]) < 0.01


@pytest.mark.parametrize("name", READERS)
def test_user_mistakes_are_named(problem, name):
    read, labels = READERS[name], as_labels(problem)
    with pytest.raises(ValueError, match=r"same rows; got 239 embeddings and 240 labels"):
        read(problem.x[1:], labels)
    with pytest.raises(ValueError, match=r"\[n, d\]; got shape \(240,\)"):
        read(problem.x[:, 0], labels)
    broken = problem.x.copy()
    broken[[17, 30], 2] = np.nan, np.inf
    with pytest.raises(ValueError, match=r"finite; got 2 .*first is row 17"):
        read(broken, labels)
    with pytest.raises(ValueError, match=r"at least two classes; got 240 labelled rows of 1"):
        read(problem.x, labels._replace(codes=np.zeros(240, np.int32)))
    with pytest.raises(ValueError, match=r"at least two classes; got 0 labelled rows of 0"):
        read(problem.x, labels._replace(codes=np.full(240, -1, np.int32)))
    single = np.full(240, -1, np.int32)
    single[:4] = np.arange(4)
    with pytest.raises(ValueError, match=r"no class has two; got 4 labelled rows of 4 classes"):
        read(problem.x, labels._replace(codes=single))
    for seeds in (0, [], [3, -1]):
        with pytest.raises(ValueError, match=r"seeds must be one or more"):
            read(problem.x, labels, seeds=seeds)
    with pytest.raises(ValueError, match=r"test_fraction .* got 1\.5"):
        read(problem.x, labels, test_fraction=1.5)


# Heads.


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("l2", [1.0, 20.0])
@pytest.mark.parametrize("collinear", [False, True])
def test_a_linear_head_is_scikit_learns_logistic_regression(problem, use_bias, l2, collinear):
    x = problem.x
    if collinear:
        x = x.copy()
        x[:, 4] = x[:, 0] + 1e-3 * x[:, 4]
    losses = []
    outcome = heads.classify(
        x,
        as_labels(problem),
        decoder=decoders.Linear(use_bias=use_bias),
        seeds=3,
        l2=l2,
        on_round=lambda progress: losses.append(progress.losses),
    )
    for s in range(3):
        held = outcome.held_out[s]
        z, y = standardised(x, held), problem.codes
        reference = LogisticRegression(C=1 / l2, fit_intercept=use_bias, tol=1e-9, max_iter=10_000)
        reference.fit(z[~held], y[~held])
        nll = -reference.predict_log_proba(z[~held])[np.arange(sum(~held)), y[~held]]
        objective = nll.mean() + 0.5 * l2 * np.sum(reference.coef_**2) / sum(~held)
        assert_allclose(losses[-1][s], objective, rtol=1e-4)
        assert np.sum(reference.predict(z) != outcome.predicted[s]) <= 2


@pytest.mark.slow
def test_an_embedding_wider_than_its_rows(problem):
    x = np.random.default_rng(1).standard_normal((40, 60))
    labels = as_labels(problem)._replace(codes=problem.codes[:40])
    outcome = heads.classify(x, labels, decoder=LINEAR, seeds=2)
    for s in range(2):
        held = outcome.held_out[s]
        z = standardised(x, held)
        reference = LogisticRegression(tol=1e-9, max_iter=10_000).fit(z[~held], labels.codes[~held])
        assert np.sum(reference.predict(z) != outcome.predicted[s]) <= 1


@pytest.mark.parametrize("name", READERS)
def test_a_column_that_is_constant_in_training_is_not_read(problem, name):
    x = problem.x.copy()
    x[:, 4] = 0.0
    nothing = READERS[name](x, as_labels(problem))
    # 0.1 is no sum of a few powers of two: the column's computed spread is rounding, not zero.
    x[:, 4] = 0.1
    constant = READERS[name](x, as_labels(problem))
    assert_array_equal(constant.predicted, nothing.predicted)
    x[np.flatnonzero(nothing.held_out[0])[:5], 4] = 3.0
    once = READERS[name](x, as_labels(problem))
    assert np.mean(once.predicted[0] != nothing.predicted[0]) < 0.01


@pytest.mark.thorough
def test_rows_to_hold_out_can_be_chosen(problem, outcomes):
    """The same splits give the same heads; unequal ones each their own, scikit-learn's."""
    labels, own = as_labels(problem), outcomes["linear"]
    same = READERS["linear"](problem.x, labels, held_out=own.held_out)
    assert_array_equal(same.predicted, own.predicted)
    held = np.zeros((2, 240), bool)
    held[0, :40] = held[1, 100:220] = True
    outcome = heads.classify(problem.x, labels, decoder=LINEAR, seeds=2, held_out=held)
    assert_array_equal(outcome.held_out, held)
    for s in range(2):
        z, y = standardised(problem.x, held[s]), problem.codes
        reference = LogisticRegression(tol=1e-9, max_iter=10_000).fit(z[~held[s]], y[~held[s]])
        assert np.sum(reference.predict(z) != outcome.predicted[s]) <= 2
        losses = -reference.predict_log_proba(z)[np.arange(240), y]
        # The search ends where a round lowers the loss by less than a millionth.
        assert_allclose(outcome.losses[s], losses, rtol=0.02, atol=0.01)
    with pytest.raises(ValueError, match=r"\[2, 240\]; got bool of shape \(2, 239\)"):
        heads.classify(problem.x, labels, decoder=LINEAR, seeds=2, held_out=held[:, 1:])
    with pytest.raises(ValueError, match=r"and not all; got \[40, 0\] of 240"):
        heads.classify(
            problem.x, labels, decoder=LINEAR, seeds=2, held_out=held & [[True], [False]]
        )


@pytest.mark.thorough
def test_an_mlp_reads_what_a_line_cannot(problem):
    x = np.zeros((240, 5))
    x[:, :2] = np.random.default_rng(0).standard_normal((240, 2))
    outside = np.sum(x**2, axis=1) > 2 * np.log(2)  # even odds under the normal
    labels = as_labels(problem)._replace(codes=outside.astype(np.int32))
    line = heads.classify(x, labels, decoder=LINEAR, seeds=3)
    curve = heads.classify(x, labels, decoder=MLP, seeds=3, l2=1.0, steps=1000)
    assert np.all(line.metrics.accuracy < 0.75)
    assert np.all(curve.metrics.accuracy > 0.85)


@pytest.mark.thorough
@pytest.mark.parametrize("recipe", [Affine, General])
def test_the_loss_is_the_documented_one_at_any_parameters(problem, recipe):
    task = make_task(problem.x, as_labels(problem), 3, 0.2)
    head = decoders.Linear(num_outputs=4)
    fit = recipe(head)
    shared = fit.shared(task, 3.0)
    rng = np.random.default_rng(2)
    w, b = rng.standard_normal((5, 4)), rng.standard_normal(4)
    params = {"params": {"Dense_0": {"kernel": jnp.float32(w), "bias": jnp.float32(b)}}}
    for place in range(3):
        kept = np.flatnonzero(~task.held_out[place])
        z = standardised(problem.x, task.held_out[place])
        if recipe is Affine:
            # Whitened rows: the slopes in the standardised columns are those along ``scale``.
            batch, slopes = place, np.asarray(shared.scale[place], np.float64) @ w
        else:
            batch, slopes = (place, jnp.asarray(kept)), w
        logits = z @ slopes + b
        top = logits - logits.max(axis=1, keepdims=True)
        log_p = top - np.log(np.exp(top).sum(axis=1, keepdims=True))
        expected = -log_p[kept, problem.codes[kept]].mean()
        expected += 0.5 * 3.0 * np.sum(slopes**2) / len(kept)
        assert_allclose(fit(params, None, batch, shared), expected, rtol=1e-4)


def test_an_mlps_batches_are_passes_over_the_training_rows(problem):
    x = np.random.default_rng(0).standard_normal((1000, 2))
    labels = Labels(np.tile(np.arange(4, dtype=np.int32), 250), ("a", "b", "c", "d"))
    task = make_task(x, labels, [5, 9], 0.2)
    batches = General(MLP).batches(task, 7)
    places, first = batches(0)
    assert places.shape == (7, 2)
    assert first.shape == (7, 2, 256)
    assert_array_equal(batches(0)[1], first)
    rows = np.concatenate([first, batches(1)[1]])
    for seed in range(2):
        kept = np.flatnonzero(~task.held_out[seed])
        assert np.isin(rows[:, seed], kept).all()
        for start in range(0, 12, 3):  # 800 rows are three batches of 256 a pass
            assert len(np.unique(rows[start : start + 3, seed])) == 768
    assert np.any(rows[:3, 0] != rows[3:6, 0])


class Bilinear(nn.Module):
    """A head without ``num_outputs``, affine in the row and not linear in its parameters."""

    @nn.compact
    def __call__(self, z):
        return nn.Dense(4)(nn.Dense(3)(z))


class Quadratic(nn.Module):
    """A head linear in its parameters and not affine in the row."""

    @nn.compact
    def __call__(self, z):
        return nn.Dense(4)(z**2)


def test_the_head_decides_the_recipe():
    assert is_affine(decoders.Linear(num_outputs=4), 5)
    assert is_affine(decoders.Linear(num_outputs=4, use_bias=False), 5)
    for head in (decoders.Mlp(num_outputs=4), Bilinear(), Quadratic()):
        assert not is_affine(head, 5)


@pytest.mark.thorough
def test_any_head_and_any_optimiser_will_do(problem, outcomes):
    labels = as_labels(problem)
    own = heads.classify(problem.x, labels, decoder=Bilinear(), seeds=2, steps=300)
    assert np.all(own.metrics.accuracy > outcomes["linear"].metrics.accuracy[:2] - 0.1)
    adam = heads.classify(
        problem.x, labels, decoder=LINEAR, seeds=3, optimizer=optax.adam(0.05), steps=500
    )
    assert np.mean(adam.predicted != outcomes["linear"].predicted) < 0.01


@pytest.mark.thorough
def test_runs_of_equal_shapes_compile_once(problem):
    traces = []

    class Counted(nn.Module):
        hidden: int | None
        num_outputs: int = 1

        @nn.compact
        def __call__(self, z):
            traces.append(z.shape)
            if self.hidden:
                z = nn.relu(nn.Dense(self.hidden)(z))
            return nn.Dense(self.num_outputs)(z)

    for hidden in (None, 4):
        for run in range(2):
            heads.classify(
                problem.x + run, as_labels(problem), decoder=Counted(hidden), seeds=[run, 5]
            )
            if run == 0:
                first = len(traces)
        assert 0 < first == len(traces)
        traces.clear()


def test_progress_counts_rounds_and_losses_fall(problem):
    told = []
    heads.classify(
        problem.x, as_labels(problem), decoder=MLP, seeds=3, steps=150, on_round=told.append
    )
    assert all(isinstance(progress, loop.Progress) for progress in told)
    assert [progress.done for progress in told] == [1, 2]
    assert np.all(told[1].losses < told[0].losses)


def test_too_few_steps_are_told(problem):
    with pytest.warns(RuntimeWarning, match=r"stopped short of the optimum after 1 rounds"):
        heads.classify(problem.x, as_labels(problem), decoder=LINEAR, seeds=3, l2=1e-3, steps=10)


def test_mistakes_about_heads_are_named(problem):
    classify = partial(heads.classify, problem.x, as_labels(problem), seeds=3)
    with pytest.raises(ValueError, match=r"l2 must be 0 or more, and finite; got -1"):
        classify(decoder=LINEAR, l2=-1.0)
    with pytest.raises(ValueError, match=r"steps must be at least 1; got 0"):
        classify(decoder=LINEAR, steps=0)
    with pytest.raises(ValueError, match=r"reads one embedding; got InnerProduct"):
        classify(decoder=decoders.InnerProduct())
    with pytest.raises(ValueError, match=r"4 logits a row.*got shape \(2, 3\)"):
        classify(decoder=nn.Dense(3))
    with pytest.raises(ValueError, match=r"diverged: seed 0 ended at loss nan"):
        classify(decoder=MLP, optimizer=optax.sgd(float("inf")), steps=10)


# Support vector machines.


@pytest.mark.parametrize("C", [1.0, 7.0])
def test_a_kernel_svm_is_scikit_learns(problem, C):
    labels = as_labels(problem)
    linear = heads.kernel_svm(problem.x, labels, kernel=kernels.linear, seeds=2, C=C)
    rbf = partial(kernels.rbf, lengthscale=2.0)
    curved = heads.kernel_svm(problem.x, labels, kernel=rbf, seeds=2, C=C)
    for s in range(2):
        held = linear.held_out[s]
        z, y = standardised(problem.x, held), problem.codes
        # The mean squared norm of a standardised row is d = 5, so C is that of a fifth of it.
        expected = SVC(kernel="linear", C=C / 5).fit(z[~held], y[~held]).predict(z)
        assert np.sum(linear.predicted[s] != expected) <= 2
        expected = SVC(kernel="rbf", gamma=1 / 8, C=C).fit(z[~held], y[~held]).predict(z)
        assert np.sum(curved.predicted[s] != expected) <= 2


def test_a_kernel_svm_trains_on_a_stratified_sample(problem):
    shapes = []

    def kernel(x1, x2):
        shapes.append((x1.shape, x2.shape))
        return 1e5 * kernels.linear(x1, x2)

    rare = np.arange(240) < 2
    codes = np.where(rare, 3, np.where(problem.codes == 3, 0, problem.codes))
    labels = as_labels(problem)._replace(codes=codes.astype(np.int32))
    x = np.where(rare[:, None], 10.0, problem.x)
    outcome = heads.kernel_svm(x, labels, kernel=kernel, seeds=2, max_rows=50)
    assert outcome.predicted.shape == (2, 240)
    sizes = {shape for pair in shapes for shape in pair} - {(240, 5)}
    assert sizes
    # At most 50, and one more for the class too small for its share of them.
    assert all(46 <= size <= 51 for size, _ in sizes)
    assert np.all(outcome.predicted[:, rare] == 3)
    assert np.all(outcome.metrics.accuracy > 0.5)


def test_mistakes_about_machines_are_named(problem, monkeypatch):
    svm = partial(heads.kernel_svm, problem.x, as_labels(problem), seeds=2)
    with pytest.raises(ValueError, match=r"C must be above 0, and finite; got 0"):
        svm(kernel=kernels.linear, C=0.0)
    with pytest.raises(ValueError, match=r"max_rows must be at least 2; got 1"):
        svm(kernel=kernels.linear, max_rows=1)
    with pytest.raises(ValueError, match=r"positive diagonal"):
        svm(kernel=lambda x1, x2: -kernels.linear(x1, x2))
    with pytest.raises(ValueError, match=r"values not finite"):
        svm(kernel=lambda x1, x2: jnp.full((len(x1), len(x2)), jnp.nan, jnp.float32))
    monkeypatch.setitem(sys.modules, "sklearn.svm", None)
    with pytest.raises(ValueError, match=r"pip install 'kernlens\[train\]'"):
        svm(kernel=kernels.linear)


@pytest.mark.thorough
def test_rows_to_hold_out_can_be_given_and_are_checked():
    problem = cases.gaussian_classes(0, n=80, unlabelled=5)
    labels = Labels(problem.codes, ("a", "b", "c", "d"))
    held = np.stack([heads.stratified_split(3, problem.codes)] * 2)
    drawn = heads.classify(problem.x, labels, decoder=decoders.Linear(), seeds=(3,))
    given = heads.classify(problem.x, labels, decoder=decoders.Linear(), seeds=2, held_out=held)
    known = problem.codes >= 0
    np.testing.assert_array_equal(given.held_out, held[:, known])
    # A convex head has one optimum on one split, whatever its seed.
    np.testing.assert_array_equal(given.predicted, np.repeat(drawn.predicted, 2, axis=0))
    for wrong in (held[:1], held.astype(int), np.zeros_like(held), np.ones_like(held)):
        with pytest.raises(ValueError, match="held_out must"):
            heads.classify(problem.x, labels, decoder=decoders.Linear(), seeds=2, held_out=wrong)
