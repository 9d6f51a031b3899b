"""Benchmarks: `make bench`. On a shared machine, only ratios measured side by side in one run are meaningful."""
