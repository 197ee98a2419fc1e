"""The papers' methods, their baselines and controls."""
