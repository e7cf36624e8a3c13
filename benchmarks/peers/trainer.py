"""transformers' Trainer by its documentation's recipes, 3 epochs each, with the networks that regraft uses.

    texts    AutoModelForSequenceClassification on MiniLM: lr 2e-5, batch 16, weight decay 0.01 (docs:
             tasks/sequence_classification)
    images   EfficientNet-Lite0 of timm: lr 5e-5, batch 16, warm-up 0.1, RandomResizedCrop (docs: tasks/image_classification).
             Gradients are not accumulated over 4 batches as there, which would leave 4 steps an epoch of 200 images
    sounds   WhisperForAudioClassification on tiny.en's encoder, windows of 3 s: lr 3e-5, batch 16, warm-up 0.1 (docs:
             tasks/audio_classification, where batches of 32 are accumulated 4 times and epochs are 10)

    python benchmarks/peers/trainer.py SUBSET OUT [--seed 0] [--sweep 1] [--epochs 3] [--batch 16] [--lr 0.0001]

--sweep 1: learning rates 2e-5, 1e-4 and 5e-4 with all else the same; a fifth of each class of the training part is held out, the
rate with the most right there (the least loss among equals) is taken, and the network is trained anew on all."""

import os
import random
import time

from common import arguments, declare_missing_operators, efficientnet, images, minilm, sounds, texts, write

SWEPT = (2e-5, 1e-4, 5e-4)


def text_task(given, classes):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

    tokenizer = AutoTokenizer.from_pretrained(minilm())

    def prepared(part, _):
        return [{**tokenizer(t, truncation=True, max_length=256), "label": classes.index(y)} for t, y in texts(given.subset, part)]

    build = lambda: AutoModelForSequenceClassification.from_pretrained(minilm(), num_labels=len(classes))
    return prepared, build, DataCollatorWithPadding(tokenizer), {"learning_rate": 2e-5, "weight_decay": 0.01}


class Pictures:
    """A list of examples that are decoded when they are asked for, as `with_transform` does."""

    def __init__(self, rows, transform, classes):
        self.rows, self.transform, self.classes = rows, transform, classes

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, at):
        from PIL import Image

        path, label = self.rows[at]
        with Image.open(path) as image:
            return {"pixel_values": self.transform(image.convert("RGB")), "labels": self.classes.index(label)}

    def part(self, places):
        return Pictures([self.rows[i] for i in places], self.transform, self.classes)


def image_task(given, classes):
    import timm
    import torch
    from torchvision import transforms

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = efficientnet(len(classes))

        def forward(self, pixel_values, labels=None):
            logits = self.network(pixel_values)
            return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}

    config = timm.data.resolve_data_config(model=efficientnet(len(classes)))
    plain = timm.data.create_transform(**config)
    normal = transforms.Normalize(config["mean"], config["std"])
    changed = transforms.Compose([transforms.RandomResizedCrop(config["input_size"][1:]), transforms.ToTensor(), normal])

    def prepared(part, train):
        return Pictures(images(given.subset, part), changed if train else plain, classes)

    def collate(rows):
        return {"pixel_values": torch.stack([r["pixel_values"] for r in rows]), "labels": torch.tensor([r["labels"] for r in rows])}

    return prepared, Network, collate, {"learning_rate": 5e-5, "warmup_steps": 0.1}


