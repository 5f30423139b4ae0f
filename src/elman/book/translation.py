"""Data sets of pairs of texts: MTFraEng, as in D2L, and PairsFile, of a file of your own."""

import re
import zipfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from elman.book.data_sets import DataModule
from elman.data.batches import Loader, SequenceBatches
from elman.data.orders import ByLength
from elman.data.sequences import Sequences
from elman.data.sizes import Size
from elman.data.text import PairTexts, read_pair_texts
from elman.errors import ElmanError, require_at_least, require_number, require_one_of
from elman.files.download import DATA_URL, download, sha1
from elman.files.paths import as_path, user_cache
from elman.text.codec import BEGIN, END, PADDING, Codec, ended
from elman.text.vocab import Vocab
from elman.valid_values import CHAR, WORD

FRA_ENG_SHA1 = "94646ad1522d915e7b0f9296181140edcf86a4f5"
MIN_FREQ = 2  # occurrences of a token for it to be in a vocabulary of MTFraEng
MAX_IDS = 1 << 27  # of an array, padding included
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


class Pairs(DataModule):
    """Pairs of texts, cut or padded to `num_steps` tokens; a subclass reads them.

    `arrays` are the source, the decoder's input, the number of tokens of each source, and the
    target. The target is the input one token later. The first `num_train` pairs are for training,
    the others for validation. `separator` stands between two tokens of a text.
    """

    separator = " "
    num_steps: int
    num_train: int
    arrays: tuple[Any, ...]
    src_vocab: Vocab
    tgt_vocab: Vocab

    def _numbered(
        self,
        src: Sequence[list[str]],
        tgt: Sequence[list[str]],
        vocabularies: tuple[Vocab | None, Vocab | None] = (None, None),
        min_freq: int = MIN_FREQ,
    ) -> tuple[tuple[Any, ...], Vocab, Vocab]:
        """Arrays of pairs of lists of tokens, and their vocabularies, which may be given."""
        src, tgt = ([tokens[: self.num_steps] for tokens in texts] for texts in (src, tgt))
        tgt = [[BEGIN, *tokens] for tokens in tgt]
        src_vocab = vocabularies[0] or Vocab(src, min_freq, (PADDING, END))
        tgt_vocab = vocabularies[1] or Vocab(tgt, min_freq, (PADDING, BEGIN, END))
        src_ids = self._ids(src, src_vocab, self.num_steps)
        tgt_ids = self._ids(tgt, tgt_vocab, self.num_steps + 1)
        lengths = np.array(list(map(len, src)), np.int32)
        arrays = src_ids, tgt_ids[:, :-1], lengths, tgt_ids[:, 1:]
        return tuple(map(self.to_tensor, arrays)), src_vocab, tgt_vocab

    def _ids(self, texts: Sequence[list[str]], vocab: Vocab, steps: int) -> NDArray[Any]:
        """Ids of texts, padded, (texts, steps)."""
        if len(texts) * steps > MAX_IDS:
            raise ElmanError(
                f"pairs times num_steps must be {MAX_IDS} or less, got {len(texts)} times {steps}: "
                "give a smaller num_steps, or fewer pairs"
            )
        ids = np.full((len(texts), steps), vocab[PADDING], self.id_type)
        for row, tokens in zip(ids, texts, strict=True):
            row[: len(tokens)] = vocab[tokens]
        return ids

    def get_dataloader(self, train: bool) -> Loader:
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


class MTFraEng(Pairs):
    """Pairs of English and French sentences, as in d2l.

    `src_vocab` and `tgt_vocab` have the tokens that occur twice or more.
    """

    # The __init__ of a framework's MTFraEng; why it is not one here, data_sets.TimeMachine says.
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
        is_new = src_vocab is None
        src, tgt = self._tokenize(text, self.num_train + self.num_val if is_new else None)
        return self._numbered(src, tgt, (src_vocab, tgt_vocab))

    def build(self, src_sentences: Sequence[str], tgt_sentences: Sequence[str]) -> tuple[Any, ...]:
        """Arrays of pairs of sentences, in the data set's vocabularies."""
        pairs = zip(src_sentences, tgt_sentences, strict=True)
        raw_text = "\n".join(f"{source}\t{target}" for source, target in pairs)
        return self._build_arrays(raw_text, self.src_vocab, self.tgt_vocab)[0]


