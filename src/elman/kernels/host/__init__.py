"""Python around the compiled code: where each weight lies, and the `Engine`."""
