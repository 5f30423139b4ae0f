"""The commands as functions: `elman.train`, `elman.compare`, ...

A function takes the options of its command by name, with the same defaults and checks.
"""
