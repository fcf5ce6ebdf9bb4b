"""What a model family is to the rest: how its config is read, and what it calls its tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from furcate.errors import ModelFileError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .config import DecoderConfig
    from .hf_config import HFConfig
    from .hf_names import HFNames

__all__ = ["Family"]


class Family(NamedTuple):
    """One entry of the registry. `title` names models that people know."""

    title: str
    adds: str  # to a llama, for the table of families
    config: Callable[[HFConfig], DecoderConfig]
    names: Callable[[DecoderConfig], HFNames]

    def read(self, config: HFConfig) -> DecoderConfig:
        """The config, or ModelFileError; also where settings that are numbers cannot be computed
        with, such as a division by a scale of zero."""
        try:
            return self.config(config)
        except (ArithmeticError, ValueError) as error:
            raise ModelFileError(
                f"the settings of config.json cannot be computed with ({error}); fetch it again"
            ) from error