def sound_task(given, classes):
    import numpy as np
    import soundfile
    import torch
    from by_hand import whisper_state
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForAudioClassification

    extract = WhisperFeatureExtractor(chunk_length=3)
    window = 150  # positions of 20 ms

    def prepared(part, _):
        rows = []
        for path, digit in sounds(given.subset, part):
            wave, rate = soundfile.read(path, dtype="float32")
            wave = np.interp(np.arange(0, len(wave), rate / 16000), np.arange(len(wave)), wave)
            rows.append({"input_features": extract(wave, sampling_rate=16000).input_features[0], "labels": classes.index(digit)})
        return rows

    def build():
        state = whisper_state()
        state["embed_positions.weight"] = state["embed_positions.weight"][:window]
        config = WhisperConfig(
            d_model=384,
            encoder_layers=4,
            encoder_attention_heads=6,
            encoder_ffn_dim=1536,
            num_mel_bins=80,
            max_source_positions=window,
            num_labels=len(classes),
        )
        network = WhisperForAudioClassification(config)
        network.encoder.load_state_dict(state)
        network.encoder.embed_positions.requires_grad_(False)
        return network

    def collate(rows):
        stacked = torch.tensor(np.stack([r["input_features"] for r in rows]))
        return {"input_features": stacked, "labels": torch.tensor([r["labels"] for r in rows])}

    return prepared, build, collate, {"learning_rate": 3e-5, "warmup_steps": 0.1}


def taken(rows, places):
    return rows.part(places) if isinstance(rows, Pictures) else [rows[i] for i in places]


def a_fifth(labels, seed):
    """(places that train, places that are held out): a fifth of each class, one at least where it has two."""
    chance, held = random.Random(seed), set()
    for label in sorted(set(labels)):
        places = [i for i, own in enumerate(labels) if own == label]
        held |= set(chance.sample(places, min(len(places) - 1, max(1, round(len(places) / 5)))))
    return [i for i in range(len(labels)) if i not in held], sorted(held)


def main():
    given = arguments(__doc__, sweep=0, epochs=3, batch=16, lr=0.0)
    import torch

    declare_missing_operators()
    from transformers import Trainer, TrainingArguments, set_seed

    kind = given.truth["kind"]
    read = {"text": texts, "image": images, "audio": sounds}[kind]
    labels = [row[-1] for row in read(given.subset, "train")]
    classes = sorted(set(labels))
    prepared, build, collate, recipe = {"text": text_task, "image": image_task, "audio": sound_task}[kind](given, classes)
    if given.lr:
        recipe["learning_rate"] = given.lr
    train, test = prepared("train", True), prepared("test", False)
    spent = {"examples": 0, "seconds": 0.0, "cpu_seconds": 0.0}

    def trained(rows, **changes):
        set_seed(given.seed)
        told = TrainingArguments(
            output_dir=str(given.out.parent / "trainer"),
            num_train_epochs=given.epochs,
            per_device_train_batch_size=given.batch,
            per_device_eval_batch_size=32,
            save_strategy="no",
            eval_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            remove_unused_columns=False,
            seed=given.seed,
            **{**recipe, **changes},
        )
        trainer = Trainer(model=build(), args=told, train_dataset=rows, data_collator=collate)
        begun, used = time.perf_counter(), sum(os.times()[:4])
        trainer.train()
        spent["examples"] += len(rows) * given.epochs
        spent["seconds"] += time.perf_counter() - begun
        spent["cpu_seconds"] += sum(os.times()[:4]) - used
        return trainer

    settings = {"epochs": given.epochs, "batch": given.batch, **recipe}
    if given.sweep:
        rest, held = a_fifth(labels, given.seed)
        judging = taken(prepared("train", False), held)
        truth = torch.tensor([classes.index(labels[i]) for i in held])
        found = {}
        for rate in SWEPT:
            scores = torch.as_tensor(trained(taken(train, rest), learning_rate=rate).predict(judging).predictions)
            found[rate] = ((scores.argmax(1) == truth).float().mean().item(), -torch.nn.functional.cross_entropy(scores, truth).item())
        recipe["learning_rate"] = max(found, key=lambda rate: found[rate])
        settings |= {"learning_rate": recipe["learning_rate"], "held_out": {f"{k:g}": [round(x, 4) for x in v] for k, v in found.items()}}
    trainer = trained(train)
    said = trainer.predict(test).predictions if len(given.truth["test"]) else []
    write(given, [classes[i] for i in said.argmax(1)], settings, ("transformers", "accelerate", "timm"), spent)


if __name__ == "__main__":
    main()
