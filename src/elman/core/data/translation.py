"""Data set of sentence pairs, as in D2L: MTFraEng."""

import re
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.core.data.batching import Minibatches
from elman.core.data.data_module import DataModule
from elman.core.errors import ElmanError, require_at_least
from elman.core.files.download import DATA_URL, download, sha1
from elman.core.files.paths import as_path, user_cache
from elman.core.text.vocab import Vocab

FRA_ENG_SHA1 = "94646ad1522d915e7b0f9296181140edcf86a4f5"
PADDING, BEGIN, END = "<pad>", "<bos>", "<eos>"
MIN_FREQ = 2  # occurrences of a token for it to be in a vocabulary
SPACES = str.maketrans("\u202f\xa0", "  ")


def fra_eng(root: str = "../data") -> str:
    """D2L's pairs of English and French sentences, a pair a line with a tab between.

    They are read from fra-eng.zip in the folder `root` or the user's cache, or downloaded into the
    cache. The digest is verified.
    """
    found = as_path(root, "the folder of texts") / "fra-eng.zip"
    if sha1(found) != FRA_ENG_SHA1:
        found = Path(download(DATA_URL + "fra-eng.zip", str(user_cache()), FRA_ENG_SHA1))
    with zipfile.ZipFile(found) as archive:
        return archive.read("fra-eng/fra.txt").decode("utf-8")


class MTFraEng(DataModule):
    """Pairs of English and French sentences, cut or padded to `num_steps` tokens, as in d2l.

    `arrays` are the source, the decoder's input, the number of tokens of each source, and the
    target. The target is the input one token later. The first `num_train` pairs are for training,
    the others for validation. `src_vocab` and `tgt_vocab` have the tokens that occur twice or more.
    """

    num_steps: int
    num_train: int
    num_val: int
    arrays: tuple[Any, ...]
    src_vocab: Vocab
    tgt_vocab: Vocab

    # The __init__ of a framework's MTFraEng; why it is not one here, corpus.TimeMachine says.
    def build_pairs(
        self,
        batch_size: int,
        num_steps: int = 9,
        num_train: int = 512,
        num_val: int = 128,
        seed: int = 0,
    ) -> None:
        """Read the pairs.

        - `batch_size`: pairs per batch.
        - `num_steps`: tokens of a sentence at most, its end included.
        - `num_train`, `num_val`: pairs for training, and the following ones for validation.
        - `seed`: seed of the order of the training pairs.
        """
        DataModule.__init__(self)
        self.save_hyperparameters()
        require_at_least(
            1, batch_size=batch_size, num_steps=num_steps, num_train=num_train, num_val=num_val
        )
        require_at_least(0, seed=seed)
        self.arrays, self.src_vocab, self.tgt_vocab = self._build_arrays(self._download())
        if (pairs := len(self.arrays[0])) < num_train + num_val:
            raise ElmanError(
                f"num_train + num_val is {num_train + num_val}, and the text has {pairs} pairs: "
                "use fewer"
            )

    def _download(self) -> str:
        return fra_eng(self.root)

    def _preprocess(self, text: str) -> str:
        """Lowercase text with plain spaces, and a space before each punctuation mark."""
        return re.sub(r"(?<=[^ ])([,.!?])", r" \1", text.translate(SPACES).lower())

    def _tokenize(
        self, text: str, max_examples: int | None = None
    ) -> tuple[list[list[str]], list[list[str]]]:
        """Tokens of the sources and of the targets, each with its end.

        Lines without exactly one tab are left out. As in the book, `max_examples` is the number of
        the last line that is read, counted from 0.
        """
        lines = text.split("\n")
        if max_examples:
            lines = lines[: max_examples + 1]
        pairs = [line.split("\t") for line in lines if line.count("\t") == 1]
        src, tgt = ([[*filter(None, pair[n].split(" ")), END] for pair in pairs] for n in (0, 1))
        return src, tgt

    def _build_arrays(
        self, raw_text: str, src_vocab: Vocab | None = None, tgt_vocab: Vocab | None = None
    ) -> tuple[tuple[Any, ...], Vocab, Vocab]:
        """Arrays of all pairs, and their vocabularies: the given ones, or new ones."""
        text = self._preprocess(raw_text)
        src, tgt = map(self._padded, self._tokenize(text, self.num_train + self.num_val))
        tgt = [[BEGIN, *tokens] for tokens in tgt]
        src_vocab = src_vocab or Vocab(src, MIN_FREQ, (PADDING, END))
        tgt_vocab = tgt_vocab or Vocab(tgt, MIN_FREQ, (PADDING, BEGIN, END))
        src_ids, tgt_ids = self._ids(src, src_vocab), self._ids(tgt, tgt_vocab)
        lengths = (src_ids != src_vocab[PADDING]).sum(axis=1, dtype=np.int32)
        arrays = src_ids, tgt_ids[:, :-1], lengths, tgt_ids[:, 1:]
        return tuple(map(self.to_tensor, arrays)), src_vocab, tgt_vocab

    def _padded(self, sentences: Iterable[list[str]]) -> list[list[str]]:
        """Sentences of `num_steps` tokens, cut or padded."""
        steps = self.num_steps
        return [(tokens + [PADDING] * steps)[:steps] for tokens in sentences]

    def _ids(self, sentences: Sequence[list[str]], vocab: Vocab) -> NDArray[Any]:
        """Ids of sentences, (sentences, steps)."""
        return np.array([vocab[tokens] for tokens in sentences], self.id_type)

    def build(self, src_sentences: Sequence[str], tgt_sentences: Sequence[str]) -> tuple[Any, ...]:
        """Arrays of pairs of sentences, in the data set's vocabularies."""
        pairs = zip(src_sentences, tgt_sentences, strict=True)
        raw_text = "\n".join(f"{source}\t{target}" for source, target in pairs)
        return self._build_arrays(raw_text, self.src_vocab, self.tgt_vocab)[0]

    def get_dataloader(self, train: bool) -> Minibatches:
        """Return the minibatches for training, shuffled anew in every epoch, or for validation."""
        rows = slice(0, self.num_train) if train else slice(self.num_train, None)
        return self.get_tensorloader(self.arrays, train, rows, self.tgt_vocab[PADDING])

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.num_train:,} pairs for training, "
            f"{len(self.arrays[0]) - self.num_train:,} for validation, vocabularies of "
            f"{len(self.src_vocab):,} and {len(self.tgt_vocab):,} tokens, batches of "
            f"{self.batch_size:,})"
        )
