"""Members of classes that the reference lists: an extension of Griffe, the reader of the sources.

A class that is not here is listed with all its public members.
"""

from __future__ import annotations

from typing import Any

import griffe

KEPT = {"__init__", "__call__", "__getitem__"}  # constructors and operators
STEPS = "loss training_step validation_step"  # hooks, as in the book
MODELS = f"forward {STEPS} configure_optimizers"
# The same class has other members in other frameworks.
LISTED = {
    "Callback": "before_update after_update before_validate after_epoch on_checkpoint after_fit",
    "Cell": "",
    "Checkpoints": "stop",
    "Classifier": f"{STEPS} accuracy layer_summary",
    "Codec": "line_end has_same_tokens prefix_ids text written spelling",
    "DataModule": "get_dataloader train_dataloader val_dataloader get_tensorloader",
    "Layers": "forward backward",
    "LinearRegression": "forward loss setup get_w_b",
    "Loop": "fit_epoch stop seconds progress learning_rate",
    "Module": f"{MODELS} apply_init parameters params get_scratch_params set_scratch_params_device",
    "RNNLM": f"{MODELS} init_params one_hot output_layer step backward continuations compile "
    "architecture load_weights train eval",
    "RNNLMScratch": f"forward {STEPS} init_params setup one_hot output_layer step predict",
    "RNNScratch": "forward setup",
    "Samples": "",
    "Sampler": "allowed probabilities",
    "TensorBoard": "",
    "TextFile": "mean_line num_lines get_dataloader test_dataloader",
    "Trainer": "fit prepare_data prepare_model prepare_batch clip_gradients gpus",
    "Vocab": "unk to_tokens",
}


class Listed(griffe.Extension):
    """Drops the other methods and properties of these classes; fails for a name that is gone."""

    def __init__(self) -> None:
        self.left = {(kind, name) for kind, names in LISTED.items() for name in names.split()}

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        """Drop what is not listed."""
        for name, member in [*cls.members.items()]:
            self.left.discard((cls.name, name))
            if _is_dropped(cls.name, name, member):
                del cls.members[name]

    def on_package(self, **_: Any) -> None:
        """Raise an error for a listed name that no class has."""
        if self.left:
            raise ValueError(f"docs/members.py lists what no class has: {sorted(self.left)}")


def _is_dropped(kind: str, name: str, member: griffe.Object | griffe.Alias) -> bool:
    if name.startswith("__"):
        return name not in KEPT
    is_method = member.is_function or "property" in member.labels
    return is_method and kind in LISTED and name not in LISTED[kind].split()
