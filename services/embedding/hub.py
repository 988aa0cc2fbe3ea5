"""Model directories from the Hugging Face hub.

What is true of a directory that this file hands out: it holds one revision of one model, whole,
and every file's SHA-256 (git's own hash for the small ones) was compared with the hub's word after
it was written. A record beside the cache says so, and from then on the network is not asked: a
branch that moves cannot change the vectors under a collection. Pickled files are never taken.
Interrupted downloads go on where they stopped; all of that is huggingface_hub's own cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.errors import DataLoss, InvalidField, ModelUnavailable
from engine.models.families import FAMILIES
from engine.models.model_dir import file_hash

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

ANSWER_S_MAX = 5.0
"""How long the hub may take to begin an answer."""

_FORM = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_SMALL = re.compile(
    r"(config|tokenizer|modules|sentence_bert_config|config_sentence_transformers)\.json"
    r"|[^/]*Pooling/config\.json"
)
_NEEDED = ("config.json", "tokenizer.json")
_SAFETENSORS = ("model.safetensors",)
_ONNX = (("model.onnx", "model.onnx_data"), ("onnx/model.onnx", "onnx/model.onnx_data"))


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model of the hub: `repo` is `org/name`, `revision` a branch, a tag or a commit."""

    repo: str
    revision: str = "main"

    def __str__(self) -> str:
        return self.repo if self.revision == "main" else f"{self.repo}@{self.revision}"


class Progress(NamedTuple):
    """How far a download is, in bytes of all of its files."""

    file: str
    done_bytes: int
    total_bytes: int


OnProgress = Callable[[Progress], None]
"""Told some times a second; what it raises ends the download."""


def parse(text: str) -> HubModel | None:
    """`org/name` or `org/name@revision`; None for a text of another form."""
    if not _FORM.fullmatch(text):
        return None
    repo, _, revision = text.partition("@")
    return HubModel(repo, revision or "main")


