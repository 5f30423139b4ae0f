"""Valid values of options, for the modules that check them and list them; the version."""

VERSION = "0.1.0"
FRAMEWORKS = ("numba", "numpy", "torch", "tensorflow", "jax", "mxnet")
DIFFERENTIATING = ("torch", "tensorflow", "jax", "mxnet")  # they derive gradients of any layer
SHARDED = ("numba", "numpy", "torch", "jax")  # their batches can be divided
# With an encoder-decoder for pairs; the first that is installed is the default.
TRANSLATING = ("torch", "jax", "tensorflow", "mxnet")
TIME_MACHINE = "time-machine"  # instead of a path: the book's text
CHAR, BYTE, WORD, BPE = TOKENIZERS = ("char", "byte", "word", "bpe")
PAIR_TOKENIZERS = (CHAR, WORD, BPE)
ADDITIVE = "additive"
ATTENTION = (ADDITIVE, "none")  # of a model of pairs
NEWLINES = ("universal", "keep")
EDITIONS = ("gutenberg", "d2l")  # of The Time Machine
BATCHING = ("random", "contiguous", "shuffled")
RECIPES = ("auto", "book")
SCHEDULES = ("constant", "cosine", "plateau")
DEVICES = ("auto", "cpu", "gpu")
PRECISIONS = ("single", "bf16")  # of matrix products
LOGS = ("tensorboard",)  # that a run directory may contain

MAX_VOCAB_SIZE = 1 << 20  # tokens
MAX_HIDDEN = MAX_EMBEDDING = 1 << 16  # units; beyond these sizes no machine has the memory
MAX_LAYERS = 1000
MAX_SEQ_LEN = MAX_BATCH_SIZE = 1 << 31
MAX_SHARDS = 1 << 10
MAX_EPOCHS = 500_000  # a checkpoint contains the history of all
MAX_SEED = 2**32 - 1  # every framework accepts it
