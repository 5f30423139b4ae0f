"""Options of a model besides its architecture: how it is trained and multiplied, not what it is.

An option is declared here, and read where it takes effect: by the layers, the loss or the products.
The options of the command line, their checks, and the arguments of every `build` are derived.
"""

from dataclasses import dataclass

from elman.setting_fields import check, choice, real
from elman.valid_values import PRECISIONS


@dataclass(frozen=True)
class ModelOptions:
    """Options of a model. An ElmanError names an invalid value."""

    dropout: float = real(0.0, "Share of outputs dropped between layers.", at_least=0, below=1)
    input_dropout: float = real(
        0.0,
        "Share of embedding features dropped.",
        at_least=0,
        below=1,
    )
    output_dropout: float = real(
        0.0,
        "Share of the last outputs dropped.",
        at_least=0,
        below=1,
    )
    precision: str = choice(
        "single",
        "{choices} (only numba, numpy).",
        PRECISIONS,
    )

    def __post_init__(self) -> None:
        check(self)

    @property
    def dropped(self) -> dict[str, float]:
        """Arguments of recurrent layers: the dropout shares."""
        return {
            "dropout": self.dropout,
            "input_dropout": self.input_dropout,
            "output_dropout": self.output_dropout,
        }
