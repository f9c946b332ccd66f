import json

import pytest

from kernlens import cli, demo


@pytest.mark.slow  # `.ci/run` runs the short demo on real data
def test_demo_writes_its_report(tmp_path, capsys):
    arguments = ["demo", "--data", "synthetic", "--label", "class", "--short", "--no-cache"]
    arguments += ["--reader-seeds", "2", "--out", str(tmp_path / "demo")]
    assert cli.main(arguments) == 0
    shown = capsys.readouterr().out
    found = json.loads((tmp_path / "demo" / "results.json").read_text())
    assert len(found["rows"]) == 2
    assert found["agreement"].split(";")[0] in shown.replace("\n", " ")
    text = (tmp_path / "demo" / "table.txt").read_text()
    for row in found["rows"]:
        assert row["setting"] in text
        assert f"{row['predicted']['discriminant']['macro_f1']:.3f}" in text
        assert len(row["trained"]["LR"]["macro_f1"]) == 2
    assert "\x89PNG" in (tmp_path / "demo" / "figure.png").read_bytes().decode("latin1")[:8]
    assert found["agreement"] in (tmp_path / "demo" / "index.html").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "nowhere"], "nowhere"),
        (["--data", "synthetic", "--label", "brand"], "no label 'brand'; choices: class"),
    ],
)
def test_mistakes_are_one_line(options, message, tmp_path, capsys):
    assert cli.main(["demo", "--no-cache", "--out", str(tmp_path / "demo"), *options]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "demo").exists()


def test_out_that_is_a_file_is_refused_before_the_work(tmp_path, capsys):
    (tmp_path / "demo").write_text("mine")
    assert cli.main(["demo", "--no-cache", "--out", str(tmp_path / "demo")]) == 1
    assert "is a file; expected a folder" in capsys.readouterr().err
    assert (tmp_path / "demo").read_text() == "mine"


def test_settings_hold_collapsed_and_trained_embeddings():
    assert {setting.epochs for setting in demo.SETTINGS} >= {1, 4}
    assert len(set(demo.SETTINGS)) == len(demo.SETTINGS)
