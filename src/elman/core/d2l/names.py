"""The book's framework-independent names, and more, for every framework's module to export."""

from elman.core.d2l.plotting import ProgressBoard, plot, plt, set_figsize, show_list_len_pair_hist
from elman.core.d2l.seq2seq import bleu
from elman.core.files.archives import extract
from elman.core.files.download import DATA_URL, download
from elman.core.hyperparameters import HyperParameters, add_to_class, check_len, check_shape
from elman.core.model.precision import fastest_precision
from elman.core.model.weights import Architecture
from elman.core.text.vocab import Vocab

__all__ = [
    "DATA_URL",
    "Architecture",
    "HyperParameters",
    "ProgressBoard",
    "Vocab",
    "add_to_class",
    "bleu",
    "check_len",
    "check_shape",
    "download",
    "extract",
    "fastest_precision",
    "plot",
    "plt",
    "set_figsize",
    "show_list_len_pair_hist",
]
