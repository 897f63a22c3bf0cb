"""A GRPO fine-tuning of a small Flax model that learns two-digit sums within minutes on two CPU cores."""
