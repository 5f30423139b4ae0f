"""The commands as functions: `elman.train`, `elman.compare` and so on.

A function takes the options of its command by name, with the same defaults and checks.
"""
