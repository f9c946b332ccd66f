"""The tournament's arithmetic: orders, draws, splits, forecasts, against references."""

import dataclasses

import numpy as np
import pytest

from experiments.score_tournament import heads, rankers, ranking, sets, summary, tables
from experiments.score_tournament.settings import DEFAULT, ORDER, REFERENCE, TINY, Config
from kernlens.metrics import agreement
from kernlens.scores import rows


@pytest.fixture
def values():
    rng = np.random.default_rng(0)
    predicted, measured = rng.integers(0, 6, (2, 12)).astype(float)
    return predicted, measured


def test_tau_and_regret_are_the_agreements(values):
    predicted, measured = values
    once = ranking.multiplicities(12, 0, (0,))
    x, y = ranking.signs(predicted), ranking.signs(measured)
    # The same integers, summed in another order.
    np.testing.assert_allclose(
        ranking.tau(x, y, once), agreement.kendall(predicted, measured), rtol=1e-12
    )
    np.testing.assert_allclose(
        ranking.regret(x, measured, once), agreement.regret(predicted, measured), rtol=1e-12
    )


def test_a_draw_is_its_embeddings_repeated(values):
    predicted, measured = values
    weights = ranking.multiplicities(12, 8, (3,))
    assert np.all(weights.sum(axis=1) == 12)
    x, y = ranking.signs(predicted), ranking.signs(measured)
    taus, regrets = ranking.tau(x, y, weights), ranking.regret(x, measured, weights)
    for draw, tau, regret in zip(weights.astype(int), taus, regrets, strict=True):
        p, m = np.repeat(predicted, draw), np.repeat(measured, draw)
        np.testing.assert_allclose(tau, agreement.kendall(p, m), rtol=1e-12)
        np.testing.assert_allclose(regret, agreement.regret(p, m), rtol=1e-12)


def test_what_cannot_rank_has_tau_0_and_what_cannot_be_ranked_none():
    once = ranking.multiplicities(4, 0, (0,))
    rising, level = ranking.signs(np.arange(4.0)), ranking.signs(np.ones(4))
    assert ranking.tau(level, rising, once) == [0.0]
    assert np.isnan(ranking.tau(rising, level, once))


def test_what_is_not_finite_ranks_last():
    order = ranking.signs(ranking.defined([3.0, None, -2.0]))
    np.testing.assert_array_equal(order[1], [-1, 0, -1])


def test_rounding_breaks_no_tie():
    values = np.array([1.0, 1.0 + 1e-7, 1.1, 0.0])
    order = ranking.signs(values, ranking.RESOLUTION)
    assert order[0, 1] == 0
    assert order[2, 0] == 1
    assert order[3, 0] == -1
    np.testing.assert_array_equal(order, -order.T)


def test_a_mean_leaves_out_what_is_undefined():
    values = np.array([[0.2, 0.1, 0.3], [np.nan, np.nan, np.nan], [0.6, 0.5, 0.7]])
    found = ranking.mean(values, 0.9)
    np.testing.assert_allclose(found.value, 0.4, rtol=1e-12)
    assert found.low < found.value < found.high


def test_every_prefix_of_an_order_has_the_shares_of_the_classes():
    codes = np.repeat([0, 1, 2], [100, 60, 20])
    order = sets.order(codes, np.random.default_rng(1))
    np.testing.assert_array_equal(np.sort(order), np.arange(180))
    for size in (9, 45, 90):
        counts = np.bincount(codes[order[:size]], minlength=3)
        # One row of each class is not yet there, or one is there already; so twice that in sum.
        assert np.all(np.abs(counts - size * np.array([100, 60, 20]) / 180) <= 2)


def test_shift_zero_columns_and_scales_leave_standardised_columns_where_they_were():
    x = np.random.default_rng(2).standard_normal((40, 5))
    made = sets.corrupted(
        x, dataclasses.replace(Config(), components=(2,)), np.random.default_rng()
    )

    def standardised(rows):
        rows = rows.astype(np.float64)[:, :5]
        return (rows - rows.mean(axis=0)) / rows.std(axis=0)

    for name in ("shift", "zero columns", "column scales"):
        # float32 after a mean of 30 spreads keeps five digits.
        np.testing.assert_allclose(standardised(made[name]), standardised(x), atol=1e-4)
    for name in ("noise 0.5", "1 bit", "2 bits", "a third of the rows moved"):
        assert np.max(np.abs(standardised(made[name]) - standardised(x))) > 0.1
    for name, levels in (("1 bit", 2), ("2 bits", 4)):
        assert all(len(np.unique(column)) == levels for column in made[name].T)
    white = made["whitened"]
    np.testing.assert_allclose(white.T @ white / 40, np.eye(5), atol=1e-5)


