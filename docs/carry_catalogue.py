"""Carries the facts of a gathered catalogue over into src/regraft/pretrained/catalogue/. Run by hand, when the catalogue is new:

python docs/carry_catalogue.py FOLDER      FOLDER holds README.md, vision.csv, text.csv, audio.csv, transfer_evidence.csv

The same folder gives the same bytes. What is carried over: facts and figures, each with the key of its source; no sentences.

Names. Image rows are timm names (`timm:NAME`). Text and audio rows are ids of the hub (`hf:ID`); audio rows that no id of
the hub names alone keep the name of their project (`other:NAME`).

Rules for the published transfer results. A row is left out when
1. it names no network of the catalogue;
2. it is no result of a transfer: scores that predict one, correlations, seconds, memory;
3. it belongs to a sweep: settings tried on a validation part, sizes of an adapter (r=N, dim=N; 32 stays), mixes of two sets of
   weights (wise-ft), the best of several settings chosen on the test part (the median of the same settings stays);
4. it is about one language of a test whose mean over the languages stays;
5. another row says the same thing (network, data set, examples, method, metric, split, source) from more runs; of equal ones the
   middle one stays, the lower of two.
"""

from __future__ import annotations

import collections
import csv
import io
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

Row = dict[str, str]

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "src/regraft/pretrained/catalogue"

COLUMNS = (
    *("name", "task", "family", "domain", "parameters", "counted", "gmacs", "gmacs_224", "input_size", "max_tokens", "sample_rate"),
    *("window", "features", "trained_on", "amount", "unit", "nominal", "supervision", "languages", "released", "remote_code", "seen"),
    *("licence", "licence_kind", "sources"),
)
"""What a network has beside its published figures, which stand in columns of their own."""

VALUES = {
    "image": {
        "imagenet_top1": "imagenet_top1",
        "imagenet_zeroshot_top1": "imagenet_zero_shot",
        "imagenet_linear_top1": "imagenet_linear",
        "imagenet_knn_top1": "imagenet_knn",
        "imagenet_real_top1": "imagenet_real",
        "imagenet_v2_top1": "imagenet_v2",
        "imagenet_sketch_top1": "imagenet_sketch",
        "imagenet_a_top1": "imagenet_a",
        "imagenet_r_top1": "imagenet_r",
        "infer_ips_rtx4090": "images_a_second_rtx4090",
        "infer_ips_cpu_i7_12700h": "images_a_second_i7_12700h",
    },
    "text": {
        "mteb_cls8_mean": "mteb_8_tasks",
        "mteb_cls12_mean": "mteb_12_tasks",
        "massive_intent_all_langs": "massive_intent_languages",
        "sib200_all_langs": "sib200_languages",
        "sst2_full_ft": "sst2_fine_tuned",
        "mnli_full_ft": "mnli_fine_tuned",
    },
    "audio": {"maeb_mean": "maeb_13_tasks", "audioset_mAP": "audioset_map"},
}
"""Task -> column there -> name here."""

MAEB_MEAN = (
    *("ESC50", "UrbanSound8k", "SpeechCommands", "CREMA_D", "VocalSound", "GTZANGenre", "NSynth", "BeijingOpera", "BirdCLEF"),
    *("VoxLingua107_Top10", "VoxPopuliGenderID", "LibriCount", "TUTAcousticScenes"),
)
"""The MAEB tasks whose score is an accuracy and that one version of mteb scored for most networks: their mean is taken where a network
has all of them from that version, since scores of different versions cannot be compared."""

KINDS = {
    "permissive": "permissive",
    "permissive (attribution)": "attribution",
    "permissive (weak copyleft)": "weak-copyleft",
    "non-commercial": "non-commercial",
    "custom: read terms": "custom",
    "unknown": "unknown",
}

_TIMM = "huggingface/pytorch-image-models"

