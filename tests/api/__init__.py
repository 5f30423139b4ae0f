"""Tests of the functions that do in Python what the commands do."""
