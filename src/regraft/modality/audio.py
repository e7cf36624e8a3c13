"""Sounds: files that libsndfile reads (WAV, FLAC, OGG, MP3, AIFF), and (samples, rate) pairs in memory."""

from __future__ import annotations

import functools
import hashlib
import io
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.errors import MissingExtra, ModelError, Unreadable
from regraft.modality.base import Loaded, Modality, Prepared, Sketch, Stored, nothing_to_learn, read_stored, source_kind, stack_rows
from regraft.workspace.store import ID_BYTES, content_id

if TYPE_CHECKING:
    from torch import Tensor

RATE = 16_000
"""Samples a second that networks for speech take."""

LONGEST = 600
"""Seconds of one sound that are listened to; of a longer one, so many seconds spread evenly over it."""

PIECE = 10
"""Seconds of each piece taken from a longer sound."""

STEP = 0.5
"""Seconds; a window is padded to a multiple of it, so that its length depends on the sound alone."""

RATES = (100, 768_000)
"""Samples a second that are believed."""

VALUES = LONGEST * 192_000
"""Samples held at the file's own rate; more than these are brought to RATE piece by piece."""

BLOCK = 1 << 22
"""Values, those of all channels, that are read at a time."""

LOUDEST = 1e12
"""Samples beyond it are no sound: their squares overflow. Sound lies between -1 and 1; some files hold 32-bit whole numbers as floats."""

FFT, HOP, MELS = 400, 160, 80

KALDI_FFT, KALDI_FLOOR = 512, 2.0**-23
"""Samples that a frame is filled up to, and the least power, where mel spectra are made as Kaldi does."""


def _libraries() -> tuple[Any, Any]:
    try:
        import soundfile
        import soxr
    except (ImportError, OSError):
        raise MissingExtra("reading sound needs the packages soundfile and soxr", move="pip install 'regraft[audio]'") from None
    return soundfile, soxr


def load(source: Any) -> Loaded:
    """A path, stored content, or a pair (samples, rate): floats in -1..1, (n,) or (n, channels)."""
    if isinstance(source, (str, Path)):
        path = Path(source)
        identity, state = _file_identity(path)
        return Loaded(identity, lambda: _decode_file(path, state))
    if isinstance(source, Stored):
        content = read_stored(source)
        return Loaded(content_id(content), lambda: _decode(io.BytesIO(content)))
    if isinstance(source, tuple) and len(source) == 2 and isinstance(source[0], np.ndarray):
        samples, rate = source
        if not _is_rate(rate):
            raise Unreadable(f"{rate!r} is not a number of samples a second from {RATES[0]} to {RATES[1]:,}")
        if samples.dtype.kind not in "if" and samples.dtype != np.uint8:
            raise Unreadable(f"samples of {samples.dtype}; expected floats in -1..1 or whole numbers")
        if samples.ndim not in (1, 2):
            raise Unreadable(f"samples of shape {samples.shape}; expected (n,) or (n, channels)")
        head = f"sound {samples.dtype} {samples.shape} {rate} ".encode()
        return Loaded(content_id(head + np.ascontiguousarray(samples).tobytes()), lambda: _checked(_to_rate(_mono(samples), rate)))
    raise Unreadable(f"a {source_kind(source)} is not a path or a pair (samples, rate)")


def _decode_file(path: Path, state: tuple[int, ...]) -> np.ndarray:
    """The samples of a file, which must be the one that was hashed: its features are kept under that hash."""
    # a name may hold bytes that are no text; on Windows all names are text
    place = str(path) if os.name == "nt" else os.fsencode(path)
    try:
        return _decode(place)
    finally:
        if _state_of(path) != state:
            raise Unreadable("it changed while it was read")


def _state_of(place: Path | int) -> tuple[int, ...]:
    """What differs once a file is written to or replaced."""
    try:
        found = os.stat(place)
    except OSError:
        return ()
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def _file_identity(path: Path) -> tuple[bytes, tuple[int, ...]]:
    """The hash of a file's bytes, and its state before they were read."""
    digest = hashlib.blake2b(digest_size=ID_BYTES)
    size = 0
    try:
        if not path.is_file():
            raise Unreadable("there is no such file" if not path.exists() else "not a plain file")
        with open(path, "rb") as file:
            state = _state_of(file.fileno())
            while block := file.read(1 << 20):
                digest.update(block)
                size += len(block)
    except OSError as error:
        raise Unreadable(f"cannot be opened: {error.strerror or error}") from None
    if size == 0:
        raise Unreadable("the file is empty (0 bytes)")
    return digest.digest(), state