SOURCES: dict[str, tuple[str, ...]] = {
    "timm-1.0.31 cfg": ("timm 1.0.31, the configurations of its pretrained weights", "1.0.31", "Apache-2.0"),
    "results-imagenet": (f"{_TIMM}, results/results-imagenet*.csv", "aa4b585, 2026-08-08", "Apache-2.0"),
    "bench4090": (f"{_TIMM}, results/benchmark-infer-*.csv", "aa4b585, 2026-08-08", "Apache-2.0"),
    "mteb-2.26.24 meta": ("mteb 2.26.24, its registry of models", "2.26.24", "Apache-2.0"),
    "mteb code": ("mteb 2.26.24, its code", "2.26.24", "Apache-2.0"),
    "params computed": ("counted on the architecture, without weights",),
    "encoder params computed": ("counted on the architecture, without weights",),
    "model card": ("the network's card on the hub",),
    "model card tags": ("the tags of the network's card on the hub",),
    "glue-bert": ("google-research/bert, README",),
    "glue-electra": ("google-research/electra, README",),
    "glue-fairseq-roberta": ("facebookresearch/fairseq, README of roberta",),
    "glue-DeBERTa": ("microsoft/DeBERTa, README",),
    "glue-unilm-minilm": ("microsoft/unilm, README of minilm",),
    "glue-transformers-distillation": ("huggingface/transformers, README of the distillation example",),
    "tweeteval": ("cardiffnlp/tweeteval, README",),
    "xlm-t": ("cardiffnlp/xlm-t, README",),
    "big_transfer": ("google-research/big_transfer, README",),
    "vision_transformer": ("google-research/vision_transformer, README",),
    "dinov2": ("facebookresearch/dinov2, README",),
    "dinov3": ("facebookresearch/dinov3, model card",),
    "m2d": ("nttcslab/m2d, README and logs",),
    "aves": ("earthspecies/aves, README",),
    "ast": ("YuanGongND/ast, README and logs",),
}
"""What a key stands for, where the catalogue's own table does not say it, or says it for several keys at once."""

ALIASES = {
    "open_clip results": "open_clip",
    "dinov2 README": "dinov2",
    "aves README": "aves",
    "ast README": "ast",
    "m2d README": "m2d",
    "bert README": "glue-bert",
    "electra README": "glue-electra",
    "DeBERTa README": "glue-DeBERTa",
    "fairseq roberta README": "glue-fairseq-roberta",
    "unilm minilm README": "glue-unilm-minilm",
    "transformers distillation README": "glue-transformers-distillation",
}
"""Two keys of the catalogue for one source."""

WAY = ("train_setting", "method", "metric", "split", "source")
"""How a result was got: what many results share."""

NO_TRANSFER = ("fit_time_s", "gpu_mem_gib", "correlation")


