"""Texts: identity, decoding, tokens and padding, word counts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regraft.errors import MissingExtra, ModelError, Unreadable
from regraft.modality import text

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "one", "two", "three")


@pytest.fixture
def prepare(tmp_path: Path) -> Any:
    """A preparer with a tokenizer of nine words and at most 20 tokens."""
    model = {"type": "WordLevel", "vocab": {word: i for i, word in enumerate(WORDS)}, "unk_token": "[UNK]"}
    template = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {w: {"id": w, "ids": [i], "tokens": [w]} for i, w in enumerate(WORDS) if w in ("[CLS]", "[SEP]")},
    }
    tokenizer = {"version": "1.0", "pre_tokenizer": {"type": "Whitespace"}, "post_processor": template, "model": model}
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(tokenizer), encoding="utf-8")
    return text.preparer({"tokenizer": "tokenizer.json", "max_tokens": 20, "pad_id": 0}, {"tokenizer.json": path})


def test_a_text_and_a_file_of_it_are_the_same(tmp_path: Path):
    (tmp_path / "t.txt").write_text("good one", encoding="utf-8")
    assert text.load("good one").identity == text.load(tmp_path / "t.txt").identity != text.load("good two").identity


@pytest.mark.parametrize(
    "content",
    ["größe".encode(), b"\xef\xbb\xbf" + "größe".encode(), "größe".encode("utf-16"), "  größe\r\n".encode()],
    ids=["utf-8", "bom", "utf-16", "spaces"],
)
def test_the_usual_encodings(tmp_path: Path, content: bytes):
    (tmp_path / "t.txt").write_bytes(content)
    assert text.load(tmp_path / "t.txt").decode() == "größe"


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "empty"), (b"  \n\t ", "empty"), (b"caf\xe9", "UTF-8"), (b"\xff\xfe\x00", "UTF-8")],
    ids=["zero-bytes", "blank", "latin-1", "half-utf-16"],
)
def test_damaged_files_say_why(tmp_path: Path, content: bytes, words: str):
    (tmp_path / "t.txt").write_bytes(content)
    with pytest.raises(Unreadable, match=words):
        text.load(tmp_path / "t.txt").decode()


@pytest.mark.parametrize("source", [None, 3, float("nan"), b"bytes", ["a"]])
def test_objects_that_are_no_texts(source: Any):
    with pytest.raises(Unreadable, match="not a text"):
        text.load(source)


@pytest.mark.parametrize("source", ["", "   ", "\n"])
def test_an_empty_string_is_unreadable(source: str):
    with pytest.raises(Unreadable, match="empty"):
        text.load(source).decode()


def test_half_a_character_becomes_a_question_mark():
    assert text.load("a\ud800b").decode() == "a?b"


def test_tokens_are_padded_to_a_length_of_their_own(prepare: Any):
    prepared = prepare("good bad one")
    (window,) = prepared.windows
    assert window["input_ids"].tolist() == [2, 4, 5, 6, 3, 0, 0, 0]
    assert window["attention_mask"].tolist() == [1, 1, 1, 1, 1, 0, 0, 0]
    assert prepared.note == ""


def test_a_text_that_is_too_long_is_cut_and_this_is_noted(prepare: Any):
    prepared = prepare("good " * 50)
    (window,) = prepared.windows
    assert len(window["input_ids"]) == 20
    assert window["attention_mask"].sum() == 20
    assert "20 tokens" in prepared.note


def test_a_huge_text_gives_the_same_as_its_beginning(prepare: Any):
    np.testing.assert_array_equal(
        prepare("good bad " * 100).windows[0]["input_ids"], prepare("good bad " * 1_000_000).windows[0]["input_ids"]
    )


def test_the_padded_length_holds_the_tokens_and_wastes_little():
    for tokens in range(1, 300):
        length = text.padded_length(tokens)
        assert tokens <= length < tokens + 16
        assert length % 4 == 0


def test_collate_stacks(prepare: Any):
    batch = text.collate([prepare("good one").windows[0], prepare("bad two").windows[0]], {})
    assert set(batch) == {"input_ids", "attention_mask"}
    assert tuple(batch["input_ids"].shape) == (2, 4)
    assert str(batch["input_ids"].dtype) == "torch.int64"


def test_word_counts_weigh_rare_words_more_and_have_length_one():
    texts = ["good one", "good two", "good three", "bad one"]
    learnt = text.learn_vectoriser(texts)
    assert json.loads(json.dumps(learnt)) == learnt, "it goes into a run's folder as JSON"
    rows = text.vectorise(learnt, texts)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
    terms = learnt["terms"]
    assert rows[1, terms.index("two")] > rows[1, terms.index("good")]
    assert learnt["rarity"][terms.index("good")] == pytest.approx(np.log(5 / 4) + 1, abs=1e-5)


def test_words_that_were_never_seen_give_a_row_of_zeros():
    rows = text.vectorise(text.learn_vectoriser(["good one"]), ["unknown words", "!!!"])
    assert rows.shape[0] == 2
    assert (rows == 0).all()


def test_texts_without_any_word():
    learnt = text.learn_vectoriser(["!!!", "..."])
    assert np.isfinite(text.vectorise(learnt, ["!!!"])).all()


def test_the_number_of_words_is_bounded():
    texts = [" ".join(f"w{i}x{j}" for j in range(50)) for i in range(100)]
    assert len(text.learn_vectoriser(texts)["terms"]) <= text.WORDS


# ---------------------------------------------------------------- sentencepiece


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentencepiece model of thirty pieces, with begin and end."""
    sentencepiece = pytest.importorskip("sentencepiece")
    path = tmp_path_factory.mktemp("pieces") / "s.model"
    with open(path, "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["good one two three", "bad one two", "good bad good"] * 20),
            model_writer=file,
            vocab_size=30,
            hard_vocab_limit=False,
            minloglevel=2,
        )
    return path


