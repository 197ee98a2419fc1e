"""Prediction from files: photos and masks to amodal masks."""
