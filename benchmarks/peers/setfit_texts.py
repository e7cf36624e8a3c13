"""SetFit by its recipe: MiniLM, 20 pairs of each kind a text (num_iterations=20 of the paper and of the library's examples), one
epoch, batches of 16, the body at 2e-5, then its logistic regression.

    python benchmarks/peers/setfit_texts.py SUBSET OUT [--seed 0]
"""

import os
import time

from common import arguments, declare_missing_operators, minilm, texts, write


def main():
    given = arguments(__doc__, iterations=20)
    declare_missing_operators()
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments
    from transformers import set_seed

    set_seed(given.seed)
    train = texts(given.subset, "train")
    model = SetFitModel.from_pretrained(minilm(), device="cpu")
    told = TrainingArguments(
        batch_size=16,
        num_epochs=1,
        num_iterations=given.iterations,
        report_to="none",
        save_strategy="no",
        show_progress_bar=False,
        output_dir=str(given.out.parent / "setfit"),
        seed=given.seed,
    )
    rows = Dataset.from_dict({"text": [t for t, _ in train], "label": [y for _, y in train]})
    trainer = Trainer(model=model, args=told, train_dataset=rows)
    begun, used = time.perf_counter(), sum(os.times()[:4])
    trainer.train()
    spent = {"examples": len(train), "seconds": time.perf_counter() - begun, "cpu_seconds": sum(os.times()[:4]) - used}
    said = [str(label) for label in model.predict([t for t, _ in texts(given.subset, "test")])]
    settings = {"num_iterations": given.iterations, "batch": 16, "epochs": 1}
    write(given, said, settings, ("setfit", "sentence-transformers"), spent)


if __name__ == "__main__":
    main()
