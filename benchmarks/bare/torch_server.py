"""A plain PyTorch server of completions: Starlette, and one step of the model for each token.

    python torch_server.py RUN PORT

PyTorch computes with all cores. It reads the weights of a run of elman whose model is a GRU of
characters, and answers POST /v1/completions with the texts of `elman serve`: the same JSON, whole.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import torch
import uvicorn
from safetensors.torch import load_file
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from torch import nn


class Model:
    """A GRU of characters."""

    def __init__(self, run: Path) -> None:
        arch = json.loads((run / "config.json").read_text())["architecture"]
        self.tokens = json.loads((run / "vocab.json").read_text())
        values = load_file(run / "model.safetensors")
        parts = {
            "embedding": nn.Embedding(arch["vocab"], arch["embedding"]),
            "rnn": nn.GRU(arch["embedding"], arch["hidden"], arch["layers"], batch_first=True),
            "linear": nn.Linear(arch["hidden"], arch["vocab"]),
        }
        self.parts = nn.ModuleDict(parts)
        self.parts.load_state_dict(values)
        self.ids = {token: n for n, token in enumerate(self.tokens)}

    @torch.inference_mode()
    def write(self, prompt: str, tokens: int, temperature: float) -> str:
        """Text that follows a prompt."""
        ids, state, written = torch.tensor([[self.ids[c] for c in prompt]]), None, []
        for _ in range(tokens):
            hiddens, state = self.parts["rnn"](self.parts["embedding"](ids), state)
            logits = self.parts["linear"](hiddens[:, -1])
            ids = torch.multinomial((logits / temperature).softmax(1), 1)
            written.append(int(ids))
        return "".join(self.tokens[index] for index in written)


def app(model: Model) -> Starlette:
    """The application; a thread writes one text after the other."""
    one_by_one = asyncio.Lock()

    async def complete(request: Request) -> JSONResponse:
        asked: dict[str, Any] = await request.json()
        async with one_by_one:
            text = await asyncio.to_thread(
                model.write, asked["prompt"], asked["max_tokens"], asked["temperature"]
            )
        return JSONResponse({"choices": [{"index": 0, "text": text, "finish_reason": "length"}]})

    return Starlette(routes=[Route("/v1/completions", complete, methods=["POST"])])


if __name__ == "__main__":
    uvicorn.run(app(Model(Path(sys.argv[1]))), port=int(sys.argv[2]), log_level="critical")
