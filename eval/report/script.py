"""The page's script: plotly.js, what it draws, and the page's leave to run it."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import zlib
from collections.abc import Sequence

from eval.report.live import Spec
from eval.report.markup import Markup, joined, tag


@functools.cache
def _library() -> tuple[str, str, str]:
    """plotly.js packed, and what allows it: (base64 of zlib, hash of the script, its version)."""
    from plotly.offline import get_plotlyjs, get_plotlyjs_version

    source: str = get_plotlyjs()
    packed = base64.b64encode(zlib.compress(source.encode(), 9)).decode()
    return packed, _allowed(source), get_plotlyjs_version()


def scripts(specs: Sequence[Spec]) -> tuple[Markup, str]:
    """What stands at the page's end, and the scripts that its policy allows.

    The library is packed: it would be five times the rest of the page. A browser unpacks it
    by itself; one that cannot shows the still pictures.
    """
    unfold = tag("script", Markup(_UNFOLD))
    if not specs:
        return unfold, _allowed(_UNFOLD)
    packed, library, version = _library()
    # In a script element only `<` could end the data.
    data = json.dumps(specs, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    data = data.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    licence = f"plotly.js {version}, Copyright Plotly, Inc., MIT License"
    parts = [
        tag("script", Markup(data), type="application/json", id="specs"),
        tag("script", Markup(packed), type="text/plain", id="library", data_licence=licence),
        tag("script", Markup(_SCRIPT)),
        unfold,
    ]
    return joined(parts), f"{library} {_allowed(_SCRIPT)} {_allowed(_UNFOLD)}"


def _allowed(source: str) -> str:
    """A script as a policy names it: by its SHA-256."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


# The page's style unfolds what is printed; browsers from before 2025 do not know how.
_UNFOLD = """
(() => {
let closed = [];
addEventListener('beforeprint', () => {
  closed = [...document.querySelectorAll('details:not([open])')];
  closed.forEach(part => { part.open = true; });
});
addEventListener('afterprint', () => {
  closed.forEach(part => { part.open = false; });
  closed = [];
});
})();
"""

_SCRIPT = """
(() => {
const text = id => document.getElementById(id).textContent;
const specs = JSON.parse(text('specs'));
const dark = matchMedia('(prefers-color-scheme: dark)');
// A finger scrolls the page; a mouse may draw a frame to look closer.
const drag = matchMedia('(pointer: coarse)').matches ? false : 'zoom';
const drawn = new Set();
let inks = {};
const ink = name => inks[name] ??=
  getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim();
const pale = (hex, alpha) => 'rgba(' + [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16)) +
  ',' + alpha + ')';
const painted = value => {
  if (Array.isArray(value)) return value.map(painted);
  if (value === null || typeof value !== 'object') return value;
  if (value.ink) return value.alpha ? pale(ink(value.ink), value.alpha) : ink(value.ink);
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, painted(v)]));
};
const axis = {gridcolor: {ink: 'line'}, linecolor: {ink: 'line'}, zeroline: false,
  automargin: true, ticks: '', tickfont: {color: {ink: 'soft'}}, fixedrange: !drag};
const layout = (spec, narrow) => painted({
  paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)', showlegend: false,
  hovermode: 'closest', dragmode: drag, height: spec.height,
  margin: {l: 44, r: 14, t: 8, b: 44, pad: 4},
  font: {family: getComputedStyle(document.body).fontFamily, size: 13, color: {ink: 'ink'}},
  hoverlabel: {bgcolor: {ink: 'paper'}, bordercolor: {ink: 'line'}, align: 'left',
    font: {color: {ink: 'ink'}, size: 13}},
  ...spec.layout,
  xaxis: {...axis, ...spec.layout.xaxis},
  yaxis: {...axis, ...spec.layout.yaxis, ...(narrow && spec.narrow ? {ticktext: spec.narrow} : {})},
});
const keys = node => node.closest('figure').querySelectorAll('.legend li');
const draw = node => {
  const spec = specs[node.dataset.live];
  const hidden = [...keys(node)].filter(key => key.classList.contains('off'));
  const off = new Set(hidden.map(key => key.dataset.line));
  // Beside a narrow plot's points there is no room for words.
  const narrow = node.clientWidth < 520;
  const mode = name => narrow ? name?.replace('+text', '') : name;
  const data = painted(spec.data).map(
    trace => ({...trace, mode: mode(trace.mode), visible: !off.has(trace.legendgroup)}));
  return Plotly.react(node, data, layout(spec, narrow),
    {displayModeBar: false, responsive: true, typesetMath: false}).then(() => {
      drawn.add(node);
      keys(node).forEach(key => { key.tabIndex = 0; key.setAttribute('role', 'button'); });
      node.parentNode.classList.add('drawn');
    });
};
const start = async () => {
  const packed = Uint8Array.from(atob(text('library')), letter => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('deflate'));
  const script = document.createElement('script');
  script.textContent = await new Response(stream).text();
  document.head.append(script);
  const seen = new IntersectionObserver(found => {
    for (const {isIntersecting, target} of found) if (isIntersecting) {
      seen.unobserve(target);
      draw(target);
    }
  }, {rootMargin: '600px'});
  document.querySelectorAll('[data-live]').forEach(node => seen.observe(node));
  const toggle = event => {
    const key = event.target.closest('.legend li');
    if (!key || event.key && event.key !== 'Enter') return;
    const node = key.closest('figure').querySelector('[data-live]');
    if (!drawn.has(node)) return;
    key.classList.toggle('off');
    draw(node);
  };
  addEventListener('click', toggle);
  addEventListener('keydown', toggle);
  dark.addEventListener('change', () => { inks = {}; drawn.forEach(draw); });
};
if (window.DecompressionStream) start();
})();
"""
