"""Texts: strings, and files of UTF-8."""

from __future__ import annotations

import codecs
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.errors import MissingExtra, ModelError, Unreadable
from regraft.modality.base import Loaded, Modality, Prepared, Sketch, Stored, read_file, read_stored, source_kind
from regraft.workspace.store import content_id

if TYPE_CHECKING:
    from torch import Tensor

CHARACTERS = 50_000
"""Beyond this a text is cut before it is tokenised: no window is that long, and a tokeniser's memory grows with the text."""

BLOCK = 1 << 20
"""Bytes of a file that are decoded at a time."""

WORDS = 1024
"""Words and pairs of words that the model without a network counts."""

TERMS = 1_000_000
"""Different terms held in memory while counting."""

MATRIX_BYTES = 256 << 20
"""Bound on the matrix of the model without a network: with more texts it counts fewer words."""

_WORD = re.compile(r"\w+")


def load(source: Any) -> Loaded:
    """A string, a path to a file of text, or stored content of one."""
    if isinstance(source, (Path, Stored)):
        content = read_stored(source) if isinstance(source, Stored) else read_file(source)
        return Loaded(content_id(content), lambda: _decode(content))
    if isinstance(source, str):
        return Loaded(content_id(source.encode("utf-8", "surrogatepass")), lambda: _stripped(source))
    raise Unreadable(f"a {source_kind(source)} is not a text")


def _decode(content: bytes) -> str:
    """The text without white space around it, as far as it is read: one character more than CHARACTERS, if it is longer.

    All of it is decoded, block by block: a file that is no text further on is none.
    """
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    decoder = codecs.getincrementaldecoder(encoding)()
    text, more = "", False
    for start in range(0, len(content), BLOCK):
        waiting = len(decoder.getstate()[0])
        try:
            part = decoder.decode(content[start : start + BLOCK], start + BLOCK >= len(content))
        except UnicodeDecodeError as error:
            raise Unreadable(f"not UTF-8 text (byte {start - waiting + error.start})") from None
        if "\0" in part:
            raise Unreadable("holds zero bytes: it is not text in UTF-8")
        if len(text) <= CHARACTERS:
            text = (text + part).lstrip()
            part, text = text[CHARACTERS + 1 :], text[: CHARACTERS + 1]
        more = more or not (part.isspace() or not part)
    return text if more else _stripped(text)


def _stripped(text: str) -> str:
    text = text.strip()
    if not text:
        raise Unreadable("the text is empty")
    return text.encode("utf-8", "replace").decode("utf-8")


def padded_length(tokens: int) -> int:
    """The length at which a text of so many tokens goes through the network: a function of the text alone.

    Rounded up to a multiple of 4 up to 32 tokens, of 8 up to 64, of 16 beyond: little is spent on padding short texts, and
    the number of different lengths stays small.
    """
    step = 4 if tokens <= 32 else 8 if tokens <= 64 else 16
    return math.ceil(tokens / step) * step


def preparer(preprocessing: Mapping[str, Any], files: Mapping[str, Path]) -> Callable[[str], Prepared]:
    """Tokens (length,) int64 and their mask, padded to `padded_length`.

    `preprocessing`: tokenizer (a key of `files`; .json is read by tokenizers, .model by sentencepiece), max_tokens, pad_id; and
    where a network wants them prefix (what is put before every text) and lower (small letters only).
    """
    path = files[preprocessing["tokenizer"]]
    limit, pad = int(preprocessing["max_tokens"]), int(preprocessing["pad_id"])
    encode = _by_sentencepiece(path, limit) if path.suffix == ".model" else _by_tokenizers(path, limit)

    prefix, lower = str(preprocessing.get("prefix", "")), bool(preprocessing.get("lower"))

    def prepare(text: str) -> Prepared:
        read = prefix + text[:CHARACTERS]
        tokens, cut = encode(read.lower() if lower else read)
        length = padded_length(len(tokens))
        ids = np.full(length, pad, np.int64)
        ids[: len(tokens)] = tokens
        mask = np.zeros(length, np.int64)
        mask[: len(tokens)] = 1
        cut = cut or len(text) > CHARACTERS
        return Prepared(
            [{"input_ids": ids, "attention_mask": mask}], note=f"longer than {limit} tokens: the rest is not read" if cut else ""
        )

    return prepare


