"""Words of the help for arguments and options that are no settings, by command and name."""

from elman.errors import alternatives
from elman.formats import FORMATS
from elman.valid_values import FRAMEWORKS, TOKENIZERS, TRANSLATING

# A name without a command is that of an option of several commands.
HELP = {
    "run": "Run directory, made by elman train.",
    "as_json": "Print a JSON object.",
    "framework": f"{alternatives(FRAMEWORKS)}. [default: numba, or numpy where needed]",
    "dynamic": "Adapt the model to the text while it reads (dynamic evaluation).",
    "train framework": f"{alternatives(FRAMEWORKS)}; a list with commas, or all, compares them; "
    "NAME=INTERPRETER runs one in another environment.",
    "train out": "Run directory to make. [default: new in runs/]",
    "train checkpoint_every": "Seconds between checkpoints.",
    "train sample_every": "Show a text every X epochs; 0.1 shows ten an epoch.",
    "train resume": "Resume the interrupted training of this run.",
    "prepare texts": "UTF-8 text files, plain or gzip-compressed; - is standard input.",
    "prepare out": "Folder to make, the store.",
    "prepare tokenizer": f"{alternatives(TOKENIZERS)}. [default: chosen for the text]",
    "generate prefixes": "Texts to continue. A model of lines needs none.",
    "generate lines": "Write N lines for each prefix.",
    "generate unique": "Leave out lines written before.",
    "generate new": "Leave out lines of the training text.",
    "generate known": "With --new, the text of known lines; may be repeated.",
    "next prefix": "Text to continue.",
    "next top": "Number of tokens.",
    "translate texts": "Texts to translate. [default: lines of standard input]",
    "translate scores": "Print scores and texts, too.",
    "translate framework": f"{alternatives(TRANSLATING)}. [default: the first that is installed]",
    "evaluate text": "UTF-8 text file, a store, - for standard input, time-machine, or a file of "
    "pairs.",
    "score file": "UTF-8 text file, or - for standard input.",
    "score by": "Print a row for each line or for each token.",
    "score top": "Print only the N most surprising lines, each once.",
    "score text": "Add the text of each line.",
    "export to": f"{alternatives(tuple(FORMATS))}. [required]",
    "export out": "File or folder to write. [default: named after the run]",
    "serve runs": "Run directories.",
    "sweep space": 'Settings to search: "hidden=64..512:log, cell=gru|lstm".',
    "sweep trials": "Number of trainings.",
    "sweep storage": "Database of the trials, such as postgresql+psycopg://USER@HOST/NAME. "
    "[default: a journal in the sweep's folder]",
    "sweep out": "Folder to make. [default: sweeps/ and the text's name]",
    "sweep resume": "Continue or join the sweep in this folder.",
    "plan workers": "Workers of the largest plan.",
    "plan tokens": "Plan for this number of training tokens without a text; needs --vocab-size.",
    "compare runs": "Run directories, or folders of them.",
    "compare on": "Evaluate all runs on this text.",
    "compare everything": "Also print the settings that all runs have in common.",
    "compare plot": "Plot the curves of all runs into this file.",
    "runs folder": "Folder, searched with the folders in it.",
    "info speed": "Measure the engine on this machine, in two seconds.",
}
NAMES = {"as_json": "json", "everything": "all"}  # of options, other than the parameter's
TEXTS = "generate prefixes", "generate stop", "next prefix", "translate texts"  # any characters
METAVARS = {  # names of values, other than the parameter's or the kind's
    "run": "RUN",
    "runs": "RUN",
    "resume": "RUN",
    "on": "TEXT",
    "stop": "TEXT",
    "texts": "TEXT",
    "prefixes": "PREFIX",
    "known": "FILE",
    "storage": "URL",
    "allowed_host": "NAME",
    "runs folder": "PATH",
}
