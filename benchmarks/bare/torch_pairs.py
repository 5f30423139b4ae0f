"""A plain PyTorch encoder-decoder of one layer, with and without additive attention."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Plain(nn.Module):
    """The decoder reads the encoder's last output at each step: one call of a GRU."""

    def __init__(self, source: int, target: int, embedding: int, hidden: int) -> None:
        super().__init__()
        self.sources = nn.Embedding(source, embedding)
        self.encoder = nn.GRU(embedding, hidden)
        self.targets = nn.Embedding(target, embedding)
        self.decoder = nn.GRU(embedding + hidden, hidden)
        self.linear = nn.Linear(hidden, target)

    def forward(self, source: Tensor, target: Tensor, lengths: Tensor) -> Tensor:
        """Logits, (steps, batch, vocab)."""
        outputs, state = self.encoder(self.sources(source.T))
        embedded = self.targets(target.T)
        context = outputs[-1].expand(len(embedded), -1, -1)
        return self.linear(self.decoder(torch.cat((embedded, context), -1), state)[0])


class Attention(nn.Module):
    """The decoder reads a weighted sum of the encoder's outputs: a GRU cell for each step."""

    def __init__(self, source: int, target: int, embedding: int, hidden: int) -> None:
        super().__init__()
        self.sources = nn.Embedding(source, embedding)
        self.encoder = nn.GRU(embedding, hidden)
        self.targets = nn.Embedding(target, embedding)
        self.decoder = nn.GRUCell(embedding + hidden, hidden)
        self.query = nn.Linear(hidden, hidden, bias=False)
        self.key = nn.Linear(hidden, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)
        self.linear = nn.Linear(hidden, target)

    def forward(self, source: Tensor, target: Tensor, lengths: Tensor) -> Tensor:
        """Logits, (steps, batch, vocab)."""
        outputs, _ = self.encoder(self.sources(source.T))
        keys = self.key(outputs)
        padding = (torch.arange(len(outputs))[:, None] >= lengths)[..., None]
        state = outputs[lengths.long() - 1, torch.arange(len(lengths))]
        states = []
        for embedded in self.targets(target.T):
            scores = self.score(torch.tanh(keys + self.query(state)))
            weights = scores.masked_fill(padding, -1e6).softmax(0)
            context = (weights * outputs).sum(0)
            state = self.decoder(torch.cat((embedded, context), -1), state)
            states.append(state)
        return self.linear(torch.stack(states))


def updates(
    model: nn.Module, batches: Sequence[tuple[Tensor, ...]], padding: int, done: Callable[[], None]
) -> None:
    """Take an update with each batch, and call `done` after it."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.004, fused=True)
    for source, target, lengths, wanted in batches:
        logits = model(source.long(), target.long(), lengths)
        loss = F.cross_entropy(
            logits.flatten(0, 1), wanted.T.flatten().long(), ignore_index=padding
        )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1)
        optimizer.step()
        loss.item()
        done()
