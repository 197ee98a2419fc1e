"""From a configuration to rows of integers, scores and comparisons."""
