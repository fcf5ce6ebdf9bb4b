"""What goes wrong between here and the hub, in one sentence with what to do about it.

Knows the hub's errors, and not what was fetched.
"""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING

from furcate.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["explained"]

PAGE = "https://huggingface.co"
NO_PATH = "; if it is meant to be a path, there is nothing at it"


@contextmanager
def explained(repo: str, revision: str | None) -> Iterator[None]:
    """Turns what the hub's library raises inside into ModelError. The order matters: a gated
    repository is a kind of one that is not found."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise ModelError(
            f"model {repo!r} is gated: accept its terms at {PAGE}/{repo}, then set HF_TOKEN to a "
            "token of yours"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(f"model {repo!r} has no revision {revision!r}; check it") from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"there is no model {repo!r} on the hub, or it is private: check the name, and for a "
            f"private one set HF_TOKEN to a token of yours{NO_PATH}"
        ) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise _unreachable(repo, error) from error
    except errors.HFValidationError as error:
        raise ModelError(f"{repo!r} is no name of the hub: {error}") from error
    except errors.HfHubHTTPError as error:
        raise ModelError(f"the hub did not give {repo!r}: {_first_line(error)}") from error
    except _network_errors() as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ModelError(
                f"there is no room left for {repo!r}; make some, or set HF_HOME to a folder with "
                "more, and fetch it again: it goes on where it stopped"
            ) from error
        raise ModelError(
            f"fetching {repo!r} broke off ({type(error).__name__}: {_first_line(error)}); fetch it "
            f"again: it goes on where it stopped{NO_PATH}"
        ) from error


def _network_errors() -> tuple[type[Exception], ...]:
    """What the hub's own errors are kinds of: those of the library that it connects with, too."""
    from huggingface_hub.errors import HfHubHTTPError

    known = HfHubHTTPError.__mro__[1:]
    return tuple(kind for kind in known if issubclass(kind, Exception) and kind is not Exception)


def _unreachable(repo: str, error: Exception) -> ModelError:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return ModelError(
            f"model {repo!r} is not here as a whole, and HF_HUB_OFFLINE forbids to fetch it; unset "
            "it, or name a model that is here"
        )
    return ModelError(f"the hub cannot be reached for {repo!r} ({_first_line(error)}); try again")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]
