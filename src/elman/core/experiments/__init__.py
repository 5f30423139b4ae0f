"""Settings, run directories and comparisons: the commands without their screen and frameworks."""
