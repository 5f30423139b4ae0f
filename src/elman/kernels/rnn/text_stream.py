"""Reading sequences step by step from a state: logits, losses of a text, generation.

A tile has a single row if each step depends on the previous one or only one sequence is read.
"""

from typing import NamedTuple

from elman.kernels.codegen.cache import kernel
from elman.kernels.codegen.linking import inner
from elman.kernels.codegen.vectors import align_stack
from elman.kernels.rnn import head
from elman.kernels.rnn.by_groups import forward_group
from elman.kernels.rnn.layer import product
from elman.kernels.rnn.packing import Array, pack_biases, pack_part, pack_table_part
from elman.kernels.rnn.sampling import draw, penalize
from elman.kernels.rnn.work import LANES, Work, copy_states


class Stream(NamedTuple):
    """Arrays for reading some steps at a time. The states at step 0 are the initial states."""

    work: Work
    no_masks: Array  # (0, 0, 0, 0)
    no_mask: Array  # (0, 0)
    logits: Array  # (rows, vocab)


@kernel
def pack(pieces, parameters, packed):
    """Pack the weights that reading a text needs."""
    pack_biases(parameters, packed)
    for part in range(len(pieces.starts) - 1):
        pack_part(part, pieces, parameters, packed.operands)
    for part in range(len(parameters.table.starts) - 1):
        pack_table_part(part, parameters, packed)


@inner
def forward(S, cell, ids, first, steps, parameters, packed, stream):
    """Read ids, (rows, any), from column `first` on, starting from the final state so far."""
    work, rows = stream.work, len(stream.work.row_ids)
    activations, hidden, last = work.activations, work.d_h.shape[1], steps * rows
    depth = packed.W_hh.shape[2]
    for t in range(steps):
        for row in range(rows):
            work.ids[t * rows + row, 0] = ids[row, first + t]
    forward_group(S, cell, steps, parameters, packed, work, stream.no_masks, stream.no_mask, depth)
    copy_states(activations.h[:, last : last + rows], activations.h[:, :rows], rows, hidden)
    copy_states(activations.c[:, last : last + rows], activations.c[:, :rows], rows, hidden)


@kernel
def read(S, cell, ids, parameters, packed, stream, out):
    """Compute the logits for ids, (rows, steps), into `out`, (rows, steps, vocab)."""
    work, logits = stream.work, stream.logits
    (rows, steps), panels = ids.shape, packed.W_out_panels
    most = len(work.ids) // rows
    for start in range(0, steps, most):
        number = min(most, steps - start)
        forward(S, cell, ids, start, number, parameters, packed, stream)
        for t in range(number):
            h = work.operands.h[-1, (t + 1) * rows : (t + 2) * rows]
            product(S, h, panels, packed.b_out, logits, 0, len(panels))
            for row in range(len(out)):
                for j in range(out.shape[2]):
                    out[row, start + t, j] = logits[row, j]


@kernel
def score(S, T, cell, ids, targets, parameters, packed, stream, out):
    """Compute the loss in nats of each target, (1, steps), given the ids before it, into `out`.

    Logits and losses are computed for a block of steps at a time: `targets` is padded with
    arbitrary tokens.
    """
    align_stack()
    work, steps = stream.work, ids.shape[1]
    h, logits, h_T = work.operands.h[-1], work.logits[0], work.h_T[0]
    losses, most = logits[len(logits) - head.EXTRA_ROWS :], len(work.ids)
    for start in range(0, steps, most):
        number = min(most, steps - start)
        forward(S.single, cell, ids, start, number, parameters, packed, stream)
        for t in range(0, number, LANES):
            part = targets[:, start + t : start + t + LANES]
            head.transpose(T, h[t + 1 :], h_T)
            head.product(T, packed.W_out, packed.b_out, h_T, logits, 0, len(packed.W_out))
            head.softmax(T, logits, part, 0, LANES)
            for n in range(min(LANES, number - t)):
                out[start + t + n] = losses[head.LOSS, n]


@kernel
def generate(
    S, cell, parameters, packed, stream, sampler, buffers, uniforms, starts, seen, kept, out
):
    """Read the ids at the start of each row of `out`, and draw the ids that follow.

    Row r begins at column `starts[r]`, so that all prefixes end together. Each drawn id uses a
    number from 0 to 1 of `uniforms`, (rows, ids to draw). If rows have a penalty, `seen`,
    (rows, vocab), marks the tokens of each row so far. `kept`, (rows, ids to draw, vocab), receives
    the logits of each draw, unless its last axis is empty. If the logits allow no draw, the id is
    -1 and generation ends.
    """
    work, logits = stream.work, stream.logits
    h, c = work.activations.h, work.activations.c
    known, vocab = out.shape[1] - uniforms.shape[1], len(buffers.chances)
    rows, panels = len(work.row_ids), packed.W_out_panels
    for n in range(out.shape[1] - 1):
        forward(S, cell, out, n, 1, parameters, packed, stream)
        for row in range(len(starts)):
            if n < starts[row]:
                h[:, row], c[:, row] = 0, 0
            elif sampler.penalty[row] != 1:
                seen[row, out[row, n]] = True
        if n + 1 >= known:
            outputs = work.operands.h[-1, rows : 2 * rows]
            product(S, outputs, panels, packed.b_out, logits, 0, len(panels))
            for row in range(len(uniforms)):
                uniform = uniforms[row, n + 1 - known]
                for j in range(kept.shape[2]):
                    kept[row, n + 1 - known, j] = logits[row, j]
                if sampler.penalty[row] != 1:
                    penalize(logits[row, :vocab], seen[row], sampler.penalty[row])
                out[row, n + 1] = draw(logits[row, :vocab], sampler, row, uniform, buffers)
                if out[row, n + 1] < 0:
                    return
