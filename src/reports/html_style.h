// SPDX-License-Identifier: Apache-2.0
//
// The style sheet of the HTML reports: light and dark, one column on a phone.
#pragma once

namespace flashomni::html {

// Blue and orange mean computed and cached everywhere, as in symbols_picture().
inline constexpr char kStyle[] = R"(
:root {
  --page: #f6f7f9; --card: #ffffff; --text: #1c2430; --quiet: #5b6675; --line: #dde2e9;
  --computed: #1f4e79; --left-out: #f0a03c; --full: #8a95a3; --update: #1f4e79;
  --dispatch: #f0a03c; --skip: #5aa469; --warn: #9a3412; --code: #eef1f5;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12161c; --card: #1b212a; --text: #e6eaf0; --quiet: #9aa6b5; --line: #303946;
    --computed: #2d6299; --left-out: #f0a03c; --full: #768395; --update: #4f8fd0;
    --dispatch: #f0a03c; --skip: #6fbf80; --warn: #fdba74; --code: #10141a;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 20px 16px 60px; }
h1 { font-size: 1.55rem; line-height: 1.25; margin: 8px 0 16px; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 10px; overflow-wrap: anywhere; }
h3 { font-size: 1rem; margin: 18px 0 6px; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 16px; margin: 0 0 16px; }
p { margin: 6px 0; } .quiet { color: var(--quiet); font-size: .9rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 10px;
  margin: 14px 0 0; }
.facts div { min-width: 0; }
.facts dt { color: var(--quiet); font-size: .82rem; }
.facts dd { margin: 0; font-weight: 600; overflow-wrap: anywhere;
  font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 10px; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { color: var(--quiet); font-weight: 600; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
pre { background: var(--code); border: 1px solid var(--line); border-radius: 6px; padding: 10px;
  margin: 8px 0; white-space: pre-wrap; overflow-wrap: anywhere;
  font: .85rem/1.45 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 220px), 1fr));
  gap: 12px; }
.pictures.one { grid-template-columns: minmax(0, 420px); }
.pictures.many { grid-template-columns: repeat(auto-fill, minmax(140px, 1fr)); }
figure { margin: 0; } figcaption { color: var(--quiet); font-size: .85rem; margin-top: 4px;
  overflow-wrap: anywhere; }
.pictures img { display: block; width: 100%; height: auto; border-radius: 6px; background: #fff; }
.maps { display: grid; grid-template-columns: repeat(auto-fill, minmax(76px, 1fr)); gap: 8px;
  margin: 4px 0 14px; }
.maps img { display: block; width: 100%; height: auto; image-rendering: pixelated;
  border: 1px solid var(--line); }
.maps figcaption { font-size: .72rem; line-height: 1.25; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--quiet); font-size: 11px; }
.chart { overflow-x: auto; } .chart svg { min-width: 760px; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 6px 0; font-size: .85rem;
  color: var(--quiet); }
.legend i { display: inline-block; width: 12px; height: 12px; border-radius: 3px;
  margin-right: 6px; vertical-align: -1px; border: 1px solid var(--line); }
summary { cursor: pointer; padding: 6px 0; font-weight: 600; overflow-wrap: anywhere; }
.warn { color: var(--warn); }
ul { margin: 6px 0; padding-left: 20px; } li { margin: 3px 0; overflow-wrap: anywhere; }
)";

}  // namespace flashomni::html
