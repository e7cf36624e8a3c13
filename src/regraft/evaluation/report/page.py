"""The page around the sections."""

from __future__ import annotations

from collections.abc import Sequence

from regraft.evaluation.names import METRIC_NAMES, duration, figure, judged_on
from regraft.evaluation.report.base import Report, Section, text

STYLE = """
:root{--ink:#1c2430;--soft:#5b6675;--paper:#fff;--panel:#f5f7fa;--line:#d9dfe7;--blue:#1f5fa8;--pale:#dfe8f3;--mark:#c2571a}
@media (prefers-color-scheme:dark){:root{--ink:#e6eaf0;--soft:#9aa6b5;--paper:#14181f;--panel:#1c222c;--line:#333c49;--blue:#6aa9ee;
--pale:#26364a;--mark:#ef8f52}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:960px;margin:0 auto;padding:2rem 1.25rem 4rem}h1{font-size:1.7rem;margin:0 0 .25rem}
h2{font-size:1.15rem;margin:2.5rem 0 .6rem}
p{margin:.4rem 0;max-width:72ch}.soft,figcaption{color:var(--soft);font-size:.875rem}.lead{font-size:1.1rem}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem;margin:.4rem 0}
th,td{padding:.3rem .7rem;border-bottom:1px solid var(--line);
text-align:left;vertical-align:top}th{font-weight:600}.n{text-align:right;font-variant-numeric:tabular-nums}
.confusion td{text-align:right;min-width:2.6rem}.confusion td:first-child{text-align:left}
.bar{width:220px;height:12px;display:block;margin-top:.35rem}.bar .track{fill:var(--pale)}.bar .fill{fill:var(--blue)}
.bar.other .fill{fill:var(--soft)}.bar .span{stroke:var(--mark);stroke-width:3;vector-effect:non-scaling-stroke}
.plot{max-width:420px;width:100%;height:auto}.plot text{fill:var(--ink);font-size:11px}.plot .axis{stroke:var(--line)}
.plot .dots{fill:var(--blue);fill-opacity:.45}.plot .ideal{stroke:var(--soft);stroke-dasharray:4 4}.plot .line{stroke:var(--blue);fill:none}
.broad{max-width:720px;min-width:540px}.plot .band{fill:var(--blue);fill-opacity:.15}.plot .ahead{stroke-dasharray:6 5}
.plot .share{fill:var(--pale)}.plot .plain{fill:var(--blue)}.plot .named,.plot text.named{fill:var(--mark)}.plot text.plain{fill:var(--ink)}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(200px,1fr));gap:.8rem}
figure{margin:0;background:var(--panel);border:1px solid var(--line);border-radius:8px;padding:.6rem;overflow-wrap:anywhere}
figure img{width:100%;height:150px;object-fit:contain;display:block;margin-bottom:.4rem}figure blockquote{margin:0 0 .4rem;font-size:.9rem}
figure svg{width:100%;height:60px;display:block;margin-bottom:.4rem}.wave{fill:var(--blue)}.said{color:var(--mark);font-weight:600}
ul{margin:.3rem 0;padding-left:1.2rem}li{margin:.15rem 0;overflow-wrap:anywhere}code{font-size:.875em}
"""

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""What a browser lets the page do: show itself."""


def page(report: Report, sections: Sequence[Section]) -> str:
    """The whole page, for one file."""
    result = report.result
    name = METRIC_NAMES[report.key]
    own = result["estimate"][report.key]
    unit = "" if report.key == "mae" else " of new examples of this kind" if report.key == "accuracy" else ""
    test = result.get("test")
    lead = f"{name} {figure(own)}{unit}, {judged_on(result)} {report.nouns}"
    if test:
        lead += f"; {figure(test['metrics'][report.key])} on {test['n']:,} test {report.nouns}"
    built = "".join(f"<section><h2>{text(s.title)}</h2>{body}</section>" for s in sections if (body := s.body(report)))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(result['run'])}</title><style>{STYLE}</style></head><body><main>"
        f"<h1>{text(result['run'])}</h1>"
        f'<p class="soft">{text(result["data"])}: {text(result["train"])} on {text(result["model"])}, {duration(result["seconds"])}</p>'
        f'<p class="lead">{text(lead)}.</p>{built}</main></body></html>\n'
    )
