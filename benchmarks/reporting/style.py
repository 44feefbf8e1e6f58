"""The style sheet of the page: one column, light or dark as the reader's system is; wide tables and plots scroll."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #1c2127; --soft: #57606a; --rule: #d9dee4; --link: #1f5fbf; --ours: #b04600;
  --ours-row: #fdf3ea; --warn: #8a1c1c;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0e1116; --card: #171b22; --ink: #e6e9ee; --soft: #9da7b3; --rule: #2c333d; --link: #86b6ff;
    --ours: #ff9a4d; --ours-row: #261d15; --warn: #ff9b9b;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-padding-top: 1rem; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 76rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .35rem; }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 2.5rem 0 .25rem; padding-top: .9rem;
  border-top: 1px solid var(--rule); }
h3 { font-size: 1rem; line-height: 1.35; margin: 0 0 .2rem; overflow-wrap: anywhere; }
h4 { font-size: .95rem; line-height: 1.35; margin: 1rem 0 0; overflow-wrap: anywhere; }
p { margin: .3rem 0 .7rem; max-width: 52rem; overflow-wrap: anywhere; }
a { color: var(--link); }
nav ul { margin: .6rem 0 0; padding-left: 1.2rem; }
nav li { margin: .15rem 0; }
nav li ul { margin: 0; font-size: .9rem; }
.result { background: var(--card); border: 1px solid var(--rule); border-radius: .6rem; padding: 1rem;
  margin: 1rem 0; }
.note, figcaption, .where { color: var(--soft); font-size: .875rem; }
.scroll { overflow-x: auto; margin: .3rem 0; }
table { border-collapse: collapse; font-size: .875rem; line-height: 1.35; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--rule); text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; font-weight: 400; }
thead th { color: var(--soft); font-weight: 600; vertical-align: bottom; white-space: normal; min-width: 5rem; }
.name { text-align: left; }
th[scope=row] { position: sticky; left: 0; background: var(--card); padding-left: 0; }
thead th:first-child { padding-left: 0; }
.ours td, .ours th { color: var(--ours); font-weight: 600; }
.noise { color: var(--soft); font-weight: 400; font-style: italic; }
.failed { color: var(--warn); }
figure { margin: 1.1rem 0; }
figure .scroll { margin: 0; }
figure img { display: block; max-width: 100%; height: auto; }
@media (max-width: 46rem) {
  .result { padding: .8rem .7rem; margin-left: -.35rem; margin-right: -.35rem; }
  th[scope=row] { max-width: 11rem; white-space: normal; }
}
details { margin-top: .8rem; font-size: .875rem; }
summary { cursor: pointer; color: var(--link); }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) minmax(0, 1fr); gap: .15rem 1rem;
  margin: .6rem 0 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
code { font: .85em/1.4 ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
@media print { .scroll { overflow: visible; } .result { break-inside: auto; border: 0; padding: 0; } }
"""
