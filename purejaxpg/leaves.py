"""Leaves of nested parameters, reached by the end of their path."""
