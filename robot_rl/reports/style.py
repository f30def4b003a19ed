"""The report's look: system fonts, one accent, Okabe and Ito's colours, light and dark."""

STYLE = """
:root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--ink:#16191d;--muted:#5c6570;--line:#e1e5ea;--grid:#e8ebef;
--track:#eceff3;--accent:#0072b2;--second:#d55e00;--third:#009e73;--faint:#0072b250;--demonstrations:#8b949e;
--baseline:#e69f00;--code:#f1f3f6}
@media (prefers-color-scheme:dark){:root{--page:#101317;--card:#181c22;--ink:#e8ebef;--muted:#9aa4b0;--line:#2a3038;
--grid:#272d35;--track:#262c34;--accent:#56b4e9;--second:#e69f00;--third:#2fc79a;--faint:#56b4e950;
--demonstrations:#7d8793;--baseline:#d9a13a;--code:#11151a}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue","Liberation Sans",Arial,sans-serif;font-variant-numeric:tabular-nums}
main{max-width:1120px;margin:0 auto;padding:44px 28px 56px}
h1{font-size:27px;line-height:1.2;letter-spacing:-.015em;margin:0 0 6px;font-weight:650}
h2{font-size:16px;margin:0 0 14px;font-weight:650;letter-spacing:-.005em}
p{margin:0}
.meta,.note,figcaption,.empty{color:var(--muted)}
.note,figcaption,.empty{font-size:13.5px}
section{margin-top:24px}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:22px 24px;min-width:0}
.grid-2{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(440px,100%),1fr));gap:24px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(210px,1fr));gap:24px;margin-top:28px}
.tile b{display:block;font-size:clamp(23px,2.2vw + 9px,32px);line-height:1.15;font-weight:650;letter-spacing:-.02em;
margin:2px 0 6px;white-space:nowrap}
.tile .label{font-size:13.5px;font-weight:600}
.tile.first b{color:var(--accent)}
.tile p:last-child{font-size:13.5px;color:var(--muted)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%}
th{font-weight:600;font-size:13px;color:var(--muted);text-align:left;vertical-align:bottom;padding:0 16px 8px 0}
td{border-top:1px solid var(--line);padding:11px 16px 11px 0;vertical-align:middle}
th:last-child,td:last-child{padding-right:0}
.number{text-align:right;white-space:nowrap}
td small{display:block;color:var(--muted);font-size:13px;line-height:1.4}
td.rate-cell,th.rate-cell{width:30%;min-width:220px}
td.stage{padding-left:18px;position:relative}
td.stage::before{content:"";position:absolute;left:0;top:18px;width:9px;height:9px;border-radius:2px}
.key-stage::before{background:var(--accent)}.key-demonstrations::before{background:var(--demonstrations)}
.key-baseline::before{background:var(--baseline)}.key-none::before{border:1.5px solid var(--line)}
svg{display:block;width:100%;height:auto;overflow:visible}
svg text{font-family:inherit;font-size:14px}
.rate text{font-size:12.5px}
.tick{fill:var(--muted)}.ink{fill:var(--ink)}
.grid{stroke:var(--grid);stroke-width:1}.axis{stroke:var(--muted);stroke-width:1}.track{fill:var(--track)}
.rate .grid{stroke:var(--card)}
.main,.second,.third,.faint{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.main{stroke:var(--accent)}.second{stroke:var(--second)}.third{stroke:var(--third)}
.faint{stroke:var(--faint);stroke-width:1}
.main-dot{fill:var(--accent)}.second-dot{fill:var(--second)}.third-dot{fill:var(--third)}
.bar,.bar-stage{fill:var(--accent)}.bar{opacity:.75}.bar-demonstrations{fill:var(--demonstrations)}
.bar-baseline{fill:var(--baseline)}
.whisker{stroke:var(--ink);stroke-width:1.6;fill:none}
.mark{stroke:var(--ink);stroke-width:1.6}.mark-1{stroke:var(--second);stroke-dasharray:4 3}
figure{margin:0}figcaption{margin-top:12px}
.chart+figcaption{margin-top:8px}
video,.frames img{display:block;max-width:100%;border-radius:6px;background:#181b20}
video{width:100%;max-height:640px}
.frames{display:grid;grid-template-columns:repeat(auto-fill,minmax(180px,1fr));gap:10px}
.frames img{width:100%}
dl{display:grid;grid-template-columns:max-content 1fr;gap:7px 20px;margin:0}
dt{color:var(--muted)}dd{margin:0;overflow-wrap:anywhere}
code{font:13px/1.5 ui-monospace,"SF Mono",Menlo,Consolas,"Liberation Mono",monospace}
.commands{list-style:none;margin:0;padding:0}
.commands li+li{margin-top:14px}
.commands code{display:block;background:var(--code);border:1px solid var(--line);border-radius:6px;padding:8px 12px;
margin-top:5px;overflow-x:auto;white-space:pre}
footer{margin-top:28px;font-size:13px;color:var(--muted);max-width:80ch}
.verdict{font-weight:600;white-space:nowrap}.verdict.yes{color:var(--third)}.verdict.no{color:var(--second)}
.yes-dot{fill:var(--third)}.no-dot{fill:var(--second)}.other-dot{fill:none;stroke:var(--muted);stroke-width:1.6}
.yes-line{stroke:var(--third);stroke-width:2}.no-line{stroke:var(--second);stroke-width:2}
@media print{body{background:#fff}.card{break-inside:avoid}}
"""
