"""Machine code: register tiles, threads, compiling and caching; nothing here knows a cell."""
