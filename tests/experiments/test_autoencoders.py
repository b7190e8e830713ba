"""The page of autoencoders: its ranks, what chance has of them, and mistakes told before anything is trained."""

import itertools

import numpy as np
import pytest
from scipy import stats

from diffjax.jobs import training
from diffjax.metrics import lpips
from experiments.autoencoders import __main__ as page
from experiments.autoencoders import emoji


def test_the_rank_correlation_is_spearmans():
  rng = np.random.default_rng(0)
  a, b = rng.normal(size=(2, 7))
  np.testing.assert_allclose(page.rank_correlation(a, b), stats.spearmanr(a, b).statistic)


@pytest.mark.parametrize("count, least", [(4, np.inf), (5, 1.0), (6, 0.886), (7, 0.786)])
def test_what_chance_has_at_95_percent_is_what_tables_say(count, least):
  np.testing.assert_allclose(page.interval(count), least, atol=5e-4)  # Zar 1984, table B.19, two sides


def test_the_interval_of_a_rank_correlation_holds_it_as_often_as_it_says():
  """Of 20 pairs of Gaussians whose rank correlation is 6 / pi arcsin(r / 2), 95 of 100 times."""
  rng, r, count = np.random.default_rng(1), 0.6, 20
  real, held = 6 / np.pi * np.arcsin(r / 2), []
  for _ in range(400):
    a, b = rng.normal(size=(2, count))
    low, high = page.around(page.rank_correlation(a, r * a + np.sqrt(1 - r**2) * b), count)
    held.append(low < real < high)
  assert abs(np.mean(held) - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 400)
  low, high = page.around(1.0, 6)
  assert 0 < low < 0.95 and low == -page.around(-1.0, 6)[1] and high < 1


@pytest.mark.parametrize(
  "main, argv, words",
  [
    (page.main, ["--steps=0"], "--steps is 0; it must be"),
    (
      page.main,
      ["--perceptual=alexnet"],
      "weights_file: LPIPS's weights are looked for in .*lpips_alexnet.npz",
    ),
    (emoji.main, [], "weights_file: LPIPS's weights are looked for in .*lpips_alexnet.npz"),
  ],
  ids=["steps", "perceptual", "emoji"],
)
def test_a_mistake_is_told_in_a_paragraph_before_anything_is_trained(
  main, argv, words, tmp_path, monkeypatch
):
  monkeypatch.setenv(lpips.ENVIRONMENT, str(tmp_path))
  monkeypatch.setattr(training, "train", None)
  with pytest.raises(SystemExit, match=words):
    main(argv)


@pytest.mark.parametrize("figures", [("psnr", "rfid", "ifid"), tuple(page.FIGURES)])
def test_the_page_has_a_row_each_and_the_ranks(figures, tmp_path, monkeypatch):
  monkeypatch.setattr(page, "HERE", tmp_path)
  rows = [
    {"KL weight": weight, "channels": channels, "kl": 3.0, "active": 1.0}
    | {name: sign * k for name, sign in zip(figures, itertools.cycle((1, -1)), strict=False)}
    | {page.JUDGED: 10.0 + k, "lowest": 9.5 + k, "highest": 11.0 + k}
    for k, (weight, channels) in enumerate(itertools.product((0.1, 1.0), (2, 8)))
  ]
  lines = page.page(rows).splitlines()
  assert len(lines) == 8 and lines[0].count("|") == lines[5].count("|") == len(figures) + 8
  assert "PSNR +1.00 (" in lines[-1] and " -1.00 (" in lines[-1] and "too few" in lines[-1]
  page.draw(rows)
  assert (tmp_path / "scatter.png").stat().st_size > 1000
