"""Medians, ratios and what is written, by numbers whose answers are known."""

import json
import math
import sys
import time

import pytest

from benchmarks import report, turns
from benchmarks.turns import Times


def test_a_ratio_is_the_median_of_the_rounds_own_ratios():
  ours, peer = Times((1.0, 6.0, 3.0), (1.0, 1.0, 4.0)), Times((2.0, 4.0, 3.0), (2.0, 2.0, 2.0))
  assert ours.median == 3.0
  assert ours.ratio(peer) == 1.0  # of 0.5, 1.5, 1.0; the ratio of the medians agrees
  assert Times((1.0, 10.0, 2.0), (0, 0, 0)).ratio(Times((2.0, 10.0, 20.0), (0, 0, 0))) == 0.5
  assert ours.ratios(peer) == (0.5, 1.5)
  assert ours.cpu_ratio(peer) == 0.5


def test_the_spread_is_half_the_quartiles_distance():
  times = Times((1.0, 2.0, 3.0, 4.0, 5.0), (0,) * 5)
  assert times.spread == pytest.approx((4 - 2) / 2 / 3)


def test_candidates_take_turns_and_the_order_is_reversed_each_round():
  calls = []
  result = turns.in_turn({name: lambda name=name: calls.append(name) for name in "ab"}, rounds=3, warm=1)
  assert calls == ["a", "b", "b", "a", "a", "b", "b", "a"]
  assert len(result["a"].wall) == len(result["b"].cpu) == 3


def test_what_comes_before_in_a_turn_is_not_counted():
  calls = []
  result = turns.in_turn(
    {"a": lambda: calls.append("a"), "b": lambda: lambda: calls.append("after b")}, rounds=1, warm=0, before=2
  )
  assert calls == ["a"] * 3 + ["after b"] * 3
  assert len(result["a"].wall) == 1


def test_time_is_of_the_candidate_alone():
  after = lambda: time.sleep(0.05)
  result = turns.in_turn({"slow": lambda: time.sleep(0.05), "fast": lambda: after}, rounds=3, warm=0)
  assert min(result["slow"].wall) >= 0.05 > max(result["fast"].wall)
  assert max(result["slow"].cpu) < 0.05  # sleep is no work


def test_a_row_has_rates_shares_and_ratios():
  times = {"ours": Times((2.0, 2.0), (1.0, 1.0)), "peer": Times((4.0, 4.0), (4.0, 4.0))}
  row = report.row(times, flops=100, rate=200.0, batch=8)
  assert row["batch"] == 8 and row["flop"] == 100
  assert row["ours"]["flop_per_s"] == 50 and row["ours"]["mfu"] == 0.25 and row["peer"]["mfu"] == 0.125
  assert row["ratio"] == 0.5 and row["cpu_ratio"] == 0.25
  assert "ratio" not in report.row({"ours": times["ours"]})


def test_every_candidate_is_compared_with_ours():
  times = {"ours": Times((2.0,), (1.0,)), "peer": Times((4.0,), (4.0,)), "autocast": Times((1.0,), (2.0,))}
  row = report.row(times)
  assert (row["ratio"], row["ratio to autocast"], row["cpu_ratio to autocast"]) == (0.5, 2.0, 0.5)


@pytest.mark.parametrize("load, busy", [(0.4, False), (0.6, True)])
def test_a_busy_machine_is_told(load, busy, monkeypatch, tmp_path, capsys):
  monkeypatch.setattr(report, "RESULTS", tmp_path)
  path = report.write("train_step-cpu", {"load": load}, [{"batch": 1}])
  assert json.loads(path.read_text())["busy"] is busy
  assert ("busy: the load was 0.6" in capsys.readouterr().out) is busy


def test_a_table_has_a_line_a_row_and_a_column_for_every_name():
  times = Times((2.0, 2.0), (1.0, 1.0))
  text = report.table([report.row({"ours": times}, 10, 10.0, batch=8), {"batch": 16, "other": None}])
  head, rule, first, second = text.splitlines()
  assert (
    head == "| batch | ours, s | ours, MFU | flop | other |" and rule == "| --- | --- | --- | --- | --- |"
  )
  assert first == "| 8 | 2 ± 0 % | 50 % | 1e-08 G | - |" and second == "| 16 | - | - | - | - |"


def test_everything_is_kept(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
  monkeypatch.setattr(sys, "argv", ["x", "--batch=8"])
  path = report.write("train_step-cpu", {"cores": 2}, [{"ratio": 0.5}], note="n", loss=math.nan)
  kept = json.loads(path.read_text())
  assert kept["command"] == "python -m benchmarks.train_step --batch=8"
  assert kept["machine"] == {"cores": 2} and kept["rows"] == [{"ratio": 0.5}] and kept["note"] == "n"
  assert kept["loss"] is None and "NaN" not in path.read_text()
  assert "| 0.5 |" in capsys.readouterr().out
