"""The kernel of a decoder, and predictions under every kind of it."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import pdist

import kernlens as kl
from kernlens import datasets, heads, kernels, ntk, probes, targets
from kernlens.arrays.rows import unit_rows
from kernlens.kernels.mapped import mapped, sampled, standard_of
from kernlens.kernels.of_decoder import DECODERS, Rule, of_decoder
from kernlens.kernels.readout import Readout
from kernlens.lens import reading
from kernlens.models import decoders
from kernlens.types import Labels
from tests.cases import gaussian_classes

PROBLEM = gaussian_classes(0, n=240, separation=1.0)
LABELS = Labels(PROBLEM.codes, tuple("abcd"))
X = PROBLEM.x.astype(np.float32)


class Head(nn.Module):
    num_outputs: int = 1

    @nn.compact
    def __call__(self, z):
        return nn.Dense(self.num_outputs)(jnp.tanh(nn.Dense(6)(z)))


def pair():
    def init_fn(key, x):
        return {"w": jax.random.normal(key, (x.shape[1], 4)) / 3}

    def apply_fn(params, x):
        return jax.nn.relu(x) @ params["w"]

    return init_fn, apply_fn


def kernel(x1, x2):
    return kernels.rbf(x1, x2, lengthscale=4.0) + kernels.linear(x1, x2)


def test_the_kernels_are_those_of_the_design():
    x = jnp.asarray(X[:7])
    for decoder, expected, readout in (
        (decoders.Linear(), kernels.linear, Readout.LINEAR),
        (decoders.InnerProduct(), kernels.linear, Readout.CLASS_MEANS),
        (decoders.Cosine(), kernels.cosine, Readout.CLASS_MEANS),
    ):
        made = of_decoder(decoder, dim=x.shape[1], num_outputs=4)
        np.testing.assert_array_equal(made.kernel(x, x), expected(x, x))
        phi = made.feature_map(x)
        np.testing.assert_allclose(phi @ phi.T, expected(x, x), rtol=1e-5, atol=1e-5)
        assert made.readout is readout


@pytest.mark.thorough
def test_the_kernel_of_an_mlp_is_the_limit_of_its_tangent_kernels():
    x = jnp.asarray(X[:6])
    limit = of_decoder(decoders.Mlp(16), dim=x.shape[1]).kernel(x, x)
    wide = []
    for seed in range(6):
        init, apply = wide_mlp(4096)
        wide.append(ntk.empirical_ntk_fn(apply)(x, None, init(jax.random.key(seed), x)))
    np.testing.assert_allclose(np.mean(wide, axis=0), limit, rtol=0.05, atol=0.05)


def wide_mlp(width):
    """The same architecture in the parameterisation whose tangent kernel has a limit."""
    net = ntk.infinite.serial(ntk.infinite.dense(width), ntk.infinite.relu(), ntk.infinite.dense(1))
    return net.module.init, net.module.apply


def test_random_features_of_an_mlp_are_in_proportion_to_its_width():
    made = of_decoder(decoders.Mlp(16), dim=6, seed=3)
    phi = made.feature_map(jnp.asarray(X[:5]))
    assert phi.shape == (5, 6 + 4 * 16)
    deep = of_decoder(decoders.Mlp((12, 6)), dim=6, seed=3).feature_map(jnp.asarray(X[:5]))
    assert deep.shape == (5, 6 + 4 * (12 + 12 * 6 // 6))
    np.testing.assert_array_equal(phi[:, :6], X[:5])
    again = of_decoder(decoders.Mlp(16), dim=6, seed=3).feature_map(jnp.asarray(X[:5]))
    np.testing.assert_array_equal(again, phi)
    assert not np.allclose(of_decoder(decoders.Mlp(16), dim=6, seed=4).feature_map(X[:5]), phi)


@pytest.mark.thorough
def test_any_other_head_has_its_tangent_kernel_at_initialisation():
    x = jnp.asarray(X[:5])
    for decoder in (Head(), pair()):
        made = of_decoder(decoder, dim=6, num_outputs=4, seed=2)
        gram = made.kernel(x, x)
        phi = made.sketch(4096)(x)
        np.testing.assert_allclose(phi @ phi.T, gram, atol=0.2 * float(jnp.max(gram)))
        assert made.standardised


@pytest.mark.thorough
def test_the_row_of_a_decoder_says_which_probe_it_has(monkeypatch):
    class Wide(decoders.Mlp):
        pass

    def features(decoder, *, dim, num_outputs, seed):
        return of_decoder(decoders.Linear(), dim=dim)

    found = kl.predict(X, LABELS, decoder=decoders.Mlp(4))
    expected = probes.mlp(X, LABELS, hidden=4)
    assert found.metrics == expected.metrics
    assert reading.read(X, decoder=decoders.Mlp(4)).readout is Readout.LINEAR
    monkeypatch.setitem(DECODERS, "mlp", Rule(decoders.Mlp, features))
    found = kl.predict(X, LABELS, decoder=Wide(4))
    assert found.metrics == probes.logistic(X, LABELS).metrics


@pytest.mark.parametrize("decoder", [None, decoders.Linear()])
def test_a_linear_head_is_predicted_by_logistic_regression(decoder):
    found = kl.predict(X, LABELS, decoder=decoder)
    expected = probes.logistic(X, LABELS)
    assert found.metrics == expected.metrics
    np.testing.assert_array_equal(found.predicted, expected.predicted)


@pytest.mark.parametrize(
    "asked",
    [{"decoder": DECODERS[name].kind()} for name in DECODERS]
    + [{"decoder": Head()}, {"decoder": pair()}, {"kernel": kernel}],
    ids=[*DECODERS, "module", "pair", "kernel"],
)
def test_every_decoder_and_kernel_predicts(asked):
    hidden = LABELS._replace(codes=np.where(np.arange(240) % 9 == 4, -1, LABELS.codes))
    found = kl.predict(X, hidden, **asked)
    assert len(found.predicted) == np.count_nonzero(hidden.codes >= 0)
    value = found.metrics["macro_f1"]
    assert value.low <= value.value <= value.high
    assert value.value > 1.5 * value.null
    compared = kl.compare({"x": X, "noise": np.random.default_rng(0).normal(size=X.shape)}, hidden,
                          decoders=asked.get("decoder"), kernel=asked.get("kernel"))  # fmt: skip
    assert compared.best.name == "x"


@pytest.mark.thorough
def test_an_mlp_is_nearer_to_its_trained_head_than_a_linear_probe_where_classes_are_rings():
    rng = np.random.default_rng(0)
    radius, angle = rng.integers(0, 3, 900), rng.uniform(0, 2 * np.pi, 900)
    x = (1.0 + radius[:, None]) * np.stack([np.cos(angle), np.sin(angle)], 1)
    x = (x + 0.25 * rng.standard_normal(x.shape)).astype(np.float32)
    labels = Labels(radius.astype(np.int32), tuple("abc"))
    trained = np.mean(heads.classify(x, labels, decoder=decoders.Mlp(32), seeds=2).metrics.macro_f1)
    linear = kl.predict(x, labels).value.value
    mlp = kl.predict(x, labels, decoder=decoders.Mlp(32)).value.value
    assert trained > 0.8 > linear + 0.2
    assert abs(mlp - trained) < 0.1


@pytest.mark.thorough
def test_more_rows_take_landmarks_or_a_sketch_and_tell_the_error(monkeypatch):
    exact = kl.predict(X, LABELS, kernel=kernel)
    monkeypatch.setattr(reading, "MAX_EXACT", 100)
    monkeypatch.setattr(reading, "LANDMARKS", 200)
    near = kl.predict(X, LABELS, kernel=kernel)
    assert abs(near.value.value - exact.value.value) < 0.05
    *_, note = near.notes
    assert "200 landmarks: off by 0." in note
    monkeypatch.setattr(reading, "LANDMARKS", 3)
    *_, worse = kl.predict(X, LABELS, kernel=kernel).notes
    error = float(worse.split("off by ")[1].split("%")[0])
    assert error > 10 * float(note.split("off by ")[1].split("%")[0])
    *_, sketched = kl.predict(X, LABELS, decoder=Head()).notes
    assert "a sketch of 512 random features: off by" in sketched


@pytest.mark.thorough
def test_features_that_do_not_fit_are_made_again_at_each_pass(monkeypatch):
    held = kl.predict(X, LABELS, decoder=decoders.Mlp(8))
    monkeypatch.setattr(reading, "IN_MEMORY", 100)
    streamed = kl.predict(X, LABELS, decoder=decoders.Mlp(8))
    np.testing.assert_array_equal(streamed.predicted, held.predicted)


def test_mapped_rows_are_a_stream():
    standard = standard_of(X.astype(np.float64) * 1e3 + 1e6)
    np.testing.assert_allclose(standard.mean, X.mean(0) * 1e3 + 1e6, rtol=1e-6)
    stream = mapped(X, unit_rows, standard=standard_of(X))
    assert (stream.shape, stream.dtype) == ((240, 6), np.float32)
    chunks = list(stream.chunks(rows=50))
    assert [len(chunk.rows) for chunk in chunks] == [50, 50, 50, 50, 40]
    z = (X - X.mean(0)) / X.std(0)
    whole = np.concatenate([chunk.values for chunk in chunks])
    np.testing.assert_allclose(whole, z / np.linalg.norm(z, axis=1, keepdims=True), atol=1e-5)
    rows = sampled(X, 20, seed=1, rows=32)
    assert rows.shape == (20, 6)
    assert len({tuple(row) for row in rows} & {tuple(row) for row in X}) == 20


def test_other_targets_take_decoders_too():
    numbers = targets.values(X[:, 0] ** 2 + 0.1 * np.random.default_rng(0).normal(size=240))
    plain = kl.predict(X, numbers)
    curved = kl.predict(X, numbers, decoder=decoders.Mlp(32))
    assert curved.metrics["r2"].value > plain.metrics["r2"].value + 0.3
    compared = kl.compare({"x": X, "half": X[:, 1:]}, numbers, metric="rmse")
    assert [entry.name for entry in compared.entries] == ["x", "half"] or (
        compared.entries[1].verdict != "worse"
    )
    many = [("a",) * bool(row[0] > 0) + ("b",) * bool(row[1] > 0) for row in X]
    found = kl.predict(X, many)
    assert set(found.metrics) >= {"micro_f1", "macro_f1", "average_precision"}
    with pytest.raises(ValueError, match="reads classes by their means"):
        kl.predict(X, numbers, decoder=decoders.Cosine())


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ({"decoder": decoders.Linear(), "kernel": kernel}, "a decoder or a kernel, not both"),
        ({"decoder": "mlp"}, "a decoder is a Flax module"),
        ({"decoder": nn.Conv(3, (3,))}, "outputs|does not take rows|coupled"),
        ({"kernel": "rbf"}, "a kernel is a function"),
        ({"kernel": lambda a, b: a}, r"must give \[2, 3\]; got \(2, 6\)"),
        ({"kernel": lambda a, b: kernels.linear(a, b) * jnp.nan}, "not finite"),
        ({"metric": "f2"}, "metric must be one that the probe gives"),
    ],
)
def test_what_cannot_be_read_is_refused(asked, match):
    with pytest.raises(ValueError, match=match):
        kl.predict(X, LABELS, **asked)


@pytest.mark.thorough
def test_pretrained_items_walk_the_same_road():
    data = datasets.load("synthetic")
    rows = datasets.synthetic.embeddings(data, seed=1)
    found = kl.predict(rows, data.labels["class"], decoder=decoders.Mlp(8))
    assert found.value.separated


def test_what_is_no_kernel_is_refused():
    rows = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    codes = np.arange(60) % 3
    with pytest.raises(ValueError, match="symmetric and positive semi-definite"):
        kl.predict(rows, codes, kernel=lambda x1, x2: -(x1 @ x2.T))
    with pytest.raises(ValueError, match=r"the kernel fails on rows \[2, 5\] and \[3, 5\]"):
        kl.predict(rows, codes, kernel=lambda x1, x2: x1 @ x2)


def test_a_head_of_fewer_outputs_than_classes_is_refused():
    init_fn, apply_fn = pair()
    fewer = (init_fn, lambda params, x: apply_fn(params, x)[:, :3])
    with pytest.raises(ValueError, match="gives 3 outputs, and the target has 4 classes"):
        kl.predict(X, LABELS, decoder=fewer)
    with pytest.raises(ValueError, match="gives 2 outputs, and the target has 4 classes"):
        kl.predict(X, LABELS, decoder=nn.Dense(2))


def test_a_kernel_that_finds_no_row_alike_is_told_with_a_lengthscale_to_take():
    rng = np.random.default_rng(0)
    codes = np.arange(400) % 4
    x = (rng.normal(size=(4, 24))[codes] + rng.normal(size=(400, 24))).astype(np.float32)
    labels = Labels(codes.astype(np.int32), tuple("abcd"))
    short = kl.predict(x, labels, kernel=kernels.rbf)
    (note,) = (note for note in short.notes if "unlike all others" in note)
    apart = np.median(pdist(x[:256].astype(np.float64)))
    assert f"near the {apart:.2g} that rows are apart" in note
    longer = kl.predict(x, labels, kernel=partial(kernels.rbf, lengthscale=float(apart)))
    assert not any("unlike all others" in note for note in longer.notes)
    assert longer.value.value > short.value.value + 0.05
