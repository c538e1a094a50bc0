"""The page's style sheet: follows the reader's choice of light or dark, narrow or wide."""

STYLE = """
:root { color-scheme: light dark;
  --ink: #1a1a1a; --paper: #fdfdfb; --soft: #6b6b6b; --line: #ddd; --lift: #f3f3ef; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e6e1; --paper: #161617; --soft: #a3a19b; --line: #3a3a3c; --lift: #222224; }
}
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 58rem; padding: 1.5rem 1rem 4rem;
  color: var(--ink); background: var(--paper); font: 16px/1.5 system-ui, sans-serif }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .3rem }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem }
h3 { font-size: 1rem; margin: 1.5rem 0 .3rem }
p { color: var(--soft); margin: .3rem 0; font-size: .9rem }
.key { display: grid; grid-template-columns: repeat(auto-fit, minmax(12rem, 1fr));
  gap: .8rem; margin: 1.2rem 0 }
.key div { background: var(--lift); border-radius: .5rem; padding: .7rem .9rem }
.key b { display: block; font-size: 1.5rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }
th:first-child, td:first-child { text-align: left }
td small { color: var(--soft); display: block }
th.group { text-align: left; color: var(--soft); font-weight: normal; padding-top: .9rem }
td.absent { text-align: left; color: var(--soft) }
.facts td { white-space: normal; text-align: left; vertical-align: top }
.facts td:first-child { color: var(--soft); white-space: nowrap }
details { margin: .4rem 0 }
summary { cursor: pointer; font-size: .9rem }
img { display: block; max-width: 100%; height: auto; background: #fff; border-radius: .4rem; margin: .5rem 0 }
.sample { margin: 1.2rem 0 }
audio { width: 100%; height: 2.4rem }
"""