def _decode(place: str | bytes | io.BytesIO) -> np.ndarray:
    soundfile, _ = _libraries()
    try:
        with soundfile.SoundFile(place) as file:
            rate, frames, channels = file.samplerate, file.frames, file.channels
            if not _is_rate(rate) or not 1 <= channels <= 64:
                raise Unreadable(f"{rate} samples a second in {channels} channels is not a sound that can be read")
            if frames <= min(LONGEST * rate, VALUES):
                samples = _read(file, max(0, frames))
            else:
                count = LONGEST // PIECE if frames > LONGEST * rate else math.ceil(frames / (PIECE * rate))
                one_after_the_other = np.arange(count) * PIECE * rate
                starts = np.linspace(0, frames - PIECE * rate, count).astype(int) if frames > LONGEST * rate else one_after_the_other
                pieces = []
                for start in starts:
                    file.seek(int(start))
                    piece = _read(file, PIECE * rate)
                    pieces.append(_to_rate(piece, rate) if count * PIECE * rate > VALUES else piece)
                samples = np.concatenate(pieces)
                rate = RATE if count * PIECE * rate > VALUES else rate
    except Unreadable:
        raise
    except (soundfile.LibsndfileError, RuntimeError, OSError, ValueError, TypeError) as error:
        text = str(error).rsplit(": ", 1)[-1].strip() or type(error).__name__
        raise Unreadable(f"not a sound that can be read ({text})") from None
    except MemoryError:
        raise Unreadable("too large for the memory there is") from None
    return _checked(_to_rate(samples, rate))