def _by_tokenizers(path: Path, limit: int) -> Callable[[str], tuple[list[int], bool]]:
    """A function from a text to at most `limit` tokens, with those that the file puts around them, and whether it was cut."""
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise MissingExtra("reading texts needs the package tokenizers", move="pip install 'regraft[text]'") from None

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception for whatever it cannot read
        raise ModelError(f"{path.name} is not a tokenizer that can be read ({error})", move="pip install --upgrade tokenizers") from None
    tokenizer.no_padding()
    tokenizer.enable_truncation(limit)

    def encode(text: str) -> tuple[list[int], bool]:
        encoded = tokenizer.encode(text)
        return encoded.ids, bool(encoded.overflowing)

    return encode


def _by_sentencepiece(path: Path, limit: int) -> Callable[[str], tuple[list[int], bool]]:
    """The same for a sentencepiece model; the begin and the end that it knows stand around the text, and count."""
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError:
        raise MissingExtra("reading these texts needs the package sentencepiece", move="pip install 'regraft[multilingual]'") from None

    try:
        pieces = SentencePieceProcessor(model_file=str(path))
    except (RuntimeError, OSError) as error:
        raise ModelError(
            f"{path.name} is not a sentencepiece model that can be read ({error})", move="pip install --upgrade sentencepiece"
        ) from None
    begin, end = ([token] if token >= 0 else [] for token in (pieces.bos_id(), pieces.eos_id()))
    room = limit - len(begin) - len(end)

    def encode(text: str) -> tuple[list[int], bool]:
        tokens = pieces.encode(text)
        return [*begin, *tokens[:room], *end], len(tokens) > room

    return encode


def collate(windows: Sequence[Mapping[str, np.ndarray]], preprocessing: Mapping[str, Any]) -> dict[str, Tensor]:
    """input_ids and attention_mask, each (n, length) int64."""
    import torch

    return {k: torch.from_numpy(np.stack([w[k] for w in windows])) for k in ("input_ids", "attention_mask")}


def pad(windows: Sequence[Mapping[str, np.ndarray]], preprocessing: Mapping[str, Any]) -> list[Mapping[str, np.ndarray]]:
    """The windows at the length of the longest: padding tokens behind, which the mask leaves out."""
    longest = max(len(w["input_ids"]) for w in windows)
    filling = {"input_ids": int(preprocessing["pad_id"]), "attention_mask": 0}
    return [{k: np.pad(w[k], (0, longest - len(w[k])), constant_values=v) for k, v in filling.items()} for w in windows]


def in_words(preprocessing: Mapping[str, Any], files: Mapping[str, str]) -> list[str]:
    """What `load`, `preparer` and `collate` do."""
    file, limit = files[preprocessing["tokenizer"]], int(preprocessing["max_tokens"])
    library = "sentencepiece" if file.endswith(".model") else "tokenizers"
    around = "with the begin and the end that it knows" if library == "sentencepiece" else "with those that it puts around them"
    steps = [f"take white space away at both ends; what follows after {CHARACTERS:,} characters is not read"]
    if preprocessing.get("prefix"):
        steps.append(f"put {preprocessing['prefix']!r} before it")
    if preprocessing.get("lower"):
        steps.append("make all letters small")
    return [
        *steps,
        f"tokenise with {file} (library {library}): at most {limit} tokens, {around}",
        f"input_ids are the tokens and after them {preprocessing['pad_id']} up to the length of the batch; attention_mask is 1 for tokens "
        "and 0 after them; both (batch, length) int64",
        "regraft itself rounds the length up to a multiple of 4 up to 32 tokens, of 8 up to 64, of 16 beyond, and batches equal lengths",
    ]


def made_up() -> list[str]:
    """Texts of 1 to 400 words."""
    words = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "seven", "bright", "stars", "fall", "near", "me"]
    return [" ".join(words[(i + k) % len(words)] for k in range(count)) for i, count in enumerate((1, 3, 6, 10, 15, 24, 45, 80, 130, 400))]


def summary(text: str) -> str:
    """The text itself: words are counted over all texts."""
    return text[:CHARACTERS]


def _terms(text: str) -> Iterator[str]:
    words = _WORD.findall(text.lower())
    yield from words
    for a, b in zip(words, words[1:], strict=False):
        yield f"{a} {b}"


