"""What the experiments on next items share."""

from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from numpy.testing import assert_allclose, assert_array_equal

from experiments.kit.next_items import last_items, without_last
from experiments.kit.sources import Source, classes, interactions
from experiments.prop2_sequence_average.experiment import EARLIER, order, value
from experiments.prop2_sequence_average.predictions import ESTIMATED, PLAIN
from experiments.prop2_sequence_average.summary import TRAINED, ceiling, levels
from experiments.prop2_sequence_average.tables import ranked
from kernlens import datasets
from kernlens.types import Interval

SAMPLES = Path(__file__).parents[1] / "samples"


def test_two_seeds_of_a_tower_bound_what_a_prediction_can_reach():
    rng = np.random.default_rng(0)
    values = rng.random((6, 3, 2))  # embeddings, towers, seeds
    rows = [
        {
            "trained": {
                tower: [{"recall": {"value": value}} for value in own]
                for tower, own in zip(TRAINED, one, strict=True)
            }
        }
        for one in values
    ]
    groups = np.arange(6) // 2
    found = ceiling(rows, groups, 50)
    for at, tower in enumerate(TRAINED):
        a, b = values[:, at].T
        assert_allclose(found[tower]["spearman"].value, scipy.stats.spearmanr(a, b).statistic)
        # Two values have the variance (a - b)^2 / 2.
        assert_allclose(found[tower]["sd"], np.sqrt(np.mean((a - b) ** 2 / 2)))
        assert_allclose(found[tower]["error"].value, np.mean(np.abs(a - b)))
    alone = [{"trained": {k: runs[:1] for k, runs in row["trained"].items()}} for row in rows]
    assert ceiling(alone, groups, 50) is None


def data():
    return datasets.load(
        "synthetic", num_items=40, num_users=15, num_interactions=600, num_classes=3
    )


def test_what_is_held_out_is_not_known():
    everything = data()
    known = without_last(everything)
    lengths = np.diff(everything.offsets)
    assert_array_equal(np.diff(known.offsets), lengths - 1)
    for start, stop, own in zip(
        everything.offsets[:-1], everything.offsets[1:], known.offsets[:-1], strict=True
    ):
        kept = known.items[own : own + stop - start - 1]
        assert_array_equal(kept, everything.items[start : stop - 1])


def test_histories_and_targets_together_are_the_basket():
    everything = data()
    task = last_items(everything, length=1000, targets=1, most=10**6, seed=3)
    total = np.bincount(task.known.items, minlength=40)
    long = np.diff(everything.offsets) > 1
    lost = np.diff(everything.offsets)[~long].sum()
    held = np.bincount(task.queries.histories.target, minlength=40)
    assert len(task.queries.histories.target) == long.sum()
    assert (total + held).sum() + lost == len(everything.items)
    fewer = last_items(everything, length=1000, targets=1, most=10, seed=3).queries.histories
    assert len(fewer.target) == 10


def line_of(spearman, error):
    """A line of the estimated discount from ``(low, high)`` of each tower."""
    line = {"predictor": ESTIMATED}
    for tower, rho, off in zip(TRAINED, spearman, error, strict=True):
        line[f"{tower} recall"] = {
            "spearman": Interval(sum(rho) / 2, *rho, 0.9),
            "relative_error": Interval(sum(off) / 2, *off, 0.9),
        }  # fmt: skip
    # Another predictor decides nothing.
    worst = {
        k: {"spearman": Interval(-1, -1, -1, 0.9), "relative_error": Interval(9, 9, 9, 0.9)}
        for k in line
    }
    return [worst | {"predictor": "plain average"}, line]


UP, BOTH, DOWN = (0.1, 0.9), (-0.1, 0.9), (-0.9, -0.1)
NONE = (float("nan"), float("nan"))


@pytest.mark.parametrize(
    ("towers", "said"),
    [
        ((UP, UP, UP), "holds"),
        ((UP, BOTH, UP), "holds in part"),
        ((DOWN, DOWN, UP), "holds in part"),
        ((DOWN, DOWN, DOWN), "fails"),
        ((DOWN, BOTH, DOWN), "undecided"),
        ((BOTH, BOTH, BOTH), "undecided"),
        (((0.0, 0.9),) * 3, "undecided"),
        (((-0.9, 0.0),) * 3, "fails"),
        ((NONE, UP, UP), "holds in part"),
        ((NONE, NONE, NONE), "undecided"),
    ],
)
def test_the_verdict_of_the_order_follows_its_rule(towers, said):
    for error in ((0.01, 0.02), (0.5, 0.9)):  # the paper claims no value
        assert order(line_of(towers, (error,) * 3)) == said


NEAR, ACROSS, FAR = (0.02, 0.1), (0.05, 0.11), (0.11, 0.3)


@pytest.mark.parametrize(
    ("towers", "said"),
    [
        ((NEAR, NEAR, NEAR), "holds"),
        ((NEAR, FAR, FAR), "holds in part"),
        ((NEAR, ACROSS, FAR), "holds in part"),
        ((FAR, FAR, FAR), "fails"),
        (((0.1, 0.3), FAR, FAR), "undecided"),
        ((ACROSS, ACROSS, ACROSS), "undecided"),
        ((NONE, NONE, NONE), "undecided"),
    ],
)
def test_the_verdict_of_the_value_follows_its_rule(towers, said):
    for rho in (UP, DOWN):
        assert value(line_of((rho,) * 3, towers)) == said


