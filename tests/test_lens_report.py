"""Reports and exports of results: what is on the page, by verb."""

import json
import re
import sys
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kernlens as kl
from kernlens import lens, probes
from kernlens.cli.command import main
from kernlens.lens import mistakes
from kernlens.lens.report import Provenance, page_of, verdict
from kernlens.lens.spectrum import spectrum
from kernlens.models import decoders
from kernlens.show.page import rendered
from tests.cases import gaussian_classes

PROBLEM = gaussian_classes(0, n=150, separation=0.8)
NAMES = np.array(["tea", "salt <b>", "bread", "apples"])
LABELS = NAMES[PROBLEM.codes].astype(object)
LABELS[::30] = None
IDS = np.array([f"sku{i:03d}" for i in range(150)])
KNOWN = np.flatnonzero([own is not None for own in LABELS])
NOISY = PROBLEM.x + 6.0 * np.random.default_rng(1).standard_normal(PROBLEM.x.shape)
COLUMNS = PROBLEM.x.shape[1]
ROWS = {"good": PROBLEM.x, "bad": NOISY}
quick = partial(probes.discriminant)


@pytest.fixture(scope="module")
def compared():
    return kl.compare(ROWS, LABELS, probe=quick, draws=50)


def text_of(page):
    text = re.sub(r"<script.*?</script>|<style.*?</style>|</?span>", "", rendered(page), flags=re.S)
    return text.replace("&nbsp;", " ")


def test_a_comparison_has_its_verdict_first_and_every_section(compared):
    made = page_of(compared, ROWS, IDS[KNOWN], Provenance(["lines"], (), "kernlens compare a b"))
    text = text_of(made)
    assert made.verdict == compared.sentence()
    assert text.index("<h1") < text.index("<table")
    titles = [section.title for section in made.sections]
    assert titles == ["Predicted value", "Missed classes and rows", "Spectrum",
                      "How this was made"]  # fmt: skip
    for entry in compared.entries:
        assert f"{entry.prediction.value:.3f}" in text
    assert f"{compared.to_best(compared.entries[1]):+.3f}" in text
    assert "$ kernlens compare a b" in text
    assert kl.__version__ in text
    assert "salt &lt;b&gt;" in text
    marks = {own["text"] for own in made.sections[0].charts[0].layout["annotations"]}
    null = compared.best.prediction.value.null
    assert {f"chance {null:.3f}", f"best {compared.best.prediction.value.value:.3f}"} <= marks


def test_the_worst_rows_are_those_with_the_largest_loss(compared):
    prediction = compared.best.prediction
    table = mistakes.worst(prediction, IDS[KNOWN])
    order = np.argsort(-prediction.losses, kind="stable")[: mistakes.WORST]
    assert [row["id"] for row in table.rows] == IDS[KNOWN][order].tolist()
    assert [row["true"] for row in table.rows] == LABELS[KNOWN][order].tolist()
    assert all(a["loss"] >= b["loss"] for a, b in zip(table.rows, table.rows[1:], strict=False))


def test_classes_agree_with_scikit_learn(compared):
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    prediction = compared.entries[1].prediction
    scores = precision_recall_fscore_support(
        prediction.target, prediction.predicted, labels=range(len(prediction.names)),
        zero_division=0,
    )  # fmt: skip
    found = {row["class"]: row for row in mistakes.by_class(prediction).rows}
    for code, name in enumerate(prediction.names):
        precision, recall, f1, rows = (own[code] for own in scores)
        own = found[name]
        assert (own["recall"], own["f1"], own["rows"]) == (
            pytest.approx(recall), pytest.approx(f1), rows,
        )  # fmt: skip
        assert (own["precision"] or 0) == pytest.approx(precision)
    matrix = confusion_matrix(prediction.target, prediction.predicted)
    np.fill_diagonal(matrix, 0)
    pairs = mistakes.confused(prediction).rows
    assert pairs[0]["rows"] == matrix.max()
    assert sum(own["rows"] for own in pairs) == matrix.sum()  # 12 pairs at most of four classes
    first = prediction.names.index(pairs[0]["true"])
    assert pairs[0]["share"] == pytest.approx(pairs[0]["rows"] / np.sum(prediction.target == first))