class PairsFile(Pairs):
    """Pairs of a file of your own: on each line a source, a tab and its target.

    `num_steps` is the number of tokens of the longest text, unless it is given, with its end.
    `codec` is how its texts are read. With `by_length`, as in `elman train`, the texts of a
    batch have similar lengths, and are cut to the longest one; sources only unless `whole_sources`.
    Otherwise all texts are padded to `num_steps`.
    """

    texts: PairTexts
    codec: Codec
    by_length = False
    whole_sources = True
    val_sha256 = test_sha256 = ""  # there are no files for these parts

    def __init__(
        self,
        path: str,
        batch_size: int,
        num_steps: int | None = None,
        tokenizer: str = "char",
        val_share: float = 0.1,
        seed: int = 0,
    ) -> None:
        """Read the pairs.

        - `path`: a UTF-8 file of 64 MiB at most. Lines have 65,536 bytes at most; empty ones are
          left out.
        - `batch_size`: pairs per batch.
        - `num_steps`: tokens of a text at most, its end included; longer texts are cut.
        - `tokenizer`: char (default) or word. Words are what spaces separate.
        - `val_share`: share of the sources for validation. Pairs of equal sources are in one part.
        - `seed`: seed of the order of the training pairs.
        """
        super().__init__()
        require_at_least(1, batch_size=batch_size)
        require_at_least(0, seed=seed)
        require_one_of((CHAR, WORD), tokenizer=tokenizer)
        require_number("above 0 and below 1", lambda share: 0 < share < 1, val_share=val_share)
        if num_steps is not None:
            require_at_least(1, num_steps=num_steps)
        self.save_hyperparameters()
        names = tokenizer, tokenizer
        texts = read_pair_texts(as_path(path, "a file of pairs"), names, val_share)
        self._begin(texts, texts.codec(num_steps or texts.longest))

    @classmethod
    def of(
        cls,
        texts: PairTexts,
        codec: Codec,
        batch_size: int,
        seed: int = 0,
        whole_sources: bool = True,
    ) -> Self:
        """Make batches of pairs that have been read, or read more texts with their codec.

        - `whole_sources`: the padding of a source counts, as it does without attention.
        """
        data = cls.__new__(cls)
        DataModule.__init__(data)
        data.batch_size = batch_size
        data.seed = seed
        data.by_length = True
        data.whole_sources = whole_sources
        data._begin(texts, codec)
        return data

    def _begin(self, texts: PairTexts, codec: Codec) -> None:
        """Number the tokens of the pairs."""
        self.texts = texts
        self.text_sha256 = texts.sha256
        self.codec = codec
        self.num_steps = codec.num_steps
        self.num_train = texts.num_train
        self.separator = codec.tokenizer.join(("", ""))
        vocabularies = codec.source.vocab, codec.vocab
        self.arrays, *_ = self._numbered(texts.sources, texts.targets, vocabularies)
        self.src_vocab, self.tgt_vocab = vocabularies

    def build(self, src_sentences: Sequence[str], tgt_sentences: Sequence[str]) -> tuple[Any, ...]:
        """Arrays of pairs of texts, in the data set's vocabularies."""
        sources, targets = self.texts.tokenizers
        src, tgt = ended(sources, src_sentences), ended(targets, tgt_sentences)
        return self._numbered(src, tgt, (self.src_vocab, self.tgt_vocab))[0]

    def get_dataloader(self, train: bool) -> Loader:
        """Return the minibatches for training, shuffled anew in every epoch, or for validation."""
        if not self.by_length:
            return super().get_dataloader(train)
        rng = np.random.default_rng(self.seed) if train else None
        sequences = self._sequences(
            slice(0, self.num_train) if train else slice(self.num_train, None)
        )
        order = ByLength(sequences, self.batch_size, self.num_steps, rng)
        return SequenceBatches(sequences, order, self.to_tensor, self.id_type)

    def _sequences(self, rows: slice) -> Sequences:
        """Targets of some pairs, with their sources.

        Without attention the padding of a source counts, and must be as long as when the model is
        used.
        """
        sources, inputs, lengths, targets = (self.to_array(array)[rows] for array in self.arrays)
        ids = np.concatenate([inputs, targets[:, -1:]], axis=1)  # (pairs, steps + 1)
        steps = np.minimum(self.texts.lengths[1, rows], self.num_steps)
        padding = self.src_vocab[PADDING], self.tgt_vocab[PADDING]
        read = Sequences.of_rows(sources, lengths, padding[0], whole=self.whole_sources)
        return Sequences.of_rows(ids, steps, padding[1], read)

    def trained(self) -> Size:
        """Size of the targets for training."""
        return self.texts.size(np.arange(self.num_train), self.codec)

    def validated(self, batches: int) -> Size:
        """Size of the targets in the first `batches` of the validation part."""
        loader = self.val_dataloader()
        rows = np.concatenate([*islice(loader.order.numbers(), batches)])
        return self.texts.size(self.num_train + rows, self.codec)