def _read(file: Any, frames: int) -> np.ndarray:
    """So many samples from where the file stands, or as many as there are, the channels in one."""
    out = np.empty(frames, np.float32)
    at, step = 0, max(1, BLOCK // file.channels)
    while at < frames and len(block := file.read(min(step, frames - at), dtype="float32", always_2d=True)):
        out[at : at + len(block)] = _mono(block)
        at += len(block)
    return out[:at]


def _is_rate(rate: Any) -> bool:
    """A finite number in range; NaN would make the resampler run for ever."""
    if isinstance(rate, bool) or not isinstance(rate, (int, float, np.integer, np.floating)):
        return False
    return RATES[0] <= float(rate) <= RATES[1]


def _mono(samples: np.ndarray) -> np.ndarray:
    if samples.dtype == np.uint8:
        samples = (samples.astype(np.float32) - 128) / 128
    elif samples.dtype.kind == "i":
        samples = samples / float(np.iinfo(samples.dtype).max + 1)
    samples = samples.astype(np.float32, copy=False)
    return samples.mean(axis=1) if samples.ndim == 2 else samples


def _to_rate(samples: np.ndarray, rate: int) -> np.ndarray:
    if samples.ndim != 1 or len(samples) == 0:
        raise Unreadable("the sound has no samples")
    if not np.isfinite(samples).all():
        raise Unreadable("holds samples that are not numbers")
    if (loudest := max(float(samples.max()), -float(samples.min()))) > LOUDEST:
        raise Unreadable(f"holds samples up to {loudest:.0e}; sound lies between -1 and 1")
    if rate != RATE:
        samples = _libraries()[1].resample(samples, rate, RATE)
    return samples


def _checked(samples: np.ndarray) -> np.ndarray:
    if len(samples) < RATE // 100:
        raise Unreadable(f"the sound lasts {len(samples) / RATE * 1000:.1f} ms; at least 10 ms are needed")
    if np.abs(samples).max() < 1e-6:
        raise Unreadable("the sound is silent from end to end")
    return samples


@functools.cache
def mel_filters(bands: int = MELS) -> np.ndarray:
    """Triangular filters (201, bands) on Slaney's mel scale, each of unit area (Slaney 1998, Auditory Toolbox)."""

    def to_mel(hertz: np.ndarray) -> np.ndarray:
        return np.where(hertz < 1000, hertz * 3 / 200, 15 + np.log(np.maximum(hertz, 1000) / 1000) * 27 / np.log(6.4))

    def to_hertz(mel: np.ndarray) -> np.ndarray:
        return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp(np.log(6.4) / 27 * (mel - 15)))

    bins = np.linspace(0, RATE / 2, FFT // 2 + 1)
    edges = to_hertz(np.linspace(0, to_mel(np.array(RATE / 2.0)), bands + 2))
    rise = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    return (np.maximum(0, np.minimum(rise, fall)) * (2 / (edges[2:] - edges[:-2]))).astype(np.float32)


def _mel_power(samples: np.ndarray, frames: int, bands: int) -> np.ndarray:
    """The power in each mel band (frames, bands) float32: frame i begins at sample 160 i and is 25 ms long."""
    pieces = np.lib.stride_tricks.sliding_window_view(samples, FFT)[::HOP][:frames]
    window = np.hanning(FFT + 1)[:-1].astype(np.float32)
    power = np.abs(np.fft.rfft(pieces * window, axis=1)) ** 2
    return power.astype(np.float32) @ mel_filters(bands)


def log_mel(samples: np.ndarray, bands: int = MELS) -> np.ndarray:
    """Log10 of the mel spectrum (bands, frames), 100 frames a second, at most 8 below its maximum, about -1 to 1.

    As Whisper takes it (Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak Supervision", section 2.2).
    """
    padded = np.pad(samples, FFT // 2, mode="reflect" if len(samples) > FFT // 2 else "constant")
    logs = np.log10(np.maximum(_mel_power(padded, len(samples) // HOP or 1, bands), 1e-10))
    return np.ascontiguousarray(((np.maximum(logs, logs.max() - 8) + 4) / 4).T, dtype=np.float32)


@functools.cache
def kaldi_filters(bands: int) -> np.ndarray:
    """Triangular filters (257, bands) from 20 Hz on Kaldi's mel scale, each with its peak at 1."""

    def to_mel(hertz: np.ndarray) -> np.ndarray:
        return 1127 * np.log(1 + hertz / 700)

    bins = to_mel(np.linspace(0, RATE / 2, KALDI_FFT // 2 + 1))
    low, high = to_mel(np.array([20.0, RATE / 2]))
    edges = np.linspace(low, high, bands + 2)
    rise = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rise, fall))


def kaldi_log_mel(samples: np.ndarray, bands: int) -> np.ndarray:
    """The natural logarithm of the mel spectrum (frames, bands): frame i is the 25 ms from sample 160 i, all of them sound.

    As Kaldi's fbank without dither: the mean of each frame is taken away, and of every sample 0.97 of the one before.
    """
    pieces = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), FFT)[::HOP]
    pieces = pieces - pieces.mean(axis=1, keepdims=True)
    before = np.concatenate([pieces[:, :1], pieces[:, :-1]], axis=1)
    power = np.abs(np.fft.rfft((pieces - 0.97 * before) * np.hanning(FFT), KALDI_FFT, axis=1)) ** 2
    return np.log(np.maximum(power @ kaldi_filters(bands), KALDI_FLOOR))


def preparer(preprocessing: Mapping[str, Any], files: Mapping[str, Path]) -> Callable[[np.ndarray], Prepared]:
    """Windows of mel frames, as `preprocessing["spectrogram"]` names them: one of `SPECTROGRAMS`, log-mel when it is not said."""
    name = preprocessing.get("spectrogram", "log-mel")
    if name not in SPECTROGRAMS:
        raise ModelError(
            f"the network asks for the spectrogram {name!r}", expected=", ".join(SPECTROGRAMS), move="pip install --upgrade regraft"
        )
    needed, windows_of = SPECTROGRAMS[name]
    if lacking := [key for key in needed if key not in preprocessing]:
        raise ModelError(f"the spectrogram {name} of the network lacks {', '.join(lacking)}", expected=", ".join(needed))
    make = windows_of(preprocessing)

    def prepare(samples: np.ndarray) -> Prepared:
        windows, weights = make(samples)
        long = len(samples) >= LONGEST * RATE
        return Prepared(windows, weights, note=f"longer than {LONGEST} s: {LONGEST} s of it are listened to" if long else "")

    return prepare


def _log_mel_windows(preprocessing: Mapping[str, Any]) -> _Windows:
    """Windows one after the other: mel (bands, frames) and positions (), how many of the network's positions hold sound.

    `preprocessing`: window_seconds, and bands where they are not 80. A position is two frames (320 samples), and windows count by them.
    """
    window = round(float(preprocessing["window_seconds"]) * RATE)
    step, bands = round(STEP * RATE), int(preprocessing.get("bands", MELS))

    def make(samples: np.ndarray) -> tuple[list[dict[str, np.ndarray]], list[float]]:
        windows, weights = [], []
        for start in range(0, len(samples), window):
            part = samples[start : start + window]
            if windows and len(part) < RATE // 10:
                break
            full = np.zeros(math.ceil(len(part) / step) * step, np.float32)
            full[: len(part)] = part
            positions = max(1, len(part) // (2 * HOP))
            windows.append({"mel": log_mel(full, bands), "positions": np.array(positions, np.int64)})
            weights.append(float(positions))
        return windows, weights

    return make


def _mel_power_windows(preprocessing: Mapping[str, Any]) -> _Windows:
    """Windows of one length that overlap: mel (bands, frames), the power itself without a logarithm. All count the same.

    `preprocessing`: window_seconds, step_seconds (from one window to the next), bands, loudness (dB below full scale to which a
    quieter sound is raised), coverage (the part of the last window that must hold sound; it is left out otherwise, unless it
    is the only one). Frames are centred on their time, with silence before the sound and after it.
    """
    frames = round(float(preprocessing["window_seconds"]) * RATE / HOP)
    step = round(float(preprocessing["step_seconds"]) * RATE / HOP)
    bands, coverage = int(preprocessing["bands"]), float(preprocessing["coverage"])
    quiet = 10 ** (float(preprocessing["loudness"]) / 20)

    def make(samples: np.ndarray) -> tuple[list[dict[str, np.ndarray]], list[float]]:
        level = math.sqrt(float(np.mean(np.square(samples, dtype=np.float64))))
        starts = [*range(0, max(1, math.ceil((len(samples) + 1) / HOP) - frames + step + 1), step)]
        if len(starts) > 1 and len(samples) / HOP - starts[-1] < coverage * frames:
            starts.pop()
        padded = np.zeros(max(len(samples), (starts[-1] + frames) * HOP) + FFT, np.float32)
        padded[FFT // 2 : FFT // 2 + len(samples)] = samples * np.float32(max(1.0, quiet / level))
        windows = []
        for start in starts:
            power = _mel_power(padded[start * HOP : (start + frames) * HOP + FFT], frames, bands)
            windows.append({"mel": np.ascontiguousarray(power.T)})
        return windows, [1.0] * len(windows)

    return make


def _kaldi_windows(preprocessing: Mapping[str, Any]) -> _Windows:
    """Windows of one length one after the other: mel (bands, frames), zeros after the sound, then less mean and over twice std.

    `preprocessing`: window_seconds, bands, mean, std; as transformers does: ASTFeatureExtractor, which leaves all after the first window
    out. Windows count by their frames.
    """
    frames, bands = round(float(preprocessing["window_seconds"]) * RATE / HOP), int(preprocessing["bands"])
    mean, std = float(preprocessing["mean"]), float(preprocessing["std"])

    def make(samples: np.ndarray) -> tuple[list[dict[str, np.ndarray]], list[float]]:
        windows, weights = [], []
        samples = np.pad(samples, (0, max(0, FFT - len(samples))))
        for start in range(0, len(samples) - FFT + 1, frames * HOP):
            logs = kaldi_log_mel(samples[start : start + (frames - 1) * HOP + FFT], bands)
            if windows and len(logs) < RATE // 10 // HOP:
                break
            mel = np.zeros((bands, frames))
            mel[:, : len(logs)] = logs.T
            windows.append({"mel": ((mel - mean) / (2 * std)).astype(np.float32)})
            weights.append(float(len(logs)))
        return windows, weights

    return make


def _sample_windows(preprocessing: Mapping[str, Any]) -> _Windows:
    """Windows one after the other: samples (n,) float32, and lengths (), how many of them are sound; zeros follow.

    `preprocessing`: window_seconds, normalize (mean 0 and variance 1 in each window, as transformers does: Wav2Vec2FeatureExtractor).
    Windows count by their samples.
    """
    window, step, normalize = round(float(preprocessing["window_seconds"]) * RATE), round(STEP * RATE), bool(preprocessing["normalize"])

    def make(samples: np.ndarray) -> tuple[list[dict[str, np.ndarray]], list[float]]:
        windows, weights = [], []
        for start in range(0, len(samples), window):
            part = samples[start : start + window]
            if windows and len(part) < RATE // 10:
                break
            if normalize:
                part = (part - part.mean()) / np.sqrt(part.var() + 1e-7)
            full = np.zeros(math.ceil(len(part) / step) * step, np.float32)
            full[: len(part)] = part
            windows.append({"samples": full, "lengths": np.array(len(part), np.int64)})
            weights.append(float(len(part)))
        return windows, weights

    return make


_Windows = Callable[[np.ndarray], tuple[list[dict[str, np.ndarray]], list[float]]]
"""From samples to windows and their weights."""

SPECTROGRAMS: dict[str, tuple[tuple[str, ...], Callable[[Mapping[str, Any]], _Windows]]] = {
    "log-mel": (("window_seconds",), _log_mel_windows),
    "samples": (("window_seconds", "normalize"), _sample_windows),
    "mel-power": (("window_seconds", "step_seconds", "bands", "loudness", "coverage"), _mel_power_windows),
    "kaldi-log-mel": (("window_seconds", "bands", "mean", "std"), _kaldi_windows),
}
"""What networks listen to: name -> the settings that it needs, and what makes its windows."""


def collate(windows: Sequence[Mapping[str, np.ndarray]], preprocessing: Mapping[str, Any]) -> dict[str, Tensor]:
    """mel (n, bands, frames) float32, for log-mel also positions (n,) int64; or samples (n, length) float32, lengths (n,) int64."""
    import torch

    return {k: torch.from_numpy(np.stack([w[k] for w in windows])) for k in windows[0]}


def in_words(preprocessing: Mapping[str, Any], files: Mapping[str, str]) -> list[str]:
    """What `load`, `preparer` and `collate` do."""
    kind, window = preprocessing.get("spectrogram", "log-mel"), float(preprocessing["window_seconds"])
    cut = f"cut into windows of {window:g} s one after the other; a rest below 0.1 s after the first is left out"
    stft = f"Hann windows of {FFT} samples every {HOP}, the squared magnitudes of their Fourier transforms"
    filters = "filters on Slaney's mel scale from 0 to 8,000 Hz, each of unit area"
    padded = f"pad it with zeros to a multiple of {STEP:g} s"
    bands = preprocessing.get("bands", MELS)
    if kind == "log-mel":
        own = [
            f"{cut}; {padded}",
            f"reflect {FFT // 2} samples at both ends; {stft}; {bands} {filters}; as many frames as samples / {HOP}",
            "the logarithm to base 10 of what is at least 1e-10; raise what is more than 8 below the largest; add 4, divide by 4",
            f"mel is (batch, {bands}, length) float32; positions (batch,) int64 are the samples of the window before padding / {2 * HOP}, "
            "rounded down, at least 1",
            "windows of one sound count by their positions",
        ]
    elif kind == "samples":
        scaled = "take the mean away and divide by the root of the variance + 1e-7; " if preprocessing["normalize"] else ""
        own = [
            f"{cut}; {scaled}{padded}",
            "samples is (batch, length) float32; lengths (batch,) int64 are the samples before padding",
            "windows of one sound count by their samples",
        ]
    elif kind == "kaldi-log-mel":
        frames = round(window * RATE / HOP)
        own = [
            f"frames of {FFT} samples every {HOP}, the first at the first sample, none that the sound does not fill; a sound below {FFT} "
            "samples is filled up with zeros",
            "in each frame take the mean away, then of every sample 0.97 of the one before it (of the first, of itself); times a "
            f"symmetric Hann window; zeros up to {KALDI_FFT}; the squared magnitudes of the Fourier transform",
            f"{bands} triangular filters on Kaldi's mel scale (1127 ln(1 + f / 700)) from 20 to 8,000 Hz, straight in mel, each with its "
            "peak at 1; the natural logarithm of what is at least 2 to the power of -23",
            f"cut into windows of {frames} frames one after the other, zeros after the last frame; a rest below {RATE // 10 // HOP} frames "
            f"after the first is left out; then take {preprocessing['mean']:g} away and divide by {2 * preprocessing['std']:g}",
            f"mel is (batch, {bands}, {frames}) float32",
            "windows of one sound count by their frames",
        ]
    else:
        frames, step = (round(float(preprocessing[k]) * RATE / HOP) for k in ("window_seconds", "step_seconds"))
        own = [
            f"raise a sound whose root mean square is below {preprocessing['loudness']:g} dB of full scale to that level",
            f"{FFT // 2} zeros at both ends; {stft}; {preprocessing['bands']} {filters}; no logarithm",
            f"windows of {frames} frames every {step}; the last one only if {preprocessing['coverage']:.0%} of it hold sound, or it is the "
            "only one",
            f"mel is (batch, {preprocessing['bands']}, {frames}) float32",
            "windows of one sound count the same",
        ]
    return [f"mix all channels to one (their mean), samples between -1 and 1, resampled to {RATE:,} a second", *own]


def made_up() -> list[tuple[np.ndarray, int]]:
    """Tones in noise of 0.3 to 23 seconds: (samples, rate)."""
    rng = np.random.default_rng(0)
    found = []
    for i, seconds in enumerate((0.3, 0.8, 1.7, 3.0, 6.0, 9.5, 11.0, 23.0)):
        time = np.arange(round(seconds * RATE)) / RATE
        samples = 0.3 * np.sin(2 * np.pi * (150 + 90 * i) * time) + rng.normal(0, 0.05, len(time))
        found.append((samples.astype(np.float32), RATE))
    return found


def summary(samples: np.ndarray) -> np.ndarray:
    """Mean and deviation over time of each log-mel band, and the log of the duration: a row of 161."""
    pieces = [log_mel(samples[i : i + 30 * RATE]) for i in range(0, len(samples), 30 * RATE)]
    mel = np.concatenate(pieces, axis=1)
    return np.concatenate([mel.mean(1), mel.std(1), [math.log(len(samples) / RATE)]]).astype(np.float32)


COMPARED = 10 * RATE
"""Samples from the beginning of two sounds that are compared."""


def likeness(samples: np.ndarray, other: np.ndarray) -> float:
    """The highest correlation of the first ten seconds of the two at any shift: loudness does not count, nor silence before or after.

    The same recording with another loudness, some noise or cut a little keeps its waveform; two recordings of one word do not share one.
    """
    one, two = (_centred(s[:COMPARED]) for s in (samples, other))
    norms = float(np.linalg.norm(one)), float(np.linalg.norm(two))
    if min(norms) < 1e-6:
        return 1.0 if max(norms) < 1e-6 else 0.0
    size = 1 << (len(one) + len(two) - 1).bit_length()
    product = np.fft.irfft(np.fft.rfft(one, size) * np.conj(np.fft.rfft(two, size)), size)
    return float(min(1.0, np.abs(product).max() / (norms[0] * norms[1])))


def _centred(samples: np.ndarray) -> np.ndarray:
    return samples.astype(np.float64) - samples.mean(dtype=np.float64) if len(samples) else np.zeros(1)


SKETCHED = 120
"""Moments of a sketch."""


def sketch(samples: np.ndarray) -> Sketch:
    """How loud it is over its time, the loudest moment being 1."""
    loud = np.array([float(np.abs(part).max(initial=0.0)) for part in np.array_split(samples, SKETCHED)])
    return Sketch("levels", loud / (loud.max() or 1.0))


MODALITY = Modality(
    name="audio",
    noun="sound",
    nouns="sounds",
    extensions=frozenset({".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".opus"}),
    without_network="log-mel statistics",
    chunk=4,
    settings=("window_seconds",),
    load=load,
    preparer=preparer,
    collate=collate,
    blank=lambda preprocessing: preparer(preprocessing, {})(np.sin(np.arange(2 * RATE) / 20).astype(np.float32)).windows[0],
    made_up=made_up,
    in_words=in_words,
    measure=lambda samples: {"seconds": len(samples) / RATE},
    summary=summary,
    summary_version="log-mel-1",
    learn_vectoriser=nothing_to_learn,
    vectorise=stack_rows,
    likeness=likeness,
    sketch=sketch,
)
