"""What completions say: statistics of their text in plain Python, and the process that keeps them off the training."""
