"""Timings, apart from the tests: `make bench`. Only ratios taken side by side in one run mean anything on a shared
machine.
"""
