"""Files of repositories on the Hugging Face hub: resolved to a commit, fetched so that they can be resumed, checked, kept.

Everything lies below `hub/` in regraft's home, one folder for each commit; what other programs keep in the hub's own cache is used
too, after it was checked. Nothing here imports or runs what is fetched. `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE`, `HF_HOME` mean what
they mean to huggingface_hub, which makes the requests.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote, urlsplit

from regraft.errors import MissingExtra, ModelError, RegraftError, nearest
from regraft.pretrained.base import Access
from regraft.workspace.files import JSON_LIMIT, read_json, sha256_file, write_json
from regraft.workspace.store import home

WAITS = (0.5, 2.0, 5.0)
"""Seconds between the tries of a request that the hub could not answer; after the last one it is given up."""

PATIENCE = 30.0
"""Seconds that a hub may ask us to wait; when it asks for more, that is said in place of waiting."""

ANSWER_SECONDS = 10.0
"""How long the hub may take to begin an answer."""

SLOWEST = 2_000
"""Bytes a second, averaged over a download's first minute and everything after: below that it is given up, and resumed next time."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_T = TypeVar("_T")


@dataclass(frozen=True)
class HubFile:
    """A file of a repository: its bytes, and its SHA-256 where the hub states it (large files), else empty."""

    size: int | None
    sha256: str


@dataclass(frozen=True)
class Repository:
    """A repository at one commit."""

    name: str
    revision: str
    files: Mapping[str, HubFile]
    card: Mapping[str, Any]
    """What its card states: license, datasets, language, ..."""
    offline: bool

    @property
    def folder(self) -> Path:
        """Where its files are kept."""
        return _root(self.name) / self.revision

    @property
    def licence(self) -> str:
        """As the card states it."""
        value = self.card.get("license_name") or self.card.get("license")
        return _printable(value) if isinstance(value, str) and value else "not stated in its repository"

    @property
    def trained_on(self) -> str:
        """The data sets that the card names."""
        found = self.card.get("datasets")
        names = [found] if isinstance(found, str) else [n for n in found if isinstance(n, str)] if isinstance(found, list) else []
        return _printable(", ".join(names[:6])) or "not stated in its repository"

    def fetch(self, name: str, limit: int | None = None) -> Path:
        """The checked file called `name`, fetched when it is not here. ModelError when it cannot be had or has more than `limit` bytes."""
        if name not in self.files:
            raise ModelError(
                f"the repository {self.name} holds no {name} at {self.revision[:12]}. {nearest(name, list(self.files))}".rstrip()
            )
        stated = self.files[name].size
        if limit is not None and stated is not None and stated > limit:
            raise ModelError(f"{name} of {self.name} has {stated:,} bytes, more than the {limit:,} that such a file may have")
        kept = self.folder / name
        if kept.is_file():
            return kept
        if (shared := _in_shared_cache(self.name, name, self.revision)) is not None and self._is_right(name, shared):
            return shared
        if self.offline:
            raise ModelError(
                f"{name} of {self.name} at {self.revision[:12]} is not here, and nothing may be fetched (--offline, HF_HUB_OFFLINE)",
                move="the same command once without --offline",
            )
        with _quiet():
            _download(self, name, kept, limit)
        return kept

    def json(self, name: str) -> Any:
        """A JSON file of the repository, parsed; None when it has none of that name."""
        if name not in self.files:
            return None
        path = self.fetch(name, JSON_LIMIT)
        try:
            return read_json(path)
        except ValueError as error:
            raise ModelError(f"{name} of {self.name} is not JSON that can be read: {error}") from None

    def sha256(self, name: str) -> str:
        """The SHA-256 of a file: what the hub states, else of what was fetched."""
        return self.files[name].sha256 if name in self.files and self.files[name].sha256 else sha256_file(self.fetch(name))

    def check(self, name: str) -> Path:
        """The file, its SHA-256 compared once more with what the hub states; for weights, before they are read."""
        path = self.fetch(name)
        if not self._is_right(name, path):
            if path == self.folder / name:
                path.unlink(missing_ok=True)
            raise ModelError(
                f"{name} of {self.name} is not what the hub has: its SHA-256 differs; it was changed on this machine, and is removed",
                expected=self.files[name].sha256[:12],
                move="the same command again, which fetches it anew",
            )
        return path

    def _is_right(self, name: str, path: Path) -> bool:
        stated = self.files[name]
        if stated.size is not None and path.stat().st_size != stated.size:
            return False
        return not stated.sha256 or sha256_file(path) == stated.sha256


