"""Logs of trainings for other programs."""