def test_a_column_that_does_not_vary_is_coarse_already():
    x = np.random.default_rng(2).standard_normal((40, 5))
    x[:, 2] = 7.0
    made = sets.corrupted(x, Config(), np.random.default_rng(0))
    assert all(np.isfinite(rows).all() for rows in made.values())
    assert np.unique(made["2 bits"][:, 2]) == [0.0]


def test_ridge_error_is_scikit_learns():
    from sklearn.linear_model import RidgeCV

    rng = np.random.default_rng(3)
    codes = rng.integers(0, 3, 80)
    x = rng.standard_normal((80, 4)) + codes[:, None]
    train = np.arange(50)
    unit = np.sum((x[train] - x[train].mean(axis=0)) ** 2) / 4
    alphas = np.logspace(-4.0, 3.0, 29) * unit
    one_hot = np.eye(3)[codes]
    fitted = RidgeCV(alphas=alphas).fit(x[train], one_hot[train])
    wanted = np.mean(np.sum((fitted.predict(x[50:]) - one_hot[50:]) ** 2, axis=1))
    np.testing.assert_allclose(heads.ridge_error(x, codes, train), wanted, rtol=1e-8)


def test_cross_validation_is_held_out():
    rng = np.random.default_rng(4)
    codes = np.repeat([0, 1], 60)
    found = heads.cross_validated(rng.standard_normal((120, 40)), codes)
    assert 0.3 < found.accuracy < 0.7  # labels carry nothing; in sample it would be above 0.7
    assert found.log_loss > 0.6


@pytest.mark.thorough
def test_scores_of_rows_rank_on_a_sample_that_all_embeddings_share():
    rng = np.random.default_rng(5)
    codes = rng.integers(0, 3, rankers.SAMPLE + 40)
    x = (rng.standard_normal((len(codes), 4)) + codes[:, None]).astype(np.float32)
    kept = np.random.default_rng([7]).permutation(len(x))[: rankers.SAMPLE]
    unit = x[kept] / np.linalg.norm(x[kept], axis=1, keepdims=True)
    # What follows the first of the seed, the embedding's number, chooses no other rows.
    for embedding in (0, 5):
        given = {"uniformity": (x,), "parc": (x, codes)}
        found = rankers.of_rows(given, (7, embedding), TINY, False)
        assert found["uniformity"].value == pytest.approx(-float(rows.uniformity(unit)), rel=1e-4)
        assert found["parc"].value == pytest.approx(
            float(rows.parc(x[kept], codes[kept])), rel=1e-4
        )
    assert {"parc", "uniformity", "bytes", "mean_norm"} <= set(rankers.GROUPS)


def test_the_default_gives_way_to_what_lies_above_its_interval():
    def tau(value):
        return {"value": value, "low": value - 0.1, "high": value + 0.1}

    def summary(cheap, value):
        line = {"slice": "all", "cheap": cheap, "cheap_tau": tau(value), "reference_tau": tau(0.2)}
        return {
            "choices": [line],
            "rankers": [{"ranker": ORDER, "tau": tau(0.5), "slices": {}}],
        }

    assert tables.defaults(summary("gcv", 0.55))[0]["default"] == ORDER
    assert tables.defaults(summary(ORDER, 0.5))[0]["why"] == (
        "τ 0.50 [0.40, 0.60], cross-validation 0.20; the best at a tenth of its cost"
    )
    (line,) = tables.defaults(summary("gcv", 0.7))
    assert line["default"] == "gcv"
    assert line["why"].startswith(f"τ 0.70, above {ORDER}: τ 0.50 [0.40, 0.60]")


RIGHT = np.arange(12.0)
NEARLY = RIGHT[[1, 0, *range(2, 12)]]  # two neighbours change places
OFTEN = RIGHT[[2, 1, 0, 5, 4, 3, 8, 7, 6, 11, 10, 9]]
COSTS = {REFERENCE: 1.0, f"{DEFAULT}, log loss": 0.01}


def tournament(scores, costs=COSTS, forecast=None):
    """Rows of two tasks in which every head finds the embeddings as good as their number."""
    return [
        {
            "task": task, "family": "f", "budget": 0, "labels": 20, "split": 0,
            "embeddings": [str(i) for i in range(12)],
            "outcomes": {"LR": (RIGHT / 20).tolist()},
            "scores": {name: np.asarray(values).tolist() for name, values in scores.items()},
            "seconds": {name: costs.get(name, 0.05) for name in scores},
            "compiling": dict.fromkeys(scores, 0.0),
            "forecast": forecast or {},
        }
        for task in ("one", "two")
    ]  # fmt: skip


