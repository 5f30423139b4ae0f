"""Machine code: instructions, register tiles, queues of work, compiling and caching."""
