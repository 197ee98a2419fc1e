"""Data sets in other forms: the exchange format, tar shards."""
