"""Gates of the benchmarks: from what was measured to whether a limit is kept."""

import json

import pytest

from experiments.benchmarks.ntk import accelerator, gates
from experiments.benchmarks.ntk.gates import AUTO, BASELINE, OURS, PEER, PEER_DEFAULT
from experiments.benchmarks.ntk.tasks import TASKS, conv_operations, problem
from experiments.benchmarks.pretrain import experiment as bench_pretrain
from experiments.benchmarks.scores import settings, shown
from experiments.benchmarks.scores.settings import Gate
from kernlens import ntk


@pytest.mark.parametrize(
    ("sign", "measured", "kept"),
    [
        ("≤", 1.4, True), ("≤", 1.5, True), ("≤", 1.6, False),
        ("≥", 1.4, False), ("≥", 1.5, True), ("≥", 1.6, True),
        ("≤", None, False), ("≥", None, False),
        ("≤", float("nan"), False), ("≥", float("inf"), False),
    ],
)  # fmt: skip
def test_a_limit_is_kept_up_to_itself(sign, measured, kept):
    gate = Gate(sign, 1.5)
    assert gate.keeps(measured) is kept
    line = settings.line("part", "what", measured, "s", gate)
    assert (line["wanted"], line["passed"]) == (f"{sign} 1.5", kept)
    assert "passed" not in settings.line("part", "what", measured, "s")


def exact(name, measured, passed):
    return {
        "part": "float64", "what": name, "measured": measured, "unit": "", "wanted": "≤ 1e-5",
        "passed": passed,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "passed", "worst", "said", "short"),
    [
        ([("a", 1e-6, True), ("b", 2e-6, True)], True, 2e-6, "2 of 2 scores", []),
        ([("a", 3e-5, False), ("b", 2e-6, True)], False, 3e-5, "1 of 2 scores", ["a"]),
        ([("a", 1e-6, True), ("b", None, False)], False, None, "1 of 2 scores", ["b"]),
    ],
)
def test_scores_against_float64_are_one_gate(rows, passed, worst, said, short):
    other = settings.line("peers", "time", 2.0, "×", Gate("≥", 3.0), matmul_gflops=[5.0, 9.0])
    plain = settings.line("disk", "seconds", 2.0, "s", matmul_gflops=[4.0])
    found = shown.summarise(settings.TINY, [other, plain, *(exact(*row) for row in rows)])
    first, last = found["gates"]
    assert (first["what"], first["passed"]) == ("time", False)
    assert (last["passed"], last["measured"], last["short"]) == (passed, worst, short)
    assert last["what"].startswith(said)
    assert found["matmul_gflops"] == [4.0, 9.0]


def timed(task, by, method, milliseconds, size=0, **more):
    return {
        "task": task, "dtype": "float32", "n": 8, "by": by, "method": method, "failed": None,
        # The fastest run is not the same share of the median on both sides.
        "milliseconds": [milliseconds * f for f in (0.5 if by == OURS else 0.1, 1.0, 9.0)],
        "platform": "cpu",
        "bytes": (size + 10) * 2**20, "output_bytes": 10 * 2**20, "difference": 1e-6,
        "trace_seconds": 0.4, "matmul_gflops": {"1024": 50.0}, "versions": {"jax": "1"},
    } | more  # fmt: skip


def measured(rows):
    return {line["gate"]: (line["measured"], line["passed"]) for line in gates.judge(rows)}


@pytest.mark.parametrize(("peer_ms", "passed"), [(31.0, True), (30.0, True), (29.0, False)])
def test_time_is_the_peers_fastest_over_ours_by_medians(peer_ms, passed):
    rows = [
        timed("mlp trace", OURS, AUTO, 10.0, size=4),
        timed("mlp trace", OURS, BASELINE, 1.0),
        timed("mlp trace", PEER, PEER_DEFAULT, 1010.0, size=2),
        timed("mlp trace", PEER, "structured derivatives", peer_ms, size=8),
        timed("mlp trace", PEER, "vector products", 1.0, failed="over 90 s"),
        timed("mlp trace", PEER, "vector products", 1.0, platform="gpu"),
    ]
    found = measured(rows)
    of = f"{PEER} over kernlens"
    assert found[f"mlp trace: time, {of}"] == (pytest.approx(peer_ms / 10), passed)
    assert found[f"mlp trace: memory, {of}"] == (pytest.approx(8 / 4), True)
    assert found[f"mlp trace: time against the default, {of}"] == (pytest.approx(101.0), True)


def test_a_rate_is_judged_where_it_was_measured():
    rows = [
        timed("conv trace", OURS, AUTO, 10.0, share_of_gflops=0.4),
        timed("mlp full", OURS, AUTO, 10.0, share_of_gflops=None),
    ]
    found = {gate: line for gate, line in measured(rows).items() if "rate of operations" in gate}
    gate = "conv trace: rate of operations over that of a matrix product in turn"
    assert found == {gate: (0.4, False)}


