"""The page's style sheet: light and dark, screen, phone and paper."""

from __future__ import annotations

STYLE = """
:root{--paper:#ffffff;--panel:#f6f7f9;--ink:#16202b;--soft:#5b6775;--line:#dde2e8;
--a:#1d5fd1;--b:#b4540a;--c:#0f7b6c;--d:#7d3fd6;--e:#b0257b;--f:#5f7310;--g:#0a7ea4;--h:#7a5230;
--pass:#12703c;--fail:#b3261e;--open:#8a5a00;--pass-bg:#e2f4e8;--fail-bg:#fde7e5;--open-bg:#fdf0d5}
@media (prefers-color-scheme:dark){:root{--paper:#11161c;--panel:#1a212a;--ink:#e8edf2;
--soft:#9aa7b5;--line:#2d3743;--a:#7aabff;--b:#f2a15a;--c:#4fd1b5;--d:#c4a0ff;--e:#ff8fcf;
--f:#c5d86d;--g:#67d0f0;--h:#d9b48f;--pass:#7fdca3;--fail:#ff9a92;--open:#f4c86a;
--pass-bg:#123524;--fail-bg:#43201d;--open-bg:#3d2f10}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-behavior:smooth}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:1040px;margin:0 auto;padding:40px 24px 64px}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 10px;letter-spacing:-.01em;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:48px 0 12px;padding-bottom:6px;border-bottom:1px solid var(--line)}
h3{font-size:1rem;margin:20px 0 8px}h4{font-size:.9rem;margin:16px 0 4px}
p{margin:8px 0;max-width:72ch}
.soft,figcaption,.caption{color:var(--soft);font-size:.875rem}
nav{display:flex;flex-wrap:wrap;gap:4px 16px;margin:26px 0 0;font-size:.875rem}
nav a{color:var(--soft);text-decoration:none}nav a:hover{color:var(--a);text-decoration:underline}
.advice{background:var(--panel);border-left:4px solid var(--a);border-radius:0 10px 10px 0;
padding:18px 22px 14px;margin:24px 0 0}
.advice h2{border:0;margin:0;padding:0;font-size:.875rem;color:var(--soft)}
.advice .lead{font-size:1.3rem;line-height:1.4;margin:4px 0 10px;font-weight:600}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:14px;
margin:24px 0 0}
.tile{background:var(--panel);border-radius:10px;padding:14px 16px}
.tile b{display:block;font-size:1.65rem;line-height:1.25;font-variant-numeric:tabular-nums}
.tile span{display:block;font-size:.85rem;color:var(--soft)}
.ladder{list-style:none;margin:0;padding:0;display:grid;gap:10px;align-items:end;
grid-auto-flow:column;grid-auto-columns:minmax(0,1fr)}
.step{background:var(--panel);border-radius:10px;border-top:4px solid var(--a);padding:12px 16px}
.step.L0{min-height:14rem}.step.L1{min-height:17.5rem}.step.L2,.step.control{min-height:21rem}
.step.control{background:none;border:1.5px dashed var(--b)}
.step .name b{font-size:1.2rem;margin-right:8px}.step .name span{color:var(--soft)}
.step dl{display:block;margin:8px 0 0}.step dl div{margin:0 0 8px}.step dt{font-size:.82rem}
.step dd b{font-size:1.1rem;font-variant-numeric:tabular-nums}.step dd span{font-size:.82rem}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr));gap:20px}
.plots>*,.wide>*,.pair>*{min-width:0}
.wide{margin:0 0 16px}
.stacks{columns:400px 2;column-gap:20px}.stacks figure{margin-bottom:20px}
figure{margin:0;background:var(--panel);border-radius:10px;padding:16px 16px 12px;
break-inside:avoid}
figure h3,figure h4{margin:0 0 8px;font-size:1rem}
figcaption{margin-top:8px}.split{margin:10px 0 6px;font-size:.875rem}
.live{display:none}.drawn .live{display:block}.drawn .still{display:none}
.still{overflow-x:auto}.still svg{min-width:440px;max-width:760px;margin:0 auto}
.chart:not(.drawn) .live{display:block;min-height:0!important;height:1px}
.legend{list-style:none;margin:6px 0 0;padding:0;display:flex;flex-wrap:wrap;gap:2px 16px;
font-size:.875rem}
.legend li{display:flex;align-items:center;gap:7px}
.legend [role=button]{cursor:pointer}.legend .off{opacity:.4;text-decoration:line-through}
.key{display:inline-block;width:18px;height:0;border-top:3px solid;border-color:inherit}
.key.dashes{border-top-style:dashed}
.key.a{color:var(--a)}.key.b{color:var(--b)}.key.c{color:var(--c)}.key.d{color:var(--d)}
.key.e{color:var(--e)}.key.f{color:var(--f)}.key.g{color:var(--g)}.key.h{color:var(--h)}
.key.soft{color:var(--soft)}
svg{display:block;width:100%;height:auto;font:13px system-ui,-apple-system,"Segoe UI",sans-serif}
.live svg{width:auto;font:inherit}
figure>svg{max-width:500px}
svg text{fill:var(--ink)}svg .axis{fill:var(--soft)}svg .grid{stroke:var(--line)}
svg .halo,.live .text text{paint-order:stroke;stroke:var(--panel);stroke-width:4px;
stroke-linejoin:round}
svg .small{font-size:11px}svg .tiny{font-size:8px}
svg .chance{stroke:var(--soft);stroke-dasharray:5 4}
.a{stroke:var(--a);fill:var(--a)}.b{stroke:var(--b);fill:var(--b)}.c{stroke:var(--c);fill:var(--c)}
.d{stroke:var(--d);fill:var(--d)}.e{stroke:var(--e);fill:var(--e)}.f{stroke:var(--f);fill:var(--f)}
.g{stroke:var(--g);fill:var(--g)}.h{stroke:var(--h);fill:var(--h)}
.still .soft{stroke:var(--soft);fill:var(--soft)}
svg text.a,svg text.b,svg text.soft{stroke:none}
.still polyline,svg polyline{fill:none!important;stroke-width:2.25}
svg polyline.thin{stroke-width:1.8;stroke-linejoin:round}svg .faint{opacity:.3}
svg .dashes{stroke-dasharray:6 4}svg .wash{stroke:none;opacity:.16}
svg circle.hollow,svg .hollow{fill:var(--panel)}rect.a,rect.b{stroke:none}
rect.soft{fill:var(--soft);opacity:.6}rect.pale{fill:var(--line)}
.scroll{overflow-x:auto;margin:8px 0}
table{border-collapse:collapse;width:100%;font-size:.9rem}
.caption{margin:22px 0 4px;max-width:none}
th,td{padding:7px 10px;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
th{font-weight:600;color:var(--soft);font-size:.82rem;white-space:nowrap}
th:first-child,td:first-child{padding-left:0}
td:first-child{white-space:nowrap}
td .wide{margin:0;white-space:normal}
.keep{white-space:nowrap}
.label{overflow-wrap:anywhere;white-space:normal}td .label{display:block;min-width:6rem}
td .wide{min-width:11rem;overflow-wrap:anywhere}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.chip{display:inline-block;border-radius:999px;padding:1px 11px;font-size:.85rem;font-weight:600;
white-space:nowrap;background:var(--panel);color:var(--soft);border:1px solid currentColor}
.chip.pass{background:var(--pass-bg);color:var(--pass)}
.chip.fail{background:var(--fail-bg);color:var(--fail)}
.chip.undecided{background:var(--open-bg);color:var(--open)}
.said{padding-left:20px;margin:8px 0;max-width:80ch}.said li{margin:6px 0}
.items{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:14px}
.items article{background:var(--panel);border-radius:10px;padding:12px 16px;break-inside:avoid;
min-width:0;overflow-wrap:anywhere;font-size:.9rem}
.items .text{margin:0 0 6px;font-size:.95rem}.items .gold{margin:0 0 6px;color:var(--soft)}
.items .gold b{color:var(--ink)}
.items ul{list-style:none;margin:0;padding:0}
.items li{display:grid;grid-template-columns:18px minmax(0,5fr) minmax(0,6fr);gap:6px}
.items li>span{color:var(--soft)}.items li b{font-weight:500}.items i{font-style:normal}
i.right{color:var(--pass)}i.wrong{color:var(--fail)}
.sides{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,270px),1fr));gap:14px}
.sides>div{background:var(--panel);border-radius:10px;padding:12px 16px;min-width:0}
.sides+.sides{margin-top:14px}.sides h4{margin:0;font-size:1rem}.sides .scroll{margin:4px 0}
.sides table{font-size:.85rem}.sides th,.sides td{padding:4px 0 4px 8px}
.sides th{white-space:normal;vertical-align:bottom}
.sides th:first-child,.sides td:first-child{padding-left:0}
.sides td:first-child{white-space:normal}
.risks td:first-child{font-weight:600}.risks td i{color:var(--soft)}
.pair{display:grid;grid-template-columns:minmax(0,3fr) minmax(0,2fr);gap:24px;align-items:start}
.pair .caption{margin-top:0}.pair table{font-size:.85rem}.pair td .wide{min-width:0}

dl{display:grid;grid-template-columns:minmax(90px,max-content) 1fr;gap:5px 18px;margin:4px 0}
dt{color:var(--soft);font-size:.9rem}
dd{margin:0;font-size:.9rem;min-width:0;overflow-wrap:anywhere;font-variant-numeric:tabular-nums}
dd>ul,.facts ul{margin:0;padding-left:18px}
summary{cursor:pointer;padding:6px 0;font-weight:600}details .plots{margin:8px 0 20px}
@media (max-width:760px){.pair{grid-template-columns:minmax(0,1fr)}}
@media (max-width:560px){main{padding:24px 16px 48px}h1{font-size:1.5rem}
.tile b{font-size:1.3rem}dl{grid-template-columns:1fr;gap:1px}dd{margin-bottom:8px}
.advice{padding:14px 16px 10px}.advice .lead{font-size:1.1rem}figure{padding:12px 10px}
.ladder{grid-auto-flow:row}li.step{min-height:0!important}
.step.L1{margin-left:12px}.step.L2,.step.control{margin-left:24px}
.items li{grid-template-columns:18px 1fr}.items li b{grid-column:2}
nav{flex-wrap:nowrap;overflow-x:auto;white-space:nowrap;padding-bottom:8px}
.tiles{grid-template-columns:1fr 1fr}}
@media print{:root{--paper:#ffffff;--panel:#ffffff;--ink:#000000;--soft:#444444;--line:#bbbbbb;
--a:#1d5fd1;--b:#b4540a;--c:#0f7b6c;--d:#7d3fd6;--e:#b0257b;--f:#5f7310;--g:#0a7ea4;--h:#7a5230;
--pass:#12703c;--fail:#b3261e;--open:#8a5a00;--pass-bg:#e2f4e8;--fail-bg:#fde7e5;
--open-bg:#fdf0d5}
body{font-size:10.5pt;print-color-adjust:exact;-webkit-print-color-adjust:exact}
main{max-width:none;padding:0}h2{break-after:avoid;margin-top:28px}nav{display:none}
.live,.drawn .live{display:none!important}.drawn .still{display:block}
.still svg{min-width:0;max-width:14cm}
tr,.tile,.step{break-inside:avoid}table,.sides table,.pair table{font-size:7.5pt}
th,td{padding:3px 4px}th{font-size:7pt;white-space:normal}.chip{font-size:7.5pt;padding:0 8px}
td:first-child{white-space:normal}.screen{display:none}td .wide,td .label{min-width:0}
.step.L0{min-height:19rem}.step.L1{min-height:20.5rem}.step.L2,.step.control{min-height:22rem}
.items article{font-size:8pt}.items .text{font-size:8.5pt}
.tile{padding:8px 12px}.tile b{font-size:1.15rem}.step b{font-size:1rem!important}.step dd span{
display:block}
.tile,figure,.items article,.sides>div{border:1px solid var(--line)}.scroll{overflow:visible}
details::details-content{content-visibility:visible;height:auto}summary{list-style:none}
.plots{grid-template-columns:1fr 1fr}.pair{display:block}.items{grid-template-columns:1fr 1fr}}
"""