def by_pieces(path: Path, limit: int = 20) -> Any:
    return text.preparer({"tokenizer": "s.model", "max_tokens": limit, "pad_id": 0}, {"s.model": path})


def test_the_ending_of_the_file_chooses_the_tokenizer(pieces: Path):
    (window,) = by_pieces(pieces)("good bad").windows
    tokens = window["input_ids"][: window["attention_mask"].sum()]
    assert (tokens[0], tokens[-1]) == (1, 2), "begin and end"
    assert len(window["input_ids"]) == text.padded_length(len(tokens))
    assert (window["input_ids"][len(tokens) :] == 0).all()


def test_a_text_that_is_too_long_for_sentencepiece_is_cut_and_this_is_noted(pieces: Path):
    whole, cut = by_pieces(pieces, 200)("good two " * 9), by_pieces(pieces, 16)("good two " * 9)
    assert whole.note == "" and "16 tokens" in cut.note
    ids = cut.windows[0]["input_ids"]
    assert len(ids) == 16 == cut.windows[0]["attention_mask"].sum()
    np.testing.assert_array_equal(ids[:15], whole.windows[0]["input_ids"][:15])
    assert ids[15] == 2, "the end stands after what was read"
    exact = by_pieces(pieces, int(whole.windows[0]["attention_mask"].sum()))("good two " * 9)
    assert exact.note == ""


def test_a_damaged_sentencepiece_model_is_named(tmp_path: Path, pieces: Path):
    for content in (b"", b"not a model", pieces.read_bytes()[:100]):
        (tmp_path / "s.model").write_bytes(content)
        with pytest.raises(ModelError, match=r"s\.model"):
            by_pieces(tmp_path / "s.model")


def test_without_sentencepiece_the_install_line_is_said(pieces: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(MissingExtra) as raised:
        by_pieces(pieces)
    assert "regraft[multilingual]" in raised.value.move
