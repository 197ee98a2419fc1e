"""Checks for anything in a copy of a data set that would distort a score, cards of the published sets, statistics."""
