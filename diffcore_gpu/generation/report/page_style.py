"""The style sheet of the report's page: one column on a phone, light or dark as the reader's system is."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #1c2127; --soft: #57606a; --rule: #d9dee4; --track: #e9ecf0;
  --accepted: #2f6fd0; --discarded: #cf7610; --threshold: #b0203c; --warn-ink: #7a4200; --warn: #fff3dc;
  --link: #1f5fbf;
  --s0: #2f6fd0; --s1: #1b998b; --s2: #8e5bd0; --s3: #cf7610; --s4: #8a929c; --s5: #c2517d;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0e1116; --card: #171b22; --ink: #e6e9ee; --soft: #9da7b3; --rule: #2c333d; --track: #252b34;
    --accepted: #6aa3f5; --discarded: #f0a24e; --threshold: #ff7f93; --warn-ink: #ffd79a; --warn: #33270f;
    --link: #86b6ff;
    --s0: #6aa3f5; --s1: #43c2b2; --s2: #b48cf0; --s3: #f0a24e; --s4: #7b8591; --s5: #e386ab;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-padding-top: 1rem; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
.wrap { max-width: 74rem; margin: 0 auto; padding: 1.75rem 1.25rem 3rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .35rem; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 2.75rem 0 .5rem; padding-top: .9rem;
  border-top: 1px solid var(--rule); }
h3 { font-size: .95rem; line-height: 1.35; margin: 0; overflow-wrap: anywhere; }
p { margin: .4rem 0 .8rem; max-width: 48rem; }
a { color: var(--link); }
.lead { font-size: 1.05rem; }
.note, figcaption, dt, .caption { color: var(--soft); font-size: .875rem; }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; margin: 1rem 0 0; padding: 0;
  font-size: .9rem; }
.warn { background: var(--warn); color: var(--warn-ink); border-radius: .5rem; padding: .65rem .9rem; margin: 1rem 0;
  max-width: none; }
.warn p { margin: .15rem 0; max-width: none; }
.tag { display: inline-block; background: var(--warn); color: var(--warn-ink); border-radius: .3rem; padding: 0 .4rem;
  font-size: .8rem; font-weight: 600; white-space: nowrap; }

.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: .8rem; margin: 1.25rem 0; }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: .6rem; padding: .8rem 1rem;
  min-width: 0; }
.cards dt { font-size: .85rem; }
.cards dd { margin: 0; }
.cards .figure { font-size: 1.7rem; line-height: 1.25; font-weight: 650; font-variant-numeric: tabular-nums; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: .8rem;
  align-items: start; }
.two h3 { margin-bottom: .6rem; }

svg { display: block; }
svg text { fill: var(--soft); font-size: 12px; font-variant-numeric: tabular-nums; }
.chart { overflow: visible; }
.accepted { fill: var(--accepted); } .discarded { fill: var(--discarded); }
.track { fill: var(--track); }
.grid { stroke: var(--rule); } .ground { stroke: var(--soft); }
line.threshold, path.threshold { stroke: var(--threshold); stroke-width: 2; fill: none; }
path.threshold { vector-effect: non-scaling-stroke; stroke-width: 1.5; }
svg text.threshold-name { fill: var(--threshold); font-weight: 650; paint-order: stroke; stroke: var(--card);
  stroke-width: 3px; }
.bar:hover rect { opacity: .75; }
.spark { width: 8rem; height: 24px; border-bottom: 1px solid var(--soft); }
.stages { border-radius: .35rem; overflow: hidden; }
.stage-0 { fill: var(--s0); } .stage-1 { fill: var(--s1); } .stage-2 { fill: var(--s2); }
.stage-3 { fill: var(--s3); } .stage-4 { fill: var(--s4); } .stage-5 { fill: var(--s5); }
.key { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: .5rem 0; padding: 0;
  font-size: .875rem; }
.key svg { display: inline-block; width: .75rem; height: .75rem; margin-right: .4rem; vertical-align: -.05rem; }
.key svg.line { height: .8rem; width: .3rem; }
.multiples { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 16.5rem), 1fr)); gap: .8rem;
  margin-top: .8rem; }
.multiples .card { padding: .7rem .8rem .5rem; }
.multiples h3 { font-size: .875rem; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.multiples .caption { margin: 0 0 .35rem; font-size: .8rem; }

.scroll { overflow-x: auto; border: 1px solid var(--rule); border-radius: .6rem; background: var(--card); }
.scroll.long { max-height: 34rem; overflow-y: auto; }
.scroll:focus-visible, button:focus-visible, select:focus-visible, summary:focus-visible, a:focus-visible {
  outline: 2px solid var(--link); outline-offset: 2px; }
.scroll table { border-collapse: collapse; width: 100%; font-size: .9rem; }
.scroll caption { text-align: left; padding: .6rem .8rem; color: var(--soft); font-size: .875rem; }
.scroll caption span { display: inline-block; position: sticky; left: .8rem; max-width: min(48rem, 100vw - 4rem); }
.scroll th, .scroll td { padding: .4rem .8rem; text-align: left; vertical-align: middle; }
.scroll thead th { position: sticky; top: 0; z-index: 1; background: var(--card); font-weight: 600; font-size: .82rem;
  color: var(--soft); white-space: nowrap; box-shadow: inset 0 -1px 0 var(--rule); }
.scroll tbody tr + tr > * { border-top: 1px solid var(--rule); }
.scroll tbody th { font-weight: 550; min-width: 9rem; overflow-wrap: anywhere; position: sticky; left: 0;
  background: var(--card); }
.scroll .number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.scroll .prompt { min-width: 16rem; }
th button { all: unset; cursor: pointer; }
th button::after { content: " ↕"; opacity: .5; }
th[aria-sort="ascending"] button::after { content: " ↑"; opacity: 1; }
th[aria-sort="descending"] button::after { content: " ↓"; opacity: 1; }

.settings { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 0 2rem;
  margin: 0; }
.settings div { display: grid; grid-template-columns: 9.5rem 1fr; gap: .75rem; padding: .3rem 0;
  border-bottom: 1px solid var(--rule); }
.settings dd { margin: 0; overflow-wrap: anywhere; font-size: .9rem; }

.tools { display: flex; flex-wrap: wrap; align-items: center; gap: .5rem 1.1rem; margin: .6rem 0; font-size: .9rem; }
.tools label { display: flex; align-items: center; gap: .4rem; min-width: 0; max-width: 100%; }
.tools[hidden] { display: none; }
select { font: inherit; color: inherit; background: var(--card); border: 1px solid var(--rule); border-radius: .35rem;
  padding: .2rem .4rem; min-width: 0; max-width: 24rem; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 17.5rem), 1fr)); gap: .8rem;
  margin: .8rem 0 0; padding: 0; list-style: none; }
.gallery > li { min-width: 0; }
.gallery > li[hidden] { display: none; }
.pair { margin: 0; height: 100%; }
.pictures { display: grid; grid-template-columns: 1fr 1fr; gap: .4rem; margin-bottom: .5rem; }
.pictures div { min-width: 0; }
.pictures img { display: block; width: 100%; height: auto; border-radius: .3rem; background: var(--track); }
.pictures img.crisp { image-rendering: pixelated; }
.pictures span { display: block; font-size: .75rem; color: var(--soft); text-align: center; }
.pair figcaption { overflow-wrap: anywhere; line-height: 1.4; font-size: .8rem; }
.pair h3 { color: var(--ink); }
.score { font-size: .9rem; color: var(--ink); font-variant-numeric: tabular-nums; margin: .1rem 0 .25rem; }
.score b { font-weight: 650; }
.score .passed { color: var(--link); } .score .failed { color: var(--warn-ink); }
.pair .quote { margin: 0 0 .25rem; }
.pair .origin { margin: 0; font-variant-numeric: tabular-nums; }
details summary { cursor: pointer; color: var(--soft); font-size: .875rem; margin: .5rem 0; }
footer { margin-top: 3rem; color: var(--soft); font-size: .85rem; }
@media (max-width: 34rem) {
  .wrap { padding: 1.1rem .9rem 2rem; }
  h1 { font-size: 1.4rem; }
  .cards { grid-template-columns: 1fr 1fr; gap: .5rem; }
  .card { padding: .65rem .75rem; }
  .cards .figure { font-size: 1.3rem; }
  .settings div { grid-template-columns: 7.5rem 1fr; }
  .scroll th, .scroll td { padding: .4rem .55rem; }
  .scroll tbody th { min-width: 10rem; max-width: 12rem; font-size: .8rem; }
  .multiples { grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .5rem; }
  .multiples .card { padding: .55rem .6rem .4rem; }
}
@media print {
  .scroll.long { max-height: none; }
  .card, figure { break-inside: avoid; }
}
"""
