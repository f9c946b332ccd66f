"""What the command says of its options, and of wrong ones."""

import pytest

from kernlens.cli import command
from kernlens.cli.options import demo
from kernlens.kernels import KERNELS
from kernlens.kernels.of_decoder import DECODERS
from kernlens.probes import METRICS, PROBES
from tests.test_cli import files, run

__all__ = ["files"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ((), "{predict, compare, upgrade, stability, fuse, diagnose, score, embed, demo}"),
        (("predict", "good.npy", "bad.npy", "--labels", "labels.csv"), "one embedding file"),
        (("score", "good.npy", "--labels", "labels.csv", "--scores"), "at least one score"),
        (("comapre",), "no command 'comapre'; did you mean compare? there are predict, compare,"),
        (("compare", "good.npy"), "--labels"),
        (("compare", "--labels", "labels.csv"), "at least one embedding file"),
        (("compare", "good.npy", "good.npy", "--labels", "labels.csv"), "given twice"),
        (("compare", "good.npy", "--labels", "labels.csv", "--metric", "f2"), "macro_f1"),
        (("compare", "good.npy", "--labels", "labels.csv", "--probe", "svm"), "discriminant"),
        (("compare", "good.npy", "--labels", "labels.csv", "--level", "1.5"), "(0, 1)"),
        (("compare", "good.npy", "--labels", "labels.csv", "--seed", "-1"), "at least 0"),
        (("compare", "good.npy", "--labels", "labels.csv", "--scale", "0"), "finite and not 0"),
        (("compare", "good.npy", "--labels", "labels.csv", "--scale", "nan"), "finite and not 0"),
        (("compare", "good.npy", "--labels", "labels.csv", "--max-unjoined", "2"), "[0, 1]"),
        (("compare", "good.npy", "--labels", "labels.csv", "--sead", "1"), "--sead"),
        (("demo", "--seeds", "many"), "--seeds"),
    ],
)
def test_a_wrong_command_line_is_2(files, capsys, argv, message):
    code, out, err = run(capsys, *argv)
    assert (code, out) == (2, "")
    assert message in err


def test_a_wrong_option_names_the_nearest_of_this_command_alone(files, capsys):
    code, _, err = run(capsys, "compare", "good.npy", "--labelz", "labels.csv")
    assert code == 2
    assert "--labels FILE" in err
    for name in set(command.VERBS) - {"compare"}:
        assert name not in err


def test_help_names_every_choice(files, capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert "compare" in out
    assert "demo" in out
    code, out, _ = run(capsys, "compare", "--help")
    assert code == 0
    for name in (*PROBES, *METRICS, "--no-cache", "--json", "--id-column"):
        assert name in out
    code, out, _ = run(capsys, "demo", "--help")
    assert code == 0
    for name in demo.Demo.__dataclass_fields__:
        assert "--" + name.replace("_", "-") in out


def test_help_is_filled_and_says_each_default_once(files, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for verb in ("predict", "compare", "score"):
        code, out, _ = run(capsys, verb, "--help")
        assert code == 0
        assert "(default: None)" not in out
        assert "(default: )" not in out
        assert "None," not in out
        words = " ".join(line.strip("│| ") for line in out.splitlines())
        assert "or the only column that can be it. Name it where the files have several." in words
        assert "that can be it.\n" not in out.replace(" │", "").replace(" |", "")
    for name in (*DECODERS, *KERNELS):
        assert name in run(capsys, "predict", "--help")[1]


@pytest.mark.parametrize("verb", ["predict", "compare", "score", "demo"])
def test_help_has_an_example(files, capsys, verb):
    code, out, _ = run(capsys, verb, "--help")
    assert code == 0
    assert f"Example: kernlens {verb} " in " ".join(out.split())


def test_a_completion_script_is_printed_with_all_verbs(capsys):
    code, out, err = run(capsys, "--tyro-print-completion", "bash")
    assert (code, err) == (0, "")
    assert "complete -" in out
    assert all(verb in out for verb in command.VERBS)