def summarised(default, reference, other=OFTEN, **more):
    scores = {DEFAULT: default, f"{DEFAULT}, log loss": RIGHT, REFERENCE: reference, "gcv": other}
    config = dataclasses.replace(Config(), draws=200)
    return summary.summarise(config, tournament(scores, **more))


@pytest.mark.parametrize(
    ("default", "reference", "value", "passed"),
    [
        (RIGHT, -RIGHT, 2.0, True),
        (-RIGHT, RIGHT, -2.0, False),
        (RIGHT, NEARLY, 2 / 66, True),  # one pair of 66 in the wrong order
        (NEARLY, RIGHT, -2 / 66, False),
        (RIGHT, RIGHT, 0.0, True),
    ],
)
def test_the_target_is_the_default_less_cross_validation(default, reference, value, passed):
    found = summarised(default, reference)
    (gate,) = (
        one
        for one in found["gates"]
        if one["gate"] == f"{DEFAULT}: tau less that of cross-validation"
    )
    assert gate["passed"] is passed
    assert gate["measured"] == pytest.approx(value)
    assert gate["low"] - 1e-12 <= gate["measured"] <= gate["high"] + 1e-12
    (line,) = (one for one in found["rankers"] if one["ranker"] == DEFAULT)
    for part in (line, *line["slices"].values()):
        assert part["difference"]["value"] == pytest.approx(value)


def test_rankers_stand_by_falling_tau():
    found = summarised(OFTEN, -RIGHT, NEARLY)
    assert [one["ranker"] for one in found["rankers"]] == [
        f"{DEFAULT}, log loss", "gcv", DEFAULT, REFERENCE
    ]  # fmt: skip


def test_like_the_best_is_what_its_gap_may_be_nothing_to():
    """A gap whose lower end is 0 does not separate; one that is all above 0 does."""
    found = summarised(NEARLY, -RIGHT)
    (choice, *_) = found["choices"]
    assert choice["best"] == f"{DEFAULT}, log loss"
    gap = choice["default_below_best"]
    assert gap["low"] == 0.0 < gap["value"] < gap["high"]
    # The best and the default; not what errs often, nor the reverse.
    assert choice["not_told_from_best"] == 2
    assert summarised(OFTEN, -RIGHT)["choices"][0]["not_told_from_best"] == 1
    assert summarised(RIGHT, RIGHT, RIGHT)["choices"][0]["not_told_from_best"] == 4


@pytest.mark.parametrize(("cost", "cheap"), [(0.1, "gcv"), (0.11, DEFAULT)])
def test_the_best_at_a_tenth_of_the_cost(cost, cheap):
    costs = {REFERENCE: 4.0, f"{DEFAULT}, log loss": 2.0, "gcv": 4.0 * cost, DEFAULT: 0.08}
    found = summarised(OFTEN, -RIGHT, NEARLY, costs=costs)
    assert found["choices"][0]["cheap"] == cheap
    met = {one["gate"]: one["passed"] for one in found["gates"] if "cost" in one["gate"]}
    assert met == {
        f"{DEFAULT}: cost in that of cross-validation": True,
        f"{DEFAULT}, log loss: cost in that of cross-validation": False,
    }


@pytest.mark.parametrize(("error", "passed"), [(0.049, True), (0.051, False), (-0.051, False)])
def test_forecasts_are_judged_by_their_relative_error(error, passed):
    measured = np.array([1.0, 2.0, 4.0])
    told = {
        "measured": measured, "foretold": measured * (1 + error), "anchored": measured * 0.9,
        "leave_one_out": measured * 1.25, "seconds": [1.0, 2.0, 3.0],
    }  # fmt: skip
    found = summarised(RIGHT, RIGHT, forecast=told)
    by = {one["of"]: one for one in found["forecasts"]}
    assert set(by) == {"all", "from 20 labels", "one", "two"}
    assert by["all"]["forecasts"] == 6
    for line in by.values():
        assert line["median_relative_error"] == pytest.approx(abs(error))
        assert line["anchored"] == pytest.approx(0.1)
        assert line["leave_one_out"] == pytest.approx(0.25)
    gates = {one["gate"]: one["passed"] for one in found["gates"]}
    title = "median relative error of the forecast by the"
    assert gates[f"{title} learning curve alone"] is passed
    assert gates[f"{title} curve from leave-one-out"] is False