def _printable(text: str) -> str:
    """What a stranger wrote, without what would steer a terminal, and not longer than a line."""
    return "".join(c if c.isprintable() else " " for c in text)[:120]


def is_offline(may: Access) -> bool:
    """Whether nothing may go over the network."""
    return may.offline or any(
        os.environ.get(k, "").upper() in ("1", "ON", "YES", "TRUE") for k in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    )


_opened: dict[tuple[str, str], Repository] = {}


def reopen(name: str, commit: str) -> Repository:
    """A repository that this process opened before, with the leave that it had then; else anew, freely."""
    return _opened.get((name, commit)) or open_repository(name, commit, Access())


def open_repository(name: str, revision: str, may: Access) -> Repository:
    """A repository at the commit that `revision` (a branch, tag or commit; main when empty) means now.

    What it means is asked of the hub, unless it is a commit that was seen before, or `may.offline`. ModelError when the hub does not
    answer as it should.
    """
    found = _open(name, revision or "main", is_offline(may))
    _opened[name, found.revision] = found
    return found


def _open(name: str, revision: str, offline: bool) -> Repository:
    if not _REPOSITORY.fullmatch(name) or ".." in name or len(revision) > 200:
        raise ModelError(f"{name!r} is not the name of a repository", expected="OWNER/NAME, or OWNER/NAME@REVISION")
    ref = _root(name) / "refs" / f"{quote(revision, safe='')}.json"
    if (offline or _COMMIT.fullmatch(revision)) and ref.is_file():
        with contextlib.suppress(ValueError, OSError, KeyError, TypeError, AttributeError):
            return _repository(name, read_json(ref), offline)
    if offline:
        if (found := _shared_snapshot(name, revision)) is not None:
            return found
        raise ModelError(
            f"the repository {name} at {revision} is not on this machine, and nothing may be fetched (--offline, HF_HUB_OFFLINE)",
            move="the same command once without --offline",
        )
    with _quiet():
        api = _library().HfApi(endpoint=_endpoint(), library_name="regraft")
        info = _asking(
            name, revision, lambda: api.model_info(name, revision=revision, files_metadata=True, timeout=ANSWER_SECONDS), has=ref.is_file()
        )
    commit = str(info.sha or "")
    if not _COMMIT.fullmatch(commit):
        raise ModelError(f"the hub names no commit for {name} at {revision}", move="look whether HF_ENDPOINT names a hub")
    card = info.card_data.to_dict() if info.card_data else {}
    kept = {k: card[k] for k in ("license", "license_name", "datasets", "language") if isinstance(card.get(k), (str, list))}
    files = {}
    for item in info.siblings or []:
        lfs = item.lfs
        sha256 = (lfs.get("sha256") if isinstance(lfs, Mapping) else getattr(lfs, "sha256", None)) if lfs else None
        files[str(item.rfilename)] = [item.size if isinstance(item.size, int) else None, sha256 if isinstance(sha256, str) else ""]
    held = {"commit": commit, "files": files, "card": kept}
    found = _repository(name, held, offline)
    write_json(ref, held)
    write_json(_root(name) / "refs" / f"{commit}.json", held)
    return found


