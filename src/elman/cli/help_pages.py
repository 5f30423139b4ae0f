"""Pages of `--help`: options in groups, one line each where they fit, and examples at the end."""

import re
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

GROUPS = ("Sweep", "Plan", "Data", "Model", "Training", "Machine", "Output")
SHOWN = "elman.help_all"  # in the context while all options are shown
ARGUMENTS = "Arguments"
ONLY, OTHER = "Options", "Other"  # headings of options without a group: all of them, or the rest
FOLDING = ("Data", "Model", "Training", "Machine", "Output")  # groups, with --help-all
USUAL = {  # options of these groups that --help lists; --help-all lists all
    *("lines", "val", "pairs", "recipe", "tokenizer", "cell", "hidden", "minutes", "epochs"),
    *("resume", "init", "framework", "out", "sample_every"),
}
KINDS = {"<int>": "N", "<float>": "X", "<str>": "WORD"}  # values of options, as they are shown

EXAMPLES = {
    "elman": (
        "elman train my-text.txt --minutes 3",
        'elman generate runs/my-text "It was" --temperature 0.5',
        "elman COMMAND --help",
    ),
    "train": (
        "elman train my-text.txt",
        "elman train my-text.txt --minutes 10 --sample-every 1",
        "elman train names.txt --lines",
        "elman train train.txt --val valid.txt --test test.txt",
        "elman train my-text.txt --recipe book --cell lstm --hidden 128",
        "elman train --resume runs/my-text",
    ),
    "prepare": (
        "elman prepare part-1.txt part-2.txt.gz --out story",
        "elman train story",
    ),
    "generate": (
        'elman generate runs/my-text "It was" --tokens 100 --temperature 0.5',
        'elman generate runs/my-text "It was" "He said" --n 3',
        "elman generate runs/names --lines 20 --unique --new",
    ),
    "next": ('elman next runs/my-text "It wa" --top 5',),
    "translate": (
        'elman translate runs/pronunciations "recurrent"',
        "elman translate runs/pronunciations --beams 5 --n 3 --scores < words.txt",
    ),
    "evaluate": (
        "elman evaluate runs/my-text other-text.txt",
        "elman evaluate runs/my-text - --json < other-text.txt",
    ),
    "score": (
        "elman score runs/my-text other-text.txt --top 10",
        "elman score runs/my-text other-text.txt --text | sort -k 2 -g",
    ),
    "export": (
        "elman export runs/my-text --to html",
        "elman export runs/my-text --to onnx --out model",
    ),
    "serve": (
        "elman serve runs/my-text",
        "elman serve runs/my-text runs/names --port 8080",
    ),
    "sweep": (
        'elman sweep my-text.txt --space "hidden=64..512:log, cell=gru|lstm" --minutes 1',
        "elman sweep --resume sweeps/my-text",
    ),
    "plan": (
        "elman plan my-text.txt --workers 8",
        "elman plan --tokens 1000000000 --vocab-size 8192 --hidden 1024",
    ),
    "compare": (
        "elman compare runs",
        "elman compare runs/a runs/b --on other-text.txt",
    ),
    "runs": ("elman runs",),
    "info": ("elman info runs/my-text", "elman info"),
}


def show_all(context: typer.Context, requested: bool) -> None:
    """Print the help with all options, and exit."""
    if requested:
        context.meta[SHOWN] = True
        print(context.get_help())
        raise typer.Exit


def _is_folded(option: Any, context: Any) -> bool:
    """True for an option that only --help-all lists."""
    folds = any(each.name == "help_all" for each in context.command.params)
    panel = vars(option).get("rich_help_panel")
    return folds and panel in FOLDING and option.name not in USUAL and SHOWN not in context.meta


def _row(record: tuple[str, str]) -> tuple[str, str]:
    """Name and help of an option, with a letter for the kind of its value."""
    name, text = record
    if name.startswith("-"):
        for kind, letter in KINDS.items():
            name = name.replace(kind, letter)
    return re.sub(r" <[\w\[\]]+>$", "", name), text.replace("  [", " [")


def _write_examples(name: str, formatter: Any) -> None:
    with formatter.section("Examples"):
        for line in EXAMPLES[name]:
            formatter.write(f"  {line}\n")


class Page(TyperCommand):
    """A command whose help has groups and examples."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then each group of options."""
        sections: dict[str, list[tuple[str, str]]] = {
            name: [] for name in (ARGUMENTS, *GROUPS, OTHER)
        }
        for each in self.get_params(ctx):
            record: Any = each.get_help_record(ctx)
            if record is not None and not _is_folded(each, ctx):
                is_argument = each.param_type_name == "argument"
                name = ARGUMENTS if is_argument else vars(each)["rich_help_panel"] or OTHER
                sections[name].append(_row(record))
        if not any(sections[name] for name in GROUPS):
            sections[ONLY] = sections.pop(OTHER)
        width = max(len(name) for rows in sections.values() for name, _ in rows)
        for name, rows in sections.items():
            if rows:
                with formatter.section(name):
                    formatter.write_dl([(each.ljust(width), text) for each, text in rows])

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples."""
        _write_examples(str(self.name), formatter)


class Pages(TyperGroup):
    """The command line. Its help has examples."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples."""
        _write_examples("elman", formatter)