@pytest.mark.thorough
def test_held_out_answers_are_those_of_rows_that_a_fold_held_out():
    prediction = kl.predict(PROBLEM.x, LABELS, draws=20)
    held = prediction.held_out
    assert held is not None
    table = mistakes.worst(prediction, IDS[KNOWN])
    at = {name: place for place, name in enumerate(IDS[KNOWN])}
    for row in table.rows:
        place = at[row["id"]]
        assert row["given"] == held.names[held.predicted[place]]
        chance = np.exp(held.log_probabilities[place, held.target[place]])
        assert row["chance"] == pytest.approx(float(chance))
    alone = held._replace(folds=np.where(np.arange(len(KNOWN)) == at[table.rows[0]["id"]], -1, 0))
    without = mistakes.worst(prediction._replace(held_out=alone), IDS[KNOWN])
    assert table.rows[0]["id"] not in [row["id"] for row in without.rows]


def test_numbers_and_labels_have_worst_rows_too():
    numbers = kl.predict(PROBLEM.x, PROBLEM.x[:, 0] + PROBLEM.codes.astype(float) / 7)
    text = text_of(page_of(numbers))
    assert "Missed rows" in text
    assert mistakes.by_class(numbers) is None
    assert verdict(numbers).endswith("the mean answer gives 0.000.")
    assert "by the mean answer" in text
    assert "by chance" not in text
    row = mistakes.worst(numbers).rows[0]
    assert row["true"] == numbers.target[int(row["id"])]  # a number, by which a column sorts
    tags = [["a", "b"] if code else ["b"] for code in PROBLEM.codes]
    several = kl.predict(PROBLEM.x, tags)
    assert [row["class"] for row in mistakes.by_class(several).rows] != []
    text = text_of(page_of(several))
    assert "Rows with the largest held-out loss" in text
    assert "Missed labels and rows" in text
    assert "Labels, the lowest F1 first" in text


def test_a_verdict_says_where_nothing_beats_chance():
    noise = np.random.default_rng(0).normal(size=(150, 3))
    found = kl.predict(noise, PROBLEM.codes, probe=quick)
    assert "no better than chance" in verdict(found)
    good = kl.predict(PROBLEM.x, PROBLEM.codes, probe=quick)
    assert "chance gives" in verdict(good)


def test_the_spectrum_is_that_of_the_covariance():
    x = np.eye(6)[np.arange(150) % 6] * [1, 1, 1, 2, 2, 0]
    (row,) = spectrum(x).tables[0].rows
    values = np.linalg.eigvalsh(np.cov(x.T))[::-1]
    assert row["first"] == pytest.approx(values[0] / values.sum())
    share = np.cumsum(values) / values.sum()
    for percent in (50, 90, 99):
        assert row[f"d{percent}"] == 1 + np.sum(share < percent / 100)
    assert spectrum(np.ones((5, 1))).paragraphs == ["No embedding has variance."]
    assert spectrum(np.arange(5.0)[:, None]).tables[0].rows[0]["d99"] == 1


def test_report_and_export_refuse_what_they_cannot_show(compared, tmp_path):
    with pytest.raises(TypeError, match="got dict"):
        kl.report({}, tmp_path / "r.html")
    with pytest.raises(ValueError, match=r"one name for each of the 145 labelled rows.*got 3"):
        kl.report(compared, tmp_path / "r.html", ids=["a", "b", "c"])
    with pytest.raises(ValueError, match=r"ends in \.parquet"):
        kl.export(compared, tmp_path / "r.csv")
    with pytest.raises(ValueError, match="labelled rows"):
        kl.export(compared, tmp_path / "r.parquet", embeddings={"good": PROBLEM.x[:7]})
    assert not list(tmp_path.iterdir())