def outcome_of(value, by_target=None):
    """What a ranker reached, as rows hold it; rows of the earlier protocol have no kinds."""
    interval = {"value": value, "low": value - 0.01, "high": value + 0.01}
    found = dict.fromkeys(("recall", "ndcg", "mrr"), interval)
    return found if by_target is None else {**found, "by target": by_target}


def test_levels_are_means_over_rows_of_either_protocol():
    kinds = {"repeated": {"value": 0.5, "low": 0.4, "high": 0.6}, "new": None}
    rows = [
        {
            "trained": {"dense": [outcome_of(0.1), outcome_of(0.3)]},
            "baselines": {"EASE": outcome_of(0.7, kinds), "last item": outcome_of(0.2)},
            "predicted": {PLAIN: outcome_of(0.4, kinds)},
        },
        {
            "trained": {"dense": [outcome_of(0.2), outcome_of(0.6)]},
            "baselines": {"last item": outcome_of(0.4)},  # the first row has those of the data
            "predicted": {PLAIN: outcome_of(0.6, kinds)},
        },
    ]
    found = {line["ranker"]: line for line in levels(rows)}
    assert_allclose(found["trained dense"]["mean"], 0.3)
    assert (found["trained dense"]["least"], found["trained dense"]["most"]) == (0.1, 0.6)
    assert_allclose([found["last item"]["mean"], found["EASE"]["mean"]], [0.3, 0.7])
    assert_allclose(found[PLAIN]["mean"], 0.5)
    assert found[PLAIN]["repeated"] == found["EASE"]["repeated"] == 0.5
    assert found[PLAIN]["new"] is found["trained dense"]["repeated"] is None


def test_the_page_says_under_which_protocol_a_table_was_measured():
    told = {"protocol": "all items", "queries": 2000, "repeated": 900, "dropped": 0}
    assert ranked(told) == (
        "Candidates: all items; 2,000 queries, 900 of them for an item that the user had met "
        "before, 0 more not asked"
    )
    said = "Measured under an earlier protocol: latest 20 items of each history left out"
    assert ranked(EARLIER) == said


def test_what_is_in_a_sequence_is_left_out_unless_items_recur_in_it():
    everything = data()
    distinct = everything._replace(items=np.arange(600) % 40)  # sessions shorter than 40 items
    assert np.diff(distinct.offsets).max() < 40
    task = last_items(distinct, length=2, targets=1, most=10**6, seed=3)
    queries = task.queries
    assert task.protocol == "new to the sequence"
    assert queries.dropped == 0
    sizes = np.diff(distinct.offsets)
    assert_array_equal(queries.left_out.stop - queries.left_out.start, sizes[sizes > 1] - 1)
    again = last_items(everything, length=2, targets=1, most=10**6, seed=3)
    assert again.protocol == "all items"
    assert again.queries.left_out is None


def test_an_observed_order_is_kept_and_another_shuffled():
    everything = interactions(Source(data="instacart", root=SAMPLES / "instacart", min_count=1))
    assert everything.ordered
    assert not interactions(
        Source(data="movielens", root=SAMPLES / "movielens_1m", min_count=1)
    ).ordered
    test = last_items(everything, length=100, targets=1, most=10**6, seed=3).queries.histories
    long = np.flatnonzero(np.diff(everything.offsets) > 1)
    assert len(test.target) == len(long) > 0
    for session, items, target in zip(long, test.items, test.target, strict=True):
        cart = everything.items[everything.offsets[session] : everything.offsets[session + 1]]
        assert_array_equal([*items[items >= 0], target], cart)


@pytest.mark.parametrize("name", ["instacart", "amazon_2018", "movielens_1m"])
def test_the_papers_data_sets_are_read_by_path(name):
    found = interactions(Source(data=name.partition("_")[0], root=SAMPLES / name, min_count=1))
    same = datasets.load(name.partition("_")[0], SAMPLES / name, min_count=1)
    assert len(found.items) > 0
    assert_array_equal(found.items, same.items)


def test_the_order_is_a_choice_where_the_data_set_offers_it():
    source = Source(data="movielens", root=SAMPLES / "movielens_1m", order="random", min_count=1)
    same = datasets.load("movielens", source.root, order="random", min_count=1)
    assert_array_equal(interactions(source).items, same.items)
    with pytest.raises(ValueError, match=r"instacart has no order to choose.*got --order random"):
        interactions(Source(data="instacart", root=SAMPLES / "instacart", order="random"))


def test_the_classes_are_the_label_that_is_named_or_the_first_there_is():
    everything = data()
    assert classes(everything, Source())[0] == "class"
    named = everything._replace(labels={**everything.labels, "genre": everything.labels["class"]})
    assert classes(named, Source(label="genre"))[0] == "genre"
    with pytest.raises(ValueError, match=r"items need a label brand; complete_journey has class"):
        classes(everything, Source(label="brand"))