def learn_vectoriser(texts: Sequence[str]) -> dict[str, Any]:
    """The words and pairs of words that most texts hold, and how rare each is.

    Rarity is log((1 + n) / (1 + texts with it)) + 1 (Salton & Buckley 1988; scikit-learn's smoothed form).
    """
    texts_with: Counter[str] = Counter()
    for text in texts:
        texts_with.update(set(_terms(text)))
        if len(texts_with) > TERMS:
            # the rarest go: with so many different terms they would not be among the kept ones
            texts_with = Counter(dict(texts_with.most_common(TERMS // 2)))
    room = max(64, MATRIX_BYTES // (4 * max(1, len(texts))))
    kept = sorted(texts_with.items(), key=lambda item: (-item[1], item[0]))[: min(WORDS, room)]
    return {"terms": [term for term, _ in kept], "rarity": [round(math.log((1 + len(texts)) / (1 + n)) + 1, 6) for _, n in kept]}


def vectorise(learnt: Mapping[str, Any], texts: Sequence[str]) -> np.ndarray:
    """TF-IDF: (1 + log(count)) times the rarity of each known term; rows of length one."""
    column = {term: i for i, term in enumerate(learnt["terms"])}
    rarity = learnt["rarity"]
    out = np.zeros((len(texts), max(1, len(column))), np.float32)
    for row, text in zip(out, texts, strict=True):
        for term, count in Counter(_terms(text)).items():
            if (at := column.get(term)) is not None:
                row[at] = (1 + math.log(count)) * rarity[at]
        row /= np.linalg.norm(row) or 1.0
    return out


LETTERS = 4
"""Letters of a word that may hold a slip of the pen; in shorter ones another letter is another word."""

ENOUGH_WORDS = 6
"""Words from which one more or less leaves a text nearly the same."""


def likeness(text: str, other: str) -> float:
    """1 for the same words in the same order, whatever their case, accents and punctuation; 0.9 where one word has one letter otherwise, or
    where one of at least six words is more or less; else 0.
    """
    one, two = _plain_words(text), _plain_words(other)
    if not (one and two):
        return float(text.split() == other.split())
    if one == two or "".join(one) == "".join(two):
        return 1.0
    same = min(len(one), len(two))
    start = next((i for i in range(same) if one[i] != two[i]), same)
    end = next((i for i in range(same - start) if one[-1 - i] != two[-1 - i]), same - start)
    left, right = one[start : len(one) - end], two[start : len(two) - end]
    if len(left) == len(right) == 1:
        return 0.9 if _slip(left[0], right[0]) else 0.0
    return 0.9 if len(left) + len(right) == 1 and same >= ENOUGH_WORDS else 0.0


def _plain_words(text: str) -> list[str]:
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return _WORD.findall("".join(c for c in decomposed if not unicodedata.combining(c)))


def _slip(word: str, other: str) -> bool:
    """Whether one letter is missing, too many, wrong, or has changed places with its neighbour; in numbers none may be."""
    if min(len(word), len(other)) < LETTERS or any(c.isdigit() for c in word + other):
        return False
    at = next((i for i, (a, b) in enumerate(zip(word, other, strict=False)) if a != b), min(len(word), len(other)))
    a, b = word[at:], other[at:]
    return a[1:] == b or a == b[1:] or a[1:] == b[1:] or (a[1::-1] == b[:2] and a[2:] == b[2:])


SKETCHED = 300
"""Characters of a sketch."""


def sketch(text: str) -> Sketch:
    """How the text begins."""
    return Sketch("text", text if len(text) <= SKETCHED else f"{text[: SKETCHED - 4]} ...")


MODALITY = Modality(
    name="text",
    noun="text",
    nouns="texts",
    extensions=frozenset({".txt", ".text", ".md"}),
    without_network="word counts, TF-IDF",
    chunk=64,
    settings=("tokenizer", "max_tokens", "pad_id"),
    load=load,
    preparer=preparer,
    collate=collate,
    blank=lambda preprocessing: {"input_ids": np.ones(16, np.int64), "attention_mask": np.ones(16, np.int64)},
    made_up=made_up,
    in_words=in_words,
    measure=lambda text: {"characters": len(text), "words": len(text.split())},
    summary=summary,
    summary_version="",
    learn_vectoriser=learn_vectoriser,
    vectorise=vectorise,
    likeness=likeness,
    sketch=sketch,
    pad=pad,
)
