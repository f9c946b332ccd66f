"""Key numbers: what they keep of a results file, and what they leave to the machine."""

import json

from experiments.kit import committed, summaries, tiny

KEPT = committed.read("prop1_bound/movielens")


def results(values, **summary):
    rows = [{"a": {"value": value, "seconds": 9.0 * value}, "name": name} for value, name in values]
    return {"command": "python -m experiments.prop1_bound", "rows": rows, "summary": summary}


def test_numbers_become_a_count_and_two_means_and_words_are_listed():
    values = [(1.0, "x"), (2.0, "y"), (6.0, "x")]
    found = tiny.key_numbers(results(values, verdict="holds", lines=[], high=None, n=[4, None]))
    assert found == {
        "rows.a.value": [3, 3.0, 3.83333],  # (1 + 2 * 2 + 3 * 6) / (1 + 2 + 3)
        "rows.name": [3, "x", "y"],
        "summary.high": [1, "None"],
        "summary.lines": [1, "[]"],
        "summary.n": [1, 4.0, 4.0],
        "summary.verdict": [1, "holds"],
    }
    turned = tiny.key_numbers(results(values[::-1]))
    assert turned["rows.a.value"] == [3, 3.0, 2.16667]
    assert tiny.key_numbers(results([(1e30, "x"), (-1e30, "y")]))["rows.a.value"][1] == 0.0


def test_a_change_of_what_is_measured_is_seen_and_rounding_is_not():
    def changed(key, change):
        rows = [{**row, key: change(i, row[key])} for i, row in enumerate(KEPT["rows"])]
        found = tiny.key_numbers({**KEPT, "rows": rows})
        given = summaries.changes(tiny.key_numbers(KEPT), found, **tiny.TOLERANCE)
        return {place.split("[")[0] for place, _, _ in given}

    assert changed("measured", lambda i, value: value * (1 + 1e-5)) == set()
    assert changed("measured", lambda i, value: 1 - value) == {"rows.measured"}
    assert changed("measured", lambda i, value: None if i == 3 else value) == {"rows.measured"}
    order = [row["alignment"] for row in KEPT["rows"]][::-1]
    assert changed("alignment", lambda i, value: order[i]) == {"rows.alignment"}
    assert changed("place", lambda i, value: "elsewhere") == {"rows.place"}


def test_key_numbers_are_of_experiments(capsys):
    assert {path.stem for path in tiny.GOLDEN.glob("*.json")} <= set(tiny.experiments())
    for path in tiny.GOLDEN.glob("*.json"):
        assert json.loads(path.read_text())
    assert tiny.main(["nope"]) == 1
    assert "no experiment nope; there are benchmarks.lens," in capsys.readouterr().err
