"""How good a model is: metrics, sets to measure on, comparisons, baselines."""