def find(model: HubModel, cache_dir: Path) -> Path | None:
    """The directory of a model that was fetched before and is whole; None where there is none."""
    try:
        record = json.loads(_record(model, cache_dir).read_text(encoding="utf-8"))
        directory = cache_dir / record["directory"]
        sizes: dict[str, int] = record["files"]
        whole = all((directory / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return directory if whole else None


def fetch(
    model: HubModel, cache_dir: Path, on_progress: OnProgress, endpoint: str | None = None
) -> Path:
    """The directory of a model, downloaded into `cache_dir` unless it is there.

    `endpoint` is the hub's URL, None for the usual one (or HF_ENDPOINT's). Raises ModelUnavailable
    where the hub cannot be reached or has no such model, and DataLoss for a file that is not what
    the hub announced.
    """
    found = find(model, cache_dir)
    if found is not None:
        return found
    from huggingface_hub import HfApi

    with _explained(model):
        info = HfApi(endpoint=endpoint).model_info(
            model.repo, revision=model.revision, timeout=ANSWER_S_MAX, files_metadata=True
        )
        return _Download(model, cache_dir, on_progress, endpoint, info).run()


class _Download:
    """One model on its way."""

    def __init__(
        self,
        model: HubModel,
        cache_dir: Path,
        on_progress: OnProgress,
        endpoint: str | None,
        info: ModelInfo,
    ) -> None:
        self._model = model
        self._cache_dir = cache_dir
        self._on_progress = on_progress
        self._endpoint = endpoint
        self._commit = info.sha or model.revision
        self._offered = {one.rfilename: one for one in info.siblings or ()}
        self._done_bytes = 0
        self._total_bytes = 0

    def run(self) -> Path:
        for name in _NEEDED:
            if name not in self._offered:
                raise _unfit(self._model, f"has no {name}")
        small = tuple(filter(_SMALL.fullmatch, self._offered))
        self._total_bytes = self._size(small)
        config = self._take("config.json")
        names = [name for name in (*small, *self._weights(config)) if name in self._offered]
        self._total_bytes = self._size(names)
        for name in names:
            if name != "config.json":
                self._take(name)
        directory = config.parent
        record = _record(self._model, self._cache_dir)
        # Of its own, because another process may fetch the same model.
        fresh = record.with_suffix(f".{os.getpid()}")
        fresh.write_text(
            json.dumps(
                {
                    "directory": str(directory.relative_to(self._cache_dir)),
                    "commit": self._commit,
                    "files": {name: (directory / name).stat().st_size for name in names},
                }
            ),
            encoding="utf-8",
        )
        fresh.replace(record)
        return directory

    def _size(self, names: Iterable[str]) -> int:
        return sum(self._offered[name].size or 0 for name in names)

    def _weights(self, config: Path) -> tuple[str, ...]:
        """The safetensors where we convert them, else the ONNX that the model ships."""
        try:
            family = json.loads(config.read_text(encoding="utf-8")).get("model_type")
        except (ValueError, AttributeError) as error:
            raise _unfit(self._model, f"has a config.json that cannot be read ({error})") from error
        choices = [*([_SAFETENSORS] if family in FAMILIES else []), *_ONNX]
        for names in choices:
            if names[0] in self._offered:
                return names
        wanted = ", ".join(names[0] for names in choices)
        raise _unfit(self._model, f"is of the family {family} and has none of {wanted}")

    def _take(self, name: str) -> Path:
        from huggingface_hub import hf_hub_download

        begin_bytes = self._done_bytes
        path = Path(
            hf_hub_download(
                self._model.repo,
                name,
                revision=self._commit,
                cache_dir=self._cache_dir,
                endpoint=self._endpoint,
                etag_timeout=ANSWER_S_MAX,
                tqdm_class=self._meter(name),
            )
        )
        self._verify(path, self._offered[name])
        self._done_bytes = begin_bytes + (self._offered[name].size or 0)
        self._on_progress(Progress(name, self._done_bytes, self._total_bytes))
        return path

    def _meter(self, name: str) -> type[Any]:
        """A stand-in for a progress bar, as huggingface_hub makes one for each file."""
        from huggingface_hub.utils.tqdm import tqdm

        def advance(count: float) -> None:
            self._done_bytes += int(count)
            self._on_progress(Progress(name, self._done_bytes, self._total_bytes))

        class Meter(tqdm):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                kwargs["disable"] = True
                super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]

            def update(self, n: float | None = 1) -> None:
                advance(n or 0)

        return Meter

    def _verify(self, path: Path, announced: RepoSibling) -> None:
        if announced.lfs is not None:
            found, expected = file_hash(path), announced.lfs.sha256
        else:
            found, expected = _git_hash(path), announced.blob_id or ""
        if found == expected:
            return
        # Left in the cache, it would be taken for good the next time.
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise DataLoss(
            f"{announced.rfilename} of {self._model} has the hash {found}, but the hub announced "
            f"{expected}; it was thrown away. Try again; if it stays so, something between here "
            "and the hub changes files",
            metadata={
                "model": str(self._model),
                "file": announced.rfilename,
                "hash": found,
                "hash_announced": expected,
            },
        )


def _git_hash(path: Path) -> str:
    """SHA-1 of a file as git names it."""
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _record(model: HubModel, cache_dir: Path) -> Path:
    name = f"{model.repo}@{model.revision}".replace("/", "--")
    return cache_dir / f"{name}.whole.json"


def _unfit(model: HubModel, why: str) -> ModelUnavailable:
    return ModelUnavailable(
        f"{model} on the Hugging Face hub {why}; choose another model, or give a directory",
        metadata={"model": str(model), "why": why},
    )


@contextmanager
def _explained(model: HubModel) -> Iterator[None]:
    """Turns what huggingface_hub raises into our errors."""
    from huggingface_hub import errors

    try:
        yield
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        # The hub says the same of a model that is private, and of one behind a license.
        raise ModelUnavailable(
            f"the Hugging Face hub has no model {model}, or shows it only to some: look at its "
            "name and revision; for a private or gated one set HF_TOKEN",
            metadata={"model": str(model)},
        ) from error
    except errors.HFValidationError as error:
        raise InvalidField(
            f"{model} is no id of the Hugging Face hub: {error}",
            field="source",
            metadata={"model": str(model)},
        ) from error
    except (errors.OfflineModeIsEnabled, errors.HfHubHTTPError, OSError) as error:
        raise _unreachable(model, error) from error
    except Exception as error:
        # Its HTTP client's errors have no class in huggingface_hub, and the client has changed.
        if type(error).__module__.partition(".")[0] not in ("httpx", "httpx2", "httpcore"):
            raise
        raise _unreachable(model, error) from error


def _unreachable(model: HubModel, error: Exception) -> ModelUnavailable:
    cause = " ".join(str(error).split())[:300] or type(error).__name__
    return ModelUnavailable(
        f"{model} is not on this machine, and the Hugging Face hub did not give it: {cause}. "
        "Behind a proxy set HTTPS_PROXY, for a mirror HF_ENDPOINT, and look whether "
        "HF_HUB_OFFLINE is set; or copy the model here and give its directory",
        metadata={"model": str(model), "error": cause},
    )
