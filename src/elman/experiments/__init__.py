"""Settings, run directories and comparisons: the commands without their output and frameworks."""
