"""Inpainting networks behind one interface."""
