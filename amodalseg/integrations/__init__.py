"""Bridges to tools that users already have; each module needs the package that it is named after."""
