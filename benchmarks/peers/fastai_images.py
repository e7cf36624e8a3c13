"""fastai's fine_tune(4) as in its vision tutorial, with the weights that regraft uses: EfficientNet-Lite0 as vision_learner builds
it from timm, Resize(224), aug_transforms(), batches of 64, its default rate. One epoch of the head, four of everything.

    python benchmarks/peers/fastai_images.py SUBSET OUT [--seed 0] [--epochs 4] [--batch 64]

It learns from the whole training part (the tutorial keeps a fifth back to watch); what it validates on after an epoch are two of
its own training images, so it loses no time there."""

import os
import time

from common import arguments, declare_missing_operators, efficientnet, images, write


def main():
    given = arguments(__doc__, epochs=4, batch=64)
    declare_missing_operators()
    import pandas
    import timm
    import torch
    from fastai.vision.all import (
        Callback,
        ImageDataLoaders,
        Normalize,
        Resize,
        accuracy,
        aug_transforms,
        set_seed,
        vision_learner,
    )

    set_seed(given.seed, reproducible=True)
    rows = [(str(path), label, False) for path, label in images(given.subset, "train")]
    table = pandas.DataFrame(rows + [(*row[:2], True) for row in rows[:2]], columns=["path", "label", "watched"])
    config = timm.data.resolve_data_config(model=efficientnet(2))
    loaders = ImageDataLoaders.from_df(
        table,
        path="/",
        valid_col="watched",
        item_tfms=Resize(224),
        batch_tfms=[*aug_transforms(), Normalize.from_stats(config["mean"], config["std"])],
        bs=min(given.batch, len(rows)),
        device=torch.device("cpu"),
    )
    learner = vision_learner(loaders, "tf_efficientnet_lite0", pretrained=False, metrics=accuracy)
    lost = learner.model[0].model.load_state_dict(efficientnet(0).state_dict(), strict=False)
    assert not lost.missing_keys, lost
    epochs = []

    class Clock(Callback):
        def before_train(self):
            self.begun, self.used = time.perf_counter(), sum(os.times()[:4])

        def after_train(self):
            epochs.append((time.perf_counter() - self.begun, sum(os.times()[:4]) - self.used))

    learner.add_cb(Clock())
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(given.epochs)
    test = loaders.test_dl([path for path, _ in images(given.subset, "test")])
    with learner.no_bar(), learner.no_logging():
        scores, _ = learner.get_preds(dl=test)
    whole = epochs[1:]  # the epochs in which everything trains
    seen = len(loaders.train) * loaders.train.bs * len(whole)
    spent = {"examples": seen, "seconds": sum(s for s, _ in whole), "cpu_seconds": sum(s for _, s in whole)}
    settings = {"epochs": given.epochs, "batch": given.batch}
    write(given, [str(loaders.vocab[i]) for i in scores.argmax(1).tolist()], settings, ("fastai", "timm"), spent)


if __name__ == "__main__":
    main()
