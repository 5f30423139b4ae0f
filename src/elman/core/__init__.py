"""Everything that no framework owns: text, windows, loop, sampling, weights, run directories."""