def test_an_export_has_a_row_for_each_labelled_row(compared, tmp_path):
    path = tmp_path / "rows.parquet"
    kl.export(compared, path, embeddings=ROWS, ids=IDS, target=LABELS)
    found = pq.read_table(path).to_pydict()
    prediction = compared.best.prediction
    assert found["id"] == IDS[KNOWN].tolist()
    assert found["target"] == LABELS[KNOWN].tolist()
    assert found["predicted"] == [prediction.names[c] for c in prediction.predicted]
    assert found["wrong"] == (prediction.predicted != prediction.target).tolist()
    np.testing.assert_allclose(found["loss"], prediction.losses)
    held = prediction.held_out
    folds = np.where(np.arange(len(KNOWN)) == 3, -1, held.folds)
    kl.export(prediction._replace(held_out=held._replace(folds=folds)), path)
    assert pq.read_table(path)["loss"].is_null().to_pylist() == [at == 3 for at in range(145)]
    x = ROWS[compared.best.name][KNOWN]
    values = np.linalg.svd(x - x.mean(0), compute_uv=False)
    lengths = np.linalg.norm(np.stack([found["x"], found["y"]]), axis=1)
    np.testing.assert_allclose(lengths, values[:2], rtol=1e-6)


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERNLENS_CACHE", "off")
    for name, rows in ROWS.items():
        table = pa.table({"id": IDS, "vector": list(rows)})
        pq.write_table(table, f"{name}.parquet")
    lines = [f"{i},{name or ''}" for i, name in zip(IDS, LABELS, strict=True)]
    (tmp_path / "labels.csv").write_text("\n".join(["id,label", *lines, "sku900,tea"]) + "\n")
    return tmp_path


def test_the_command_writes_both(files, capsys):
    pytest.importorskip("plotly", reason="the extra 'report' is not installed")
    given = ("compare", "good.parquet", "bad.parquet", "--labels", "labels.csv")
    given = (*given, "--probe", "discriminant")
    code = main([*given, "--html", "out.html", "--export", "rows.parquet", "--no-cache"])
    out, err = capsys.readouterr()
    assert code == 0
    assert err == (
        "wrote rows.parquet: 145 items, predictions of good, the best of 2 entries; 5 items "
        "without a label are left out\n"
    )
    text = (files / "out.html").read_text()
    assert len(text) < 6_000_000
    text = re.sub("</?span>", "", text[: text.index('id="charts"')])
    sentence = next(line for line in out.splitlines() if "macro-F1, " in line or "is best" in line)
    assert f'<h1 id="verdict">{sentence}</h1>' in text
    command = "compare good.parquet bad.parquet --labels labels.csv --probe discriminant"
    assert f"$ kernlens {command} --html out.html" in text
    cells = re.findall(r'data-label="rows not joined">([^<]*)<', text)
    assert cells == ["0", "0", "1"]
    assert "&#x27;sku900&#x27;" in text
    rows = pq.read_table(files / "rows.parquet").to_pydict()
    assert rows["id"] == IDS[KNOWN].tolist()


def test_what_is_exported_is_said_where_every_item_has_a_label(files, capsys):
    lines = [f"{IDS[row]},{LABELS[row]}" for row in KNOWN]
    (files / "known.csv").write_text("\n".join(["id,label", *lines]) + "\n")
    given = ("predict", "good.parquet", "--labels", "known.csv", "--max-unjoined", "0.1")
    given = (*given, "--probe", "discriminant", "--json", "-", "--export", "rows.parquet")
    code = main([*given, "--no-cache"])
    out, err = capsys.readouterr()
    assert code == 0
    assert json.loads(out)
    assert err.startswith("wrote rows.parquet: 145 items, predictions of good\n")


