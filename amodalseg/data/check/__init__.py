"""What in a copy of a data set would falsify a score: checks, cards of the published sets, statistics."""
