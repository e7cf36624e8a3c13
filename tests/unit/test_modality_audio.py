"""Sounds: identity, decoding to 16 kHz mono, windows, log-mel."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regraft.errors import ModelError, Unreadable
from regraft.modality import audio

pytest.importorskip("soundfile")
pytest.importorskip("soxr")

PREPROCESSING = {"window_seconds": 10}
RATE = 16_000


def peak(samples: np.ndarray) -> float:
    """The loudest pitch."""
    return float(np.argmax(np.abs(np.fft.rfft(samples))) * RATE / len(samples))


def test_identity_follows_the_bytes_and_not_the_name(tmp_path: Path, make_wav: Any, make_tone: Any):
    a = make_wav(tmp_path / "a.wav", make_tone(440))
    b = tmp_path / "b.wav"
    b.write_bytes(a.read_bytes())
    c = make_wav(tmp_path / "c.wav", make_tone(450))
    assert audio.load(a).identity == audio.load(b).identity != audio.load(c).identity


def test_identity_of_samples_knows_rate_and_shape(make_tone: Any):
    samples = make_tone(440)
    known = {audio.load((samples, 16_000)).identity, audio.load((samples, 8_000)).identity, audio.load((samples[:-1], 16_000)).identity}
    assert len(known) == 3


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
def test_any_rate_becomes_sixteen_thousand(tmp_path: Path, make_wav: Any, make_tone: Any, rate: int):
    path = make_wav(tmp_path / "t.wav", make_tone(1000, seconds=1.0, rate=rate), rate)
    samples = audio.load(path).decode()
    assert samples.dtype == np.float32
    assert abs(len(samples) - RATE) <= 2
    assert peak(samples) == pytest.approx(1000, abs=5)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
def test_samples_of_any_type_get_the_same_scale(make_tone: Any, dtype: Any):
    tone = make_tone(440).astype(np.float64)
    whole = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
    samples = audio.load(((tone * whole).astype(dtype), RATE)).decode()
    np.testing.assert_allclose(samples, tone, atol=1e-4)


def test_unsigned_bytes_are_centred(make_tone: Any):
    """Eight-bit sound is unsigned: 128 is silence."""
    tone = make_tone(440)
    try:
        samples = audio.load((np.round(tone * 127 + 128).astype(np.uint8), RATE)).decode()
    except Unreadable:
        return
    assert abs(float(samples.mean())) < 0.05
    assert np.abs(samples).max() <= 1


def test_channels_are_mixed(make_tone: Any):
    tone = make_tone(440)
    samples = audio.load((np.stack([tone, np.zeros_like(tone)], 1), RATE)).decode()
    np.testing.assert_allclose(samples, tone / 2, atol=1e-6)


@pytest.mark.parametrize("ending", [".flac", ".ogg"])
def test_compressed_files(tmp_path: Path, make_tone: Any, ending: str):
    import soundfile

    soundfile.write(tmp_path / f"t{ending}", make_tone(1000, seconds=1.0), RATE)
    assert peak(audio.load(tmp_path / f"t{ending}").decode()) == pytest.approx(1000, abs=5)


def broken(folder: Path, make_wav: Callable[..., Path], samples: np.ndarray) -> dict[str, tuple[Path, str]]:
    """Damaged sounds: name -> (path, a word of the reason)."""
    import soundfile

    folder.mkdir()
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("not a sound", encoding="utf-8")
    (folder / "header.wav").write_bytes(make_wav(folder / "whole.wav", samples).read_bytes()[:20])
    make_wav(folder / "silent.wav", np.zeros(RATE, np.float32))
    make_wav(folder / "short.wav", samples[:50])
    make_wav(folder / "none.wav", samples[:0])
    soundfile.write(folder / "nan.wav", np.full(RATE, np.nan, np.float32), RATE, subtype="FLOAT")
    reasons = {
        "empty": "empty",
        "text": "not a sound",
        "header": "not a sound",
        "silent": "silent",
        "short": "10 ms",
        "none": "",
        "nan": "not numbers",
    }
    return {name: (folder / f"{name}.wav", reason) for name, reason in reasons.items()}


@pytest.mark.parametrize("name", ["empty", "text", "header", "silent", "short", "none", "nan"])
def test_damaged_files_say_why(tmp_path: Path, make_wav: Any, make_tone: Any, name: str):
    path, reason = broken(tmp_path / "d", make_wav, make_tone(440))[name]
    with pytest.raises(Unreadable) as raised:
        audio.load(path).decode()
    assert reason in str(raised.value)
    assert str(raised.value).strip()


def test_a_truncated_sound_is_read_as_far_as_it_goes_or_named(tmp_path: Path, make_wav: Any, make_tone: Any):
    path = make_wav(tmp_path / "t.wav", make_tone(440, seconds=1.0))
    path.write_bytes(path.read_bytes()[:16_044])
    try:
        samples = audio.load(path).decode()
    except Unreadable:
        return
    assert len(samples) == 8_000


TONE = np.sin(np.arange(8_000) / 5).astype(np.float32)


@pytest.mark.parametrize(
    "source",
    [
        (TONE, 0),
        (TONE, -16_000),
        (TONE, "fast"),
        (TONE, None),
        (TONE.astype(object), RATE),
        (TONE.astype(complex), RATE),
        (np.array(["a", "b"]), RATE),
        (np.zeros((2, 2, 2), np.float32), RATE),
        (np.zeros(0, np.float32), RATE),
        (np.zeros((0, 2), np.float32), RATE),
        (np.zeros((8_000, 0), np.float32), RATE),
        (np.full(8_000, np.inf, np.float32), RATE),
        (list(TONE), RATE),
        TONE,
        None,
        7,
    ],
    ids=[
        *("rate-0", "rate-negative", "rate-word", "rate-none", "objects", "complex", "words", "three-axes", "no-samples"),
        *("no-rows", "no-channels", "infinite", "list", "no-rate", "none", "number"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_objects_that_are_no_sounds(source: Any):
    with pytest.raises(Unreadable):
        audio.load(source).decode()


def test_a_rate_that_is_no_number_ends():
    """In a process of its own: resampling from such a rate never comes back."""
    code = "import numpy, regraft.modality.audio as a\na.load((numpy.ones(8000, numpy.float32), float('nan'))).decode()"
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        pytest.fail("it hangs")
    assert "Unreadable" in done.stderr


@pytest.mark.parametrize(
    ("seconds", "windows", "frames"), [(0.02, 1, [50]), (0.5, 1, [50]), (0.6, 1, [100]), (10.0, 1, [1000]), (12.3, 2, [1000, 250])]
)
def test_long_sounds_become_windows(make_tone: Any, seconds: float, windows: int, frames: list[int]):
    prepared = audio.preparer(PREPROCESSING, {})(make_tone(440, seconds=seconds))
    assert len(prepared.windows) == windows == len(prepared.weights)
    assert [w["mel"].shape for w in prepared.windows] == [(80, n) for n in frames]
    for window, weight in zip(prepared.windows, prepared.weights, strict=True):
        assert 1 <= int(window["positions"]) <= window["mel"].shape[1] // 2
        assert weight == float(window["positions"])


def test_a_rest_that_is_too_short_to_hear_is_dropped(make_tone: Any):
    assert len(audio.preparer(PREPROCESSING, {})(make_tone(440, seconds=10.05)).windows) == 1


def test_very_long_sounds_are_listened_to_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_wav: Any, make_tone: Any):
    monkeypatch.setattr(audio, "LONGEST", 4)
    monkeypatch.setattr(audio, "PIECE", 1)
    samples = audio.load(make_wav(tmp_path / "t.wav", make_tone(440, seconds=9.0))).decode()
    assert len(samples) == 4 * RATE
    assert "4 s" in audio.preparer(PREPROCESSING, {})(samples).note


def test_collate_gives_mel_and_positions(make_tone: Any):
    prepare = audio.preparer(PREPROCESSING, {})
    batch = audio.collate([prepare(make_tone(f, seconds=0.6)).windows[0] for f in (300, 900)], PREPROCESSING)
    assert tuple(batch["mel"].shape) == (2, 80, 100)
    assert str(batch["mel"].dtype) == "torch.float32"
    assert batch["positions"].tolist() == [30, 30]


def test_a_higher_tone_lies_in_a_higher_band(make_tone: Any):
    low, high = (int(audio.log_mel(make_tone(f, seconds=1.0)).mean(1).argmax()) for f in (300, 3000))
    assert low < high


@pytest.mark.parametrize("bands", [80, 128])
def test_log_mel_is_what_whisper_takes(make_tone: Any, bands: int):
    """The same numbers as the feature extractor of transformers."""
    transformers = pytest.importorskip("transformers")
    samples = make_tone(700, seconds=2.0)
    theirs = transformers.WhisperFeatureExtractor(feature_size=bands, chunk_length=2)
    theirs = theirs(samples, sampling_rate=RATE, return_tensors="np").input_features[0]
    np.testing.assert_allclose(audio.log_mel(samples, bands), theirs, atol=2e-3)


@pytest.mark.parametrize("seconds", [0.011, 0.3, 2.0, 31.0])
def test_the_summary_has_one_width(make_tone: Any, seconds: float):
    row = audio.summary(make_tone(440, seconds=seconds))
    assert row.shape == (161,)
    assert row.dtype == np.float32
    assert np.isfinite(row).all()
    assert row[-1] == pytest.approx(np.log(seconds), abs=0.01)


# ---------------------------------------------------------------- the power in mel bands

VOICE = {"spectrogram": "mel-power", "window_seconds": 1.6, "step_seconds": 0.77, "bands": 40, "loudness": -30, "coverage": 0.75}


@pytest.mark.parametrize(("seconds", "windows"), [(0.02, 1), (1.6, 1), (1.9, 1), (1.97, 2), (2.5, 2), (10.0, 12)])
def test_overlapping_windows_have_one_shape(make_tone: Any, seconds: float, windows: int):
    prepared = audio.preparer(VOICE, {})(make_tone(440, seconds=seconds))
    assert [w["mel"].shape for w in prepared.windows] == [(40, 160)] * windows
    assert list(prepared.weights) == [1.0] * windows
    batch = audio.collate([*prepared.windows, prepared.windows[0]], VOICE)
    assert set(batch) == {"mel"} and tuple(batch["mel"].shape) == (windows + 1, 40, 160)


def test_mel_power_is_that_of_a_plain_sum(make_tone: Any):
    """One frame by the definition: Hann window of 400 samples centred on its time, squared spectrum, filters."""
    samples = make_tone(700, seconds=2.0)
    mel = audio.preparer(VOICE, {})(samples).windows[0]["mel"]
    part = samples[50 * 160 - 200 : 50 * 160 + 200] * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400))
    expected = np.abs(np.fft.rfft(part)) ** 2 @ audio.mel_filters(40)
    np.testing.assert_allclose(mel[:, 50], expected, rtol=1e-3, atol=1e-5)


def test_a_quiet_sound_is_raised_and_a_loud_one_stays(make_tone: Any):
    def mel(level: float) -> np.ndarray:
        return audio.preparer(VOICE, {})(make_tone(700, seconds=1.0) * np.float32(level)).windows[0]["mel"]

    np.testing.assert_allclose(mel(1e-3), mel(1e-2), rtol=1e-3, atol=1e-7)
    assert mel(1.0).max() > 3 * mel(0.5).max()


def test_windows_do_not_depend_on_what_comes_after_them(make_tone: Any):
    loud = make_tone(700, seconds=6.0)
    short, long = (audio.preparer(VOICE, {})(part).windows for part in (loud[: 16_000 * 3], loud))
    np.testing.assert_array_equal(short[0]["mel"], long[0]["mel"])


# ---------------------------------------------------------------- log-mel as Kaldi makes it

KALDI = {"spectrogram": "kaldi-log-mel", "window_seconds": 10.24, "bands": 128, "mean": -4.2677393, "std": 4.5689974}


def sound(seconds: float, level: float = 0.1) -> np.ndarray:
    """A tone in noise with an offset, silent in its middle third."""
    rng, count = np.random.default_rng(0), round(seconds * RATE)
    samples = level * (np.sin(np.arange(count) / 9) + rng.normal(0, 0.3, count) + 0.2)
    samples[count // 3 : 2 * count // 3] = 0
    return samples.astype(np.float32)


@pytest.mark.parametrize("level", [1e-4, 0.1, 1.0])
@pytest.mark.parametrize("seconds", [0.025, 0.3, 1.0, 1.0049, 10.24, 10.26, 11.0, 23.0])
def test_kaldi_log_mel_is_what_an_audio_spectrogram_transformer_takes(seconds: float, level: float):
    """The same numbers as the feature extractor of transformers; where that cuts a sound off, another window begins."""
    transformers = pytest.importorskip("transformers")
    theirs, samples = transformers.ASTFeatureExtractor(), sound(seconds, level)
    prepared = audio.preparer(KALDI, {})(samples)
    for i, window in enumerate(prepared.windows):
        rest = samples[i * 1024 * 160 :]
        expected = theirs(rest, sampling_rate=RATE, return_tensors="np")["input_values"][0]
        np.testing.assert_allclose(window["mel"].T, expected, atol=1e-4)
        assert window["mel"].dtype == np.float32 and prepared.weights[i] == min(1024, (len(rest) - 400) // 160 + 1)
    assert len(prepared.windows) == {10.26: 1, 11.0: 2, 23.0: 3}.get(seconds, 1)


def test_bands_and_numbers_that_a_network_states():
    transformers = pytest.importorskip("transformers")
    theirs = transformers.ASTFeatureExtractor(num_mel_bins=64, max_length=128, mean=-6.8, std=5.5)
    (window,) = audio.preparer({**KALDI, "window_seconds": 1.28, "bands": 64, "mean": -6.8, "std": 5.5}, {})(sound(1.0)).windows
    np.testing.assert_allclose(window["mel"].T, theirs(sound(1.0), sampling_rate=RATE, return_tensors="np")["input_values"][0], atol=1e-4)


def test_a_sound_shorter_than_one_frame_has_one():
    prepared = audio.preparer(KALDI, {})(sound(0.011))
    assert list(prepared.weights) == [1.0] and np.isfinite(prepared.windows[0]["mel"]).all()
    silence = -KALDI["mean"] / (2 * KALDI["std"])
    assert (prepared.windows[0]["mel"][:, 0] != silence).any() and prepared.windows[0]["mel"][:, 1:] == pytest.approx(silence)


UNKNOWN = [({**VOICE, "spectrogram": "wavelets"}, "wavelets"), ({"spectrogram": "mel-power", "bands": 40}, "step_seconds")]
UNKNOWN += [({k: v for k, v in KALDI.items() if k != "std"}, "lacks std")]


@pytest.mark.parametrize(("preprocessing", "words"), UNKNOWN)
def test_settings_that_are_not_known_are_named(preprocessing: dict[str, Any], words: str):
    with pytest.raises(ModelError, match=words):
        audio.preparer(preprocessing, {})