def test_columns_that_no_file_fills_are_left_out(files, capsys):
    pytest.importorskip("plotly", reason="the extra 'report' is not installed")
    np.save("rows.npy", ROWS["good"])
    (files / "own.csv").write_text(
        "\n".join(["label", *(name or NAMES[0] for name in LABELS)]) + "\n"
    )
    given = ("predict", "rows.npy", "--labels", "own.csv", "--probe", "discriminant")
    assert main([*given, "--html", "out.html", "--no-cache"]) == 0
    read = (files / "out.html").read_text().split("What was read")[1].split("</table>")[0]
    heads = list(dict.fromkeys(re.findall(r'data-label="([^"]*)"', read)))
    told = "name, file, holds, rows, dimensions, rows not joined, rows not finite"
    assert ", ".join(heads) == told


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("compare", "good.parquet", "--html", "nowhere/r.html"), "nowhere: no such folder"),
        (("compare", "good.parquet", "--export", "rows.csv"), "written as .parquet"),
        (("score", "good.parquet", "--export", "rows.parquet"), "--export writes an answer"),
    ],
)
def test_what_cannot_be_written_is_said_before_the_work(argv, message, files, capsys):
    code = main([*argv, "--labels", "labels.csv", "--no-cache"])
    out, err = capsys.readouterr()
    assert code != 0
    assert message in err.replace("\n", " ")
    assert out == ""
    assert "Traceback" not in err


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("module", "cost", "options"),
    [
        ("given", COLUMNS + 1 + 4 * len(NAMES), ()),
        ("given", COLUMNS + 1 + 4 * len(NAMES), ("--decoder", "mlp:2")),
        ("mlp", COLUMNS, ("--decoder", "mlp:2")),
        ("given", COLUMNS + 1 + 4 * len(NAMES), ("--decoder", "kernlens.models.decoders:Linear")),
        ("mlp", COLUMNS + 4 * 2, ("--decoder", "mlp:2", "--probe", "mlp")),
    ],
)
def test_an_export_of_a_sample_is_refused_before_the_work(
    module, cost, options, files, monkeypatch, capsys
):
    def stopped(*args, **kwargs):
        raise ValueError("the work began")

    predict = lens.predict
    monkeypatch.setattr(lens, "predict", stopped)
    argv = ["predict", "good.parquet", "--labels", "labels.csv", "--no-cache", *options]
    most = len(KNOWN)
    for limit, said in (
        (cost * most, "the work began"),
        (cost * most - 1, f"a sample of {most - 1} of the {most} labelled rows"),
    ):
        monkeypatch.setattr(sys.modules[f"kernlens.probes.{module}"], "MAX_NUMBERS", limit)
        assert main([*argv, "--export", "rows.parquet"]) == 1
        assert said in capsys.readouterr().err
    # The limit is the probe's own.
    trained = "mlp:2" in options
    probe = partial(probes.mlp, hidden=2, steps=2) if trained else probes.logistic
    # Without a probe of its own the MLP is trained on the rows, not on random features of them.
    decoder = decoders.Mlp(2) if "--probe" in options else None
    target = predict(PROBLEM.x, LABELS, decoder=decoder, probe=probe, draws=2).target
    assert len(target) < most


def test_an_export_of_a_diagnosis_of_a_sample_is_refused(files, monkeypatch, capsys):
    monkeypatch.setattr(sys.modules["kernlens.lens.diagnose"], "MAX_ROWS", len(KNOWN) - 1)
    argv = ["diagnose", "good.parquet", "--labels", "labels.csv", "--export", "rows.parquet"]
    assert main([*argv, "--no-cache"]) == 1
    assert f"a sample of {len(KNOWN) - 1} of" in capsys.readouterr().err


@pytest.mark.slow
def test_every_verb_has_a_page(tmp_path):
    runs = [PROBLEM.x, NOISY, PROBLEM.x + 0.1 * NOISY]
    asked = {
        "stability": lambda: kl.stability(runs, LABELS, ids=IDS),
        "upgrade": lambda: kl.upgrade(PROBLEM.x, PROBLEM.x + 0.1 * NOISY, LABELS, ids=IDS),
        "diagnose": lambda: kl.diagnose(
            np.where(np.arange(150)[:, None] % 40 == 0, 1e3 * PROBLEM.x, PROBLEM.x), LABELS,
            ids=IDS, curve=False,
        ),
        "fuse": lambda: kl.fuse(ROWS, LABELS),
        "scores": lambda: lens.standings(
            ROWS, kl.Labels(PROBLEM.codes, tuple(NAMES)),
            {"h_score": __import__("kernlens.scores").scores.SCORES["h_score"]},
        ),
    }  # fmt: skip
    for verb, ask in asked.items():
        result = ask()
        made = page_of(result, ids=None if verb == "scores" else IDS[KNOWN])
        assert made.sections[0].charts, verb
        assert made.verdict in text_of(made).replace("&#x27;", "'").replace("&lt;", "<").replace(
            "&gt;", ">"
        ), verb
        drawn = re.search(r'id="charts">(.*?)</script>', rendered(made), re.S)[1]
        if verb == "stability":
            assert 'data-label="head">this head<' in rendered(made)
        assert len(json.loads(drawn)) == sum(len(own.charts) for own in made.sections)
        if verb != "scores":
            path = tmp_path / f"{verb}.parquet"
            kl.export(result, path, ids=IDS, target=LABELS)
            found = pq.read_table(path).to_pydict()
            assert found["id"] == IDS[KNOWN].tolist(), verb
            if verb == "diagnose":
                assert found["cause_outlier_rows"][IDS[KNOWN].tolist().index("sku040")]
            if verb == "upgrade":
                wrong = result.flipped()["negative"]
                told = [name for name, own in zip(found["id"], found["change"], strict=True)
                        if own == "becomes wrong"]  # fmt: skip
                assert told == [str(name) for name in wrong]
