"""Ready-made views of a run: what a backend shows before anyone has arranged a chart."""