def read(path: Path) -> list[Row]:
    """The rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def short(value: str, digits: int) -> str:
    """A number with at most `digits` decimals, and no zeros at its end; nothing stays nothing."""
    return f"{float(value):.{digits}f}".rstrip("0").rstrip(".") if value else ""


def millions(value: str) -> str:
    """Millions as a whole number."""
    return str(round(float(value) * 1e6)) if value else ""


def source_keys(text: str) -> str:
    """The keys of a cell of sources, without remarks in parentheses."""
    bare, inner = text, re.compile(r"\s*\([^()]*\)")
    while inner.search(bare):
        bare = inner.sub("", bare)
    return "; ".join(dict.fromkeys(ALIASES.get(key.strip(), key.strip()) for key in bare.split(";") if key.strip()))


def values_of(task: str, row: Row) -> dict[str, str]:
    """Published figures under the names they have here."""
    return {ours: short(row[theirs], 2) for theirs, ours in VALUES[task].items() if row[theirs]}


def licence(row: Row) -> Row:
    """The licence and its kind; what nobody stated is unknown."""
    return {"licence": row["licence"] or "unknown", "licence_kind": KINDS[row["licence_class"]]}


def image(row: Row) -> Row:
    """A row of vision.csv."""
    return {
        "name": f"timm:{row['id']}",
        "task": "image",
        "family": row["family"],
        "parameters": millions(row["backbone_params_m"]),
        "counted": "backbone",
        "gmacs": short(row["gmacs"], 3),
        "gmacs_224": short(row["gmacs_at_224"], 3),
        "input_size": row["input_size"],
        "features": row["embedding_dim"],
        "trained_on": row["pretrained_on"],
        "amount": row["pretrain_images"],
        "unit": "images" if row["pretrain_images"] else "",
        "nominal": "1" if row["pretrain_images_basis"] == "name" else "",
        "supervision": row["supervision"],
        **values_of("image", row),
        **licence(row),
        "sources": source_keys(row["source"]),
    }


def text(row: Row) -> Row:
    """A row of text.csv."""
    # a folder on somebody's machine says nothing
    trained_on = "; ".join(part for part in row["pretrained_on"].split("; ") if not part.startswith("base: /"))
    return {
        "name": f"hf:{row['id']}",
        "task": "text",
        "family": row["family"],
        "domain": row["kind"],
        "parameters": millions(row["params_m"]),
        "counted": "whole",
        "max_tokens": row["max_tokens"],
        "features": row["embedding_dim"],
        "trained_on": trained_on,
        "languages": row["languages"].replace("|", " "),
        "released": row["release_date"],
        "remote_code": "1" if row["needs_remote_code"] == "1" else "",
        "seen": row["trained_on_cls_tasks"],
        **values_of("text", row),
        **licence(row),
        "sources": source_keys(row["source"]),
    }


def audio(row: Row, version: str, tasks: Iterable[str]) -> Row:
    """A row of audio.csv; `tasks` are those whose mean is taken, for scores of `version` alone."""
    cells = [row[f"maeb_{task}"] for task in tasks]
    comparable = all(cells) and row["maeb_mteb_version"].split("|")[0] == version
    row["maeb_mean"] = str(sum(map(float, cells)) / len(cells)) if comparable else ""
    return {
        "name": audio_name(row),
        "task": "audio",
        "family": row["family"],
        "domain": row["domain"],
        "parameters": millions(row["encoder_params_m"] or row["params_m"]),
        "counted": ("backbone" if row["encoder_params_m"] else "whole") if row["params_m"] else "",
        "sample_rate": row["sample_rate_hz"],
        "window": row["window_s"],
        "features": row["embedding_dim"],
        "trained_on": row["pretrained_on"],
        "amount": row["hours_or_clips_value"],
        "unit": row["unit"],
        "supervision": row["supervision"],
        "seen": row["trained_on_eval_tasks"],
        **values_of("audio", row),
        **licence(row),
        "sources": source_keys(row["source"]),
    }


def audio_name(row: Row) -> str:
    """hf: with an id of the hub that names these weights alone, else other: with the project's name."""
    return f"hf:{row['hub_id']}" if row["hub_id"] == row["id"] else f"other:{row['id']}"


def is_transfer(row: Row) -> bool:
    """Rules 2 to 4."""
    size = re.search(r" (?:r|dim)=(\d+)", row["method"])
    sweep = "best val over other settings" in row["protocol"] or "wise-ft" in row["method"] or "best-of-9" in row["protocol"]
    sweep = sweep or (size is not None and size[1] != "32")
    other = row["method"] == "transferability score" or row["metric"] in NO_TRANSFER
    return not (sweep or other or "[" in row["dataset"])