def _repository(name: str, held: Mapping[str, Any], offline: bool) -> Repository:
    files = {}
    for path, (size, sha256) in held["files"].items():
        parts = PurePosixPath(path).parts
        if path.startswith("/") or "\\" in path or ":" in path or not parts or any(p in ("..", ".") for p in path.split("/")):
            raise ModelError(f"the repository {name} lists a file {path!r}, which would leave its folder")
        files[path] = HubFile(size, sha256)
    if not _COMMIT.fullmatch(held["commit"]):
        raise ValueError("not a commit")
    return Repository(name, held["commit"], files, held["card"], offline)


def _root(name: str) -> Path:
    return home() / "hub" / name.replace("/", "--")


def fetched() -> list[tuple[str, str]]:
    """(name, commit) of the repositories that something was fetched of before, by name; of each the commit that was seen last."""
    found: dict[str, tuple[float, str]] = {}
    for ref in (home() / "hub").glob("*--*/refs/*.json"):
        if _COMMIT.fullmatch(ref.stem) and (ref.parent.parent / ref.stem).is_dir():
            name, seen = ref.parent.parent.name.replace("--", "/", 1), (ref.stat().st_mtime, ref.stem)
            found[name] = max(found.get(name, seen), seen)
    return [(name, commit) for name, (_, commit) in sorted(found.items())]


def _endpoint() -> str:
    # read here, not once at import: a program may change it
    return (os.environ.get("HF_ENDPOINT") or "").rstrip("/") or _library().constants.ENDPOINT


def _library() -> Any:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
        import huggingface_hub.file_download
    except ImportError:
        raise MissingExtra("networks of a hub need the package huggingface_hub", move="pip install 'regraft[hub]'") from None
    return huggingface_hub


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No bars and warnings of the library meanwhile: only the command line prints."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    logger = logging.getLogger("huggingface_hub")
    level, disabled = logger.level, are_progress_bars_disabled()
    logger.setLevel(logging.ERROR)
    disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(level)
        if not disabled:
            enable_progress_bars()


# ---------------------------------------------------------------- asking


def _asking(name: str, revision: str, ask: Callable[[], _T], *, has: bool = False) -> _T:
    """What `ask` gives; tried again while the hub cannot answer, at most `len(WAITS)` times. Errors as ModelError."""
    for wait in (*WAITS, None):
        try:
            return ask()
        except RegraftError:
            raise
        except Exception as error:
            passing, told = _translated(error, name, revision)
            pause = _wanted_pause(error) if passing else 0.0
            if not passing or wait is None or pause > PATIENCE:
                if has and passing:
                    told = ModelError(told.found, move=f"{told.move}; or --offline, which takes what was fetched before")
                raise told from None
            time.sleep(max(wait, pause))
    raise AssertionError


def _status(error: BaseException) -> int:
    status = getattr(getattr(error, "response", None), "status_code", 0)
    return status if isinstance(status, int) else 0


