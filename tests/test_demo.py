import json
import re

import numpy as np
import pytest

from kernlens.cli.command import main
from kernlens.cli.demo import grid, story
from kernlens.types import Interval, Labels


@pytest.mark.slow  # `.ci/run` runs the short demo on real data
def test_demo_writes_its_report(tmp_path, capsys):
    pytest.importorskip("plotly", reason="the extra 'report' is not installed")
    arguments = ["demo", "--data", "synthetic", "--label", "class", "--short", "--no-cache"]
    arguments += ["--head-seeds", "2", "--out", str(tmp_path / "demo")]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    found = json.loads((tmp_path / "demo" / "results.json").read_text())
    assert len(found["rows"]) == 2
    assert found["agreement"].split(";")[0] in shown.replace("\n", " ")
    text = (tmp_path / "demo" / "table.txt").read_text()
    for row in found["rows"]:
        assert row["setting"] in text
        assert "{value:.3f} [{low:.3f}, {high:.3f}]".format(**row["predicted"]) in text
        assert f"{np.mean(row['trained']['LR']):.3f}" in text
        assert len(row["trained"]["LR"]) == len(row["trained"]["MLP"]) == 2
    assert "\x89PNG" in (tmp_path / "demo" / "figure.png").read_bytes().decode("latin1")[:8]
    page = (tmp_path / "demo" / "index.html").read_text()
    verdict = re.search('<h1 id="verdict">(.*?)</h1>', page)[1]
    assert re.sub("</?span>", "", verdict) == found["conclusion"]
    assert found["agreement"] in page
    assert "Rows with the largest held-out loss" in page
    command = "kernlens demo --data synthetic --label class --head-seeds 2 --short"
    assert found["command"] == command
    assert f"$ {command}" in page


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--data", "nowhere"], 2, "invalid choice 'nowhere' for argument '--data'"),
        (["--data", "synthetic", "--label", "brand"], 1, "no label 'brand'; choices: class"),
    ],
)
def test_mistakes_are_told(options, code, message, tmp_path, capsys):
    assert main(["demo", "--no-cache", "--out", str(tmp_path / "demo"), *options]) == code
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "demo").exists()


def test_out_that_is_a_file_is_refused_before_the_work(tmp_path, capsys):
    (tmp_path / "demo").write_text("mine")
    assert main(["demo", "--no-cache", "--out", str(tmp_path / "demo")]) == 1
    assert "--out must be a folder" in capsys.readouterr().err
    assert (tmp_path / "demo").read_text() == "mine"


def test_settings_hold_collapsed_and_trained_embeddings():
    assert {setting.epochs for setting in grid.SETTINGS} >= {1, 4}
    assert len(set(grid.SETTINGS)) == len(grid.SETTINGS)


def row(setting, seed, predicted, score, trained, cosine=0.0):
    return grid.Row(
        setting, seed, Interval(predicted, predicted - 0.1, predicted + 0.1, 0.9), 0.5, score,
        cosine, {"LR": np.array(trained)}, {"LR": 2.0},
    )  # fmt: skip


def test_agreement_is_with_the_mean_of_the_trainings():
    rows = [
        row("a", 0, 0.1, 3.0, [0.1, 0.2]),
        row("b", 0, 0.3, 1.0, [0.3, 0.4]),
        row("c", 0, 0.2, 2.0, [0.2, 0.3]),
    ]
    line = story.agreement_line(rows)
    assert "over 3 embeddings: LR Spearman 1.00, mean |error| 0.050;" in line
    assert line.endswith("predicting took 1.5 s in all, training 6 s.")
    assert [cells[0] for cells in story.table(rows).cells()] == ["b", "c", "a"]
    assert story.table(rows).cells()[0][1:] == [
        "0.300 [0.200, 0.400]", "0.50", "0.350", "0.071", "2.0", "1.00",
    ]  # fmt: skip


def test_the_conclusion_says_whether_the_best_is_best():
    rows = [
        row("a", 0, 0.1, 3.0, [0.1, 0.2]),
        row("b", 0, 0.3, 1.0, [0.3, 0.4]),
        row("c", 1, 0.2, 2.0, [0.2, 0.3]),
    ]
    assert story.conclusion(rows) == (
        "b was predicted best, and is best once LR is trained: predictions of 3 embeddings miss "
        "the trained macro-F1 by 0.050 on average."
    )
    rows[2] = row("c", 1, 0.35, 2.0, [0.2, 0.3])
    assert story.conclusion(rows).startswith("c seed 1 was predicted best, and is number 2 of 3")


def test_failure_finds_the_collapsed_embedding():
    rows = [row(f"s{i}", 0, 0.1 * i, 0.1 * i, [0.1 * i]) for i in range(1, 8)]
    rows.append(row("collapsed", 3, 0.05, 0.99, [0.05], cosine=0.98))
    line = story.failure_line(rows, "LR")
    assert "ranks collapsed (seed 3) number 1 of 8, at 0.99; trained LR puts it number 8" in line
    assert line.endswith("items is 0.98: most of what the score reads is their common direction.")
    rows[-1] = rows[-1]._replace(mean_cosine=0.1)
    assert story.failure_line(rows, "LR").endswith("items is 0.10.")
    assert "puts no embedding more than 0 places" in story.failure_line(rows[:-1], "LR")


@pytest.mark.thorough
def test_an_embedding_is_judged_by_its_labelled_rows():
    rng = np.random.default_rng(0)
    codes = np.repeat([0, 1, 2], 20).astype(np.int32)
    x = (rng.normal(size=(60, 4)) + 2 * rng.normal(size=(3, 4))[codes]).astype(np.float32)
    hidden = Labels(np.where(np.arange(60) % 4 == 0, -1, codes).astype(np.int32), ("a", "b", "c"))
    kept = np.flatnonzero(hidden.codes >= 0)
    found, alone = (
        grid.judge(rows, task, {}, setting="w2 k1 e1", seed=0)
        for rows, task in ((x, hidden), (x[kept], hidden._replace(codes=codes[kept])))
    )
    assert found.predicted == alone.predicted
    unit = x[kept] / np.linalg.norm(x[kept], axis=1, keepdims=True)
    assert found.mean_cosine == pytest.approx(np.mean(unit @ unit.T), rel=1e-5)
    same = codes[kept][:, None] == codes[kept]
    assert found.score == pytest.approx((unit @ unit.T)[same].mean(), rel=1e-5)
