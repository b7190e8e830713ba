"""Sweeps and reproductions, each in a folder with its results and its README.

    python -m experiments.launch objectives --on=local
    python -m experiments.collect objectives

A sweep is a folder whose __init__.py sets SWEEP; see sweeps.py. All commands are run from the repository.
"""
