"""The book's framework-independent names, and more, for every framework's module to export."""

from elman.book.plotting import ProgressBoard, plot, plt, set_figsize, show_list_len_pair_hist
from elman.book.seq2seq import bleu
from elman.files.download import DATA_URL, download, extract
from elman.hyperparameters import HyperParameters, add_to_class, check_len, check_shape
from elman.model.options import fastest_precision
from elman.model.weights import Architecture
from elman.text.vocab import Vocab

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
