"""Held-out validation: data, policies, scorers, statistics, and the thread that runs it beside the training."""
