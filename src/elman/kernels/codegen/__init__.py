"""Machine code: register tiles, threads, compiling and caching. Independent of cells."""
