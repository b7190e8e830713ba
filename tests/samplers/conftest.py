"""Samplers compile much and run little, so XLA's optimisations are left out here."""

import jax
import pytest


@pytest.fixture(autouse=True)
def few_optimizations():
  before = jax.config.read("jax_disable_most_optimizations")
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", before)
