"""The loop and what goes along with it: no run directories, no settings."""