@pytest.mark.thorough
def test_operations_of_convolutions_are_those_of_the_plan():
    task = TASKS["conv trace"]
    made = problem(task, 2, "float32")
    why = ntk.empirical_ntk_fn(made.f, explain=True)(made.x, None, made.params)
    pairs = sum(leaf.operations for leaf in why.leaves if leaf.path[0] == "convs")
    biases = 32 * (10 + 10 + 1)
    # What grows with pairs of images: multiplications and additions, two for each entry.
    of_one, of_two, of_three = (task.operations(n) for n in (1, 2, 3))
    assert (of_three - 2 * of_two + of_one) / 2 == 2 * (pairs + biases)
    assert conv_operations(256, jacobians=True) > 1.3 * conv_operations(256)


def test_times_are_of_the_processor_where_both_sides_have_it():
    peer = timed("conv trace", PEER, PEER_DEFAULT, 100.0, processor_milliseconds=[30.0])
    busy = timed("conv trace", OURS, AUTO, 100.0, processor_milliseconds=[10.0])
    assert gates.against([busy, peer], "conv trace")["time"] == 3.0
    before = timed("conv trace", OURS, AUTO, 50.0)
    assert gates.against([before, peer], "conv trace")["time"] == 2.0


def test_without_the_peer_a_ratio_is_shown_and_not_judged():
    rows = [timed("mlp trace", OURS, AUTO, 10.0), timed("mlp trace", OURS, BASELINE, 400.0)]
    found = measured(rows)
    line = f"mlp trace: time, kernlens' {BASELINE} over kernlens"
    assert found[line] == (pytest.approx(40.0), None)


def test_memory_below_the_resolution_counts_as_the_resolution():
    rows = [
        timed("mlp trace", OURS, AUTO, 10.0, size=0),
        timed("mlp trace", PEER, PEER_DEFAULT, 10.0, size=0.5),
    ]
    assert gates.against(rows, "mlp trace")["memory"] == 1.0
    assert gates.times_less(None, 1.0) is None
    unknown = [{**rows[0], "bytes": None}, rows[1]]
    assert measured(unknown)[f"mlp trace: memory, {PEER} over kernlens"] == (None, None)


@pytest.mark.parametrize(("most", "passed"), [(12.5, True), (12.6, False)])
def test_tables_of_any_size_take_as_long(most, passed):
    rows = [
        timed("towers 2,000", OURS, AUTO, 10.0, size=4),
        timed("towers 20,000", OURS, AUTO, most, size=5),
        timed("towers 1,000,000", OURS, AUTO, 11.0, size=4, trace_seconds=1.1),
    ]
    found = measured(rows)
    of = "towers 2,000 to towers 1,000,000"
    assert found[f"{of}: time, most over least"] == (pytest.approx(most / 10), passed)
    assert found[f"{of}: memory, most over least"] == (pytest.approx(1.25), True)
    assert found["seconds to trace and choose, any task"] == (1.1, False)


@pytest.mark.parametrize(("slowest", "passed"), [(1.1, True), (1.11, False)])
def test_auto_is_judged_by_the_task_where_it_is_worst(slowest, passed):
    rows = [
        timed("mlp full", OURS, AUTO, 10.0, auto_over_best=0.9, best_single_same=False),
        timed("mlp trace", OURS, AUTO, 10.0, auto_over_best=slowest, best_single_same=False),
        # Two timings of one program differ by chance.
        timed("conv trace", OURS, AUTO, 10.0, auto_over_best=1.3, best_single_same=True),
        timed("towers frozen", OURS, AUTO, 10.0, auto_over_best=None),
    ]
    assert measured(rows)["auto over the best single method, any task"] == (slowest, passed)


def test_pretraining_is_as_fast_as_its_slowest_setting():
    rows = [{"model": m, "ratio": r} for m, r in (("a", 3.0), ("b", 1.0), ("a", 0.7), ("b", 2.0))]
    found = bench_pretrain.summarise(bench_pretrain.TINY, rows)
    assert found == {"a": {"lowest_ratio": 0.7}, "b": {"lowest_ratio": 1.0}}


@pytest.mark.thorough
def test_the_accelerator_script_writes_every_part_or_says_what_it_left_out(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(accelerator, "ROWS", {"mlp trace 8,192": 8192, "mlp full": 1024})
    monkeypatch.setattr(accelerator, "STRUCTURES", {"by hand": accelerator.STRUCTURES["by hand"]})
    monkeypatch.setattr(accelerator.jax.config, "update", lambda *_: None)
    out = tmp_path / "out.json"
    assert accelerator.main(["--tiny", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    kernels, (pair,) = found["rows"][:-1], found["rows"][-1:]
    assert [(row["task"], row["dtype"], row["n"]) for row in kernels] == [
        (task, dtype, 8)
        for task in ("mlp trace 8,192", "mlp full")
        for dtype in ("float32", "bfloat16")
    ]
    assert all(row["finite"] and len(row["milliseconds"]) == 1 for row in kernels)
    assert [0 < row.get("share_of_peak", 2) < 1 for row in kernels] == [True, True, False, False]
    assert pair["ratio"] > 0
    assert found["left_out"] == []
    assert accelerator.main(["--tiny", "--seconds", "-1", "--out", str(out)]) == 0
    assert len(json.loads(out.read_text())["left_out"]) == 5
    assert accelerator.main(["--out", str(tmp_path / "none" / "out.json")]) == 1
    assert "no folder" in capsys.readouterr().err