def representative(rows: list[Row]) -> Row:
    """Rule 5: the most runs, then the middle value, the lower of two."""
    runs = max(int(row["n_runs"] or 0) for row in rows)
    rows = sorted((row for row in rows if int(row["n_runs"] or 0) == runs), key=lambda row: (float(row["value"]), row["protocol"]))
    return rows[(len(rows) - 1) // 2]


def transfer(rows: list[Row], names: dict[str, str]) -> tuple[dict[str, object], set[str]]:
    """The lines of transfer.json, and the sources they name.

    `datasets` and `ways` are lists of words; a network has results [place of data set, place of way, n, value, std].
    """
    groups: dict[tuple[str, ...], list[Row]] = collections.defaultdict(list)
    for row in rows:
        row["method"] = re.sub(r"(?<=\+ ).*", lambda found: found[0].lower(), row["method"])
        if row["catalogue_id"] in names and is_transfer(row):
            groups[tuple(row[key] for key in ("catalogue_id", "dataset", "n_train", *WAY))].append(row)
    chosen = [representative(group) for group in groups.values()]
    datasets = sorted({row["dataset"] for row in chosen})
    ways = sorted({tuple(row[key] for key in WAY) for row in chosen})
    dataset_at = {word: i for i, word in enumerate(datasets)}
    way_at = {way: i for i, way in enumerate(ways)}
    results: dict[str, list[list[float | None]]] = collections.defaultdict(list)
    for row in chosen:
        line = [dataset_at[row["dataset"]], way_at[tuple(row[key] for key in WAY)], int(row["n_train"]) if row["n_train"] else None]
        numbers = [float(short(row[key], 2)) if row[key] else None for key in ("value", "std")]
        line += numbers if numbers[1] is not None else numbers[:1]
        results[names[row["catalogue_id"]]].append([int(x) if x is not None and x == int(x) else x for x in line])

    def order(line: list[float | None]) -> list[float]:
        return [-1 if value is None else value for value in line]

    networks = {name: sorted(lines, key=order) for name, lines in sorted(results.items())}
    return {"datasets": datasets, "ways": ways, **networks}, {row["source"] for row in chosen}


def sources(readme: str, used: set[str]) -> dict[str, object]:
    """Key -> what it is, its version, its licence; from SOURCES and the README's table; else the key says it itself."""
    known = {}
    for line in readme.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and len(cells) == 4:
            for i, key in enumerate(re.findall(r"`([^`]+)`", cells[0])):
                # several keys on one line have their versions, and at times their licences, in the same order
                versions, licences = cells[2].split("; "), cells[3].split("; ")
                known[key] = [cells[1], versions[min(i, len(versions) - 1)], licences[min(i, len(licences) - 1)]]
    out: dict[str, object] = {}
    for key in sorted(used):
        found = known.get(key) or known.get(key.split("-")[0] + "-*") or [key, "", ""]
        what = SOURCES.get(key, ())
        out[key] = [*what, *found[len(what) :]]
    return out


def lines_of(mapping: dict[str, object]) -> str:
    """A JSON object with one key a line, so that changes can be read."""
    rows = (f"{json.dumps(k, ensure_ascii=False)}: {json.dumps(v, ensure_ascii=False, separators=(',', ':'))}" for k, v in mapping.items())
    return "{\n" + ",\n".join(rows) + "\n}\n"


def carried(folder: Path) -> dict[str, str]:
    """File name -> what it shall hold."""
    tables = {name: read(folder / f"{name}.csv") for name in ("vision", "text", "audio", "transfer_evidence")}
    version, _ = collections.Counter(
        row["maeb_mteb_version"].split("|")[0] for row in tables["audio"] if row["maeb_mteb_version"]
    ).most_common(1)[0]
    networks = [*map(image, tables["vision"]), *map(text, tables["text"])]
    networks += [audio(row, version, MAEB_MEAN) for row in tables["audio"]]
    names = {row["id"]: f"timm:{row['id']}" for row in tables["vision"]} | {row["id"]: f"hf:{row['id']}" for row in tables["text"]}
    names |= {row["id"]: audio_name(row) for row in tables["audio"]}
    results, used = transfer(tables["transfer_evidence"], names)
    used |= {key for row in networks for key in row["sources"].split("; ")}
    readme = (folder / "README.md").read_text(encoding="utf-8")
    gathered = re.search(r"gathered on (\d{4}-\d\d-\d\d)", readme)
    about = {"gathered": gathered[1] if gathered else "", **sources(readme, used)}

    table = io.StringIO()
    figures = [name for names_here in VALUES.values() for name in names_here.values()]
    writer = csv.DictWriter(table, [*COLUMNS, *figures], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(networks, key=lambda row: (("image", "text", "audio").index(row["task"]), row["name"])))
    if len({row["name"] for row in networks}) < len(networks):
        raise SystemExit("two networks have one name")
    return {"networks.csv": table.getvalue(), "transfer.json": lines_of(results), "sources.json": lines_of(about)}


def main(arguments: list[str]) -> int:
    """Write the files; the exit code."""
    if len(arguments) != 1 or not (Path(arguments[0]) / "vision.csv").is_file():
        print(__doc__, file=sys.stderr)  # noqa: T201
        return 2
    for name, held in carried(Path(arguments[0])).items():
        (OUT / name).write_text(held, encoding="utf-8", newline="\n")
        print(f"{name}: {len(held.encode()):,} bytes, {held.count(chr(10)):,} lines")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
