"""The files that a search leaves."""
