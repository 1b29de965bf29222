"""Campaigns against what docs/promises.md promises: kills, signals, losses of power, full disks, hostile input.

Each campaign is a function of a size and a seed that gives `Figures`. `make test-faults` runs all of them at their full
size (`python -m tests.faults`); `test_faults.py` runs a slice of each, of seconds, in the usual suite.
"""
