"""Python around the compiled code: the layout of weights in memory, and the `Engine`."""
