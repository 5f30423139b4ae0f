"""Settings, run directories and comparisons: what the commands do, framework and screen apart."""
