"""Runs: folders, their settings and results."""
