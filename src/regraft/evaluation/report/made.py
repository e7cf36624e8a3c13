"""What the model is made of, and how it was trained."""

from __future__ import annotations

from regraft.evaluation.report.base import Report, Section, table, text


def _body(report: Report) -> str:
    manifest, decisions = report.manifest, report.decisions
    model = manifest["model"]
    engine = decisions.get("engine") or {}
    rows = [
        ["network", f"{model['name']}: {model['about']}"],
        ["trained on", model["trained_on"]],
        ["licence of the weights", model["licence"]],
        ["origin", model["origin"]],
        ["trained here", manifest["train"] + (f": {', '.join(decisions['trained'])}" if decisions.get("trained") else "")],
        ["features from", f"{engine.get('name', 'torch')} {engine.get('precision', 'fp32')}"],
    ]
    if settings := decisions.get("settings") or decisions.get("head_settings"):
        rows.append(["settings", ", ".join(f"{k} {v}" for k, v in settings.items() if v)])
    elif "strength" in decisions:
        rows.append(["strength of the output layer", f"{decisions['strength']:.3g}, of {len(decisions['strengths'])} that were tried"])
    rows.append(["written by", ", ".join(f"{k} {v}" for k, v in manifest["versions"].items())])
    return table(["", ""], [[text(a), text(b, 2000)] for a, b in rows])


SECTION = Section("What it is made of", _body)