def _wanted_pause(error: BaseException) -> float:
    """What the hub asks for in its Retry-After."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    try:
        return max(0.0, float(headers.get("Retry-After") or 0))
    except ValueError:
        return 0.0


def _translated(error: Exception, name: str, revision: str) -> tuple[bool, ModelError]:
    """Whether another try may help, and what to say."""
    known = _library().errors
    hub, status = urlsplit(_endpoint()).netloc, _status(error)
    if isinstance(error, known.GatedRepoError) or status == 403:
        return False, ModelError(
            f"the hub does not let you have {name}: its owners give access to those who ask for it ({status or 403})",
            move=f"accept its terms at {_endpoint()}/{name}, then `hf auth login` (or set HF_TOKEN)",
        )
    if isinstance(error, known.RevisionNotFoundError):
        return False, ModelError(
            f"the repository {name} has no revision {revision!r}", move=f"{name} alone, or one of {_endpoint()}/{name}/commits"
        )
    if isinstance(error, known.EntryNotFoundError):
        return False, ModelError(
            f"the repository {name} has no such file at {revision[:12]}", move="the same command again, without a revision"
        )
    if status == 401:
        # what the hub answers to strangers for a name that does not exist, too
        return False, ModelError(
            f"the hub knows no repository {name}, or it is private (401)", move="look at the spelling; for a private one `hf auth login`"
        )
    if isinstance(error, known.RepositoryNotFoundError) or status == 404:
        return False, ModelError(f"the hub has no repository {name} (404)", move="look at the spelling, OWNER/NAME, and at its capitals")
    if status == 429:
        pause = _wanted_pause(error)
        asks = f", and asks to wait {pause:,.0f} s" if pause else ""
        return True, ModelError(
            f"the hub ({hub}) has had too many requests from here (429){asks}", move="the same command later, or `hf auth login`"
        )
    if status >= 500 or status == 408:
        return True, ModelError(f"the hub ({hub}) could not answer ({status}), in {len(WAITS) + 1} tries", move="the same command later")
    if status:
        return False, ModelError(f"the hub ({hub}) refused the request for {name} ({status})", move="look at HF_ENDPOINT and HF_TOKEN")
    if isinstance(error, OSError) and "onsistency check" in str(error):
        return True, ModelError(
            f"the hub ({hub}) sent a part of a file of {name} only", move="the same command again, which goes on where it stopped"
        )
    kind = type(error).__name__
    if isinstance(error, (OSError, TimeoutError)) or type(error).__module__.split(".")[0] in (
        "httpx",
        "httpx2",
        "httpcore",
        "requests",
        "urllib3",
    ):
        slow = "imeout" in kind or isinstance(error, TimeoutError)
        what = "took too long to answer" if slow else "cannot be reached, or broke off"
        return True, ModelError(
            f"the hub ({hub}) {what} ({kind})", move="the same command later; look at the connection, a proxy, HF_ENDPOINT"
        )
    return False, ModelError(
        f"the hub ({hub}) gave an answer for {name} that cannot be read ({kind}: {error})"[:300], move="look at HF_ENDPOINT"
    )


# ---------------------------------------------------------------- fetching


class _Bounded:
    """A file that is written to, which ends a download that sends more than was announced, or hardly anything."""

    def __init__(self, file: BinaryIO, limit: int, what: str) -> None:
        self.file, self.limit, self.what = file, limit, what
        self.written, self.start = 0, time.monotonic()

    def write(self, block: bytes) -> int:
        self.written += len(block)
        # twice: a hub that cannot go on where it stopped may send the beginning again
        if self.file.tell() + len(block) > self.limit or self.written > 2 * self.limit:
            raise ModelError(
                f"the hub sends more than the {self.limit:,} bytes that {self.what} was announced with", move="the same command later"
            )
        seconds = time.monotonic() - self.start
        if seconds > 60 and self.written < SLOWEST * seconds:
            raise TimeoutError(f"{self.written / seconds:,.0f} bytes a second")
        return self.file.write(block)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def _download(repository: Repository, name: str, kept: Path, limit: int | None) -> None:
    """Fetch a file to `kept`: a part that was fetched before is kept and gone on with; checked, then renamed."""
    library = _library()
    url = library.hf_hub_url(repository.name, name, revision=repository.revision, endpoint=_endpoint())
    facts = _asking(
        repository.name, repository.revision, lambda: library.get_hf_file_metadata(url, timeout=ANSWER_SECONDS, endpoint=_endpoint())
    )
    if facts.commit_hash and facts.commit_hash != repository.revision:
        raise ModelError(f"the hub gives {name} of another commit than was asked for", expected=repository.revision[:12])
    stated = repository.files[name]
    size = stated.size if stated.size is not None else facts.size
    if size is None or (facts.size is not None and facts.size != size):
        raise ModelError(
            f"the hub states no size, or two, for {name} of {repository.name}", expected=f"{size} bytes", move="the same command later"
        )
    if limit is not None and size > limit:
        raise ModelError(f"{name} of {repository.name} has {size:,} bytes, more than the {limit:,} that such a file may have")
    tag = str(facts.etag or "")
    if stated.sha256 and re.fullmatch(r"[0-9a-f]{64}", tag) and tag != stated.sha256:
        raise ModelError(f"the hub states two hashes for {name} of {repository.name}", move="the same command later")
    expected = stated.sha256 or (tag if re.fullmatch(r"[0-9a-f]{64}|[0-9a-f]{40}", tag) else "")
    headers = _request_headers(url, facts.location)
    kept.parent.mkdir(parents=True, exist_ok=True)
    part = kept.with_name(f".{kept.name}.{hashlib.sha256(f'{tag} {size}'.encode()).hexdigest()[:12]}.part")
    with _alone(part):
        if kept.is_file():
            return
        for again in (False, True):
            resumed = part.is_file() and 0 < part.stat().st_size <= size
            if part.is_file() and not resumed:
                part.unlink()

            def get() -> None:
                with open(part, "ab") as file:
                    bounded: Any = _Bounded(file, size, f"{name} of {repository.name}")
                    library.file_download.http_get(
                        facts.location, bounded, resume_size=file.tell(), headers=headers, expected_size=size, displayed_filename=name
                    )

            try:
                _asking(repository.name, repository.revision, get)
            except ModelError as error:
                if "more than the" in error.found:
                    part.unlink(missing_ok=True)
                raise
            if not expected or _hash_like(expected, part) == expected:
                os.replace(part, kept)
                return
            part.unlink()
            if again or not resumed:
                break
        raise ModelError(
            f"{name} of {repository.name} came with other bytes than the hub states: its hash differs; nothing of it is kept",
            expected=expected[:12],
            move="the same command again; if it stays so, something between here and the hub changes files",
        )


def _request_headers(url: str, location: str) -> dict[str, str]:
    """Those of the library, without the token when the file lies on another host than the hub."""
    from huggingface_hub.utils import build_hf_headers

    hub, there = urlsplit(url), urlsplit(location)
    if there.scheme not in ("https", hub.scheme):
        raise ModelError(f"the hub sends us from {hub.scheme} to {there.scheme}, which is not done")
    headers = {k: v for k, v in build_hf_headers(library_name="regraft").items() if v}
    if there.netloc != hub.netloc:
        headers = {k: v for k, v in headers.items() if k.lower() != "authorization"}
    return {**headers, "Accept-Encoding": "identity"}


def _hash_like(expected: str, path: Path) -> str:
    """SHA-256 for sixty-four characters; for forty what git names a file by: SHA-1 of `blob SIZE`, a zero and the content."""
    if len(expected) == 64:
        return sha256_file(path)
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def _alone(part: Path) -> Iterator[None]:
    """One process at a time writes to a part; others wait. Where there are no such locks, the hash still tells a mixture."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with open(part.with_name(part.name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# ---------------------------------------------------------------- the cache that others share


def _in_shared_cache(name: str, file: str, commit: str) -> Path | None:
    found = _library().try_to_load_from_cache(name, file, revision=commit)
    return Path(found) if isinstance(found, str) and Path(found).is_file() else None


def _shared_snapshot(name: str, revision: str) -> Repository | None:
    """The repository as far as other programs fetched it; the hub's statements are not there, so nothing is compared with them."""
    for file in ("config.json", "model.safetensors", "modules.json"):
        if (path := _library().try_to_load_from_cache(name, file, revision=revision)) and isinstance(path, str):
            folder = Path(path).parent
            if not _COMMIT.fullmatch(folder.name):
                return None
            files = {
                p.relative_to(folder).as_posix(): [p.stat().st_size, _blob_sha256(p)] for p in sorted(folder.rglob("*")) if p.is_file()
            }
            return _repository(name, {"commit": folder.name, "files": files, "card": {}}, True)
    return None


def _blob_sha256(path: Path) -> str:
    """The name of a blob in the cache is its SHA-256 when it is a large file."""
    blob = path.resolve().name
    return blob if re.fullmatch(r"[0-9a-f]{64}", blob) else ""
