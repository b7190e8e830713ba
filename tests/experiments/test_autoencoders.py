"""The page of four autoencoders: its ranks, and what chance has of them."""

import itertools

import numpy as np
import pytest
from scipy import stats

from experiments.autoencoders import __main__ as page


def test_the_rank_correlation_is_spearmans():
  rng = np.random.default_rng(0)
  a, b = rng.normal(size=(2, 7))
  np.testing.assert_allclose(page.rank_correlation(a, b), stats.spearmanr(a, b).statistic)


@pytest.mark.parametrize("count, least", [(4, np.inf), (5, 1.0), (6, 0.886), (7, 0.786)])
def test_what_chance_has_at_95_percent_is_what_tables_say(count, least):
  np.testing.assert_allclose(page.interval(count), least, atol=5e-4)  # Zar 1984, table B.19, two sides


@pytest.mark.parametrize("figures", [("psnr", "rfid", "ifid"), page.FIGURES])
def test_the_page_has_a_row_each_and_the_ranks(figures, tmp_path, monkeypatch):
  monkeypatch.setattr(page, "HERE", tmp_path)
  rows = [
    {"KL weight": weight, "channels": channels, "kl": 3.0, "active": 1.0}
    | {name: sign * k for name, sign in zip(figures, itertools.cycle((1, -1)), strict=False)}
    | {"Fréchet": 10.0 + k, "lowest": 9.5 + k, "highest": 11.0 + k}
    for k, (weight, channels) in enumerate(itertools.product((0.1, 1.0), (2, 8)))
  ]
  lines = page.page(rows).splitlines()
  assert len(lines) == 8 and lines[0].count("|") == lines[5].count("|") == len(figures) + 8
  assert f"{figures[0]} +1.00, {figures[1]} -1.00" in lines[-1] and "more than can be" in lines[-1]
  page.draw(rows)
  assert (tmp_path / "scatter.png").stat().st_size > 1000
