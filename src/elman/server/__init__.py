"""Runs over HTTP: OpenAI's completions API on Starlette and uvicorn."""
