"""hf://owner/name[@revision]: a checkpoint on the Hugging Face hub, pinned to the revision's current commit.

URLs, authentication and file lists come from huggingface_hub, so HF_ENDPOINT and HF_TOKEN apply.
"""

import re
from dataclasses import dataclass

from minimoe.errors import BadArgument, NotFound, ReadFailed

ADDRESS = re.compile(r"hf://([A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*)(?:@([A-Za-z0-9][A-Za-z0-9._/-]*))?/*")
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubFolder:
    """One commit of one repository. `names`: its files, None if they were not requested."""

    repository: str
    commit: str
    names: frozenset[str] | None

    def __str__(self) -> str:
        return f"hf://{self.repository}@{self.commit}"

    @property
    def base(self) -> str:
        """The URL prefix of the files."""
        from huggingface_hub import hf_hub_url

        return hf_hub_url(self.repository, "x", revision=self.commit).removesuffix("x")

    @property
    def headers(self) -> dict[str, str]:
        """The user's credentials, if any: for the hub only, not for a host it redirects to."""
        from huggingface_hub.utils import build_hf_headers

        return {name.lower(): value for name, value in build_hf_headers(library_name="minimoe").items()}


def parse(address: str) -> tuple[str, str]:
    """(repository, revision) of an hf:// address. Raises BadArgument."""
    if not (match := ADDRESS.fullmatch(address)):
        raise BadArgument(f"path is {address!r}, expected hf://owner/name or hf://owner/name@revision.")
    return match[1], match[2] or "main"


def resolve(repository: str, revision: str) -> HubFolder:
    """Resolve a branch, tag or hash to a commit, and list its files. Raises NotFound, ReadFailed."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

    where = f"hf://{repository}@{revision}"
    try:
        model = HfApi().model_info(repository, revision=revision, timeout=30)
    except OfflineModeIsEnabled as error:
        raise ReadFailed(f"{where}: HF_HUB_OFFLINE is set. Unset it, or give a folder on this machine.") from error
    except RepositoryNotFoundError as error:
        raise NotFound(
            f"{where}: the hub has no such model, or you have no access. Check the name; for a gated or private model, "
            "accept its terms on its page and run `hf auth login`."
        ) from error
    except HfHubHTTPError as error:  # also for an unknown revision
        kind = NotFound if error.response is not None and error.response.status_code == 404 else ReadFailed
        raise kind(f"{where}: {first_line(error)} Check name and revision.") from error
    except Exception as error:  # no connection: the type depends on huggingface_hub's HTTP library
        raise ReadFailed(f"{where}: the hub cannot be reached: {first_line(error)} Try again later.") from error
    if not isinstance(model.sha, str) or not COMMIT.fullmatch(model.sha):
        raise ReadFailed(f"{where}: the hub names no commit ({model.sha!r}). Try again later.")
    return HubFolder(repository, model.sha, frozenset(file.rfilename for file in model.siblings or ()))


def first_line(error: Exception) -> str:
    """The first line of an error message, ending with one period."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".") + "."
