"""What in a copy of a data set would distort a score: checks, cards of the published sets, statistics."""
