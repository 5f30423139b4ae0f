"""Everything that no framework owns: text, windows, the loop, sampling, weights, run directories."""
