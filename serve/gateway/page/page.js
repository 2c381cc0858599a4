// The playground: one prompt to every model, each answer in its column as it comes.

import { call, inWords, useKey } from "./page-ask.js";
import { Card, Column, about, classifies, make, reads } from "./page-parts.js";

const KEY = "gradus-key";
const LEVELS = { L0: "general base", L1: "industry", L2: "this task" };

const at = (id) => document.getElementById(id);

function show(id, text) {
  at(id).hidden = !text;
  at(id).textContent = text;
}

// ---- the family

let models = [];
const leftOut = new Set();

function entry(model) {
  const { base, version, ungated, release } = about(model);
  const tick = make("input");
  tick.type = "checkbox";
  tick.checked = !leftOut.has(model.id);
  tick.addEventListener("change", () => {
    if (tick.checked) leftOut.delete(model.id);
    else leftOut.add(model.id);
  });
  const does = reads(model) ? "classifies" : classifies(model) ? "chats, classifies" : "chats";
  const number = release ? `version ${release.number}` : "";
  const place = [does, base ? `over ${base}` : "", number, version ?? ""];
  const more = make("p", "soft", place.filter(Boolean).join(" · "));
  const head = make("div", "head", make("label", "", tick, model.id));
  if (ungated === true) head.append(make("span", "chip fail", "✕ UNGATED"));
  if (ungated === false) head.append(make("span", "chip pass", "✓ gated"));
  return make("li", "", head, more);
}

function drawFamily() {
  const levels = [...new Set(models.map((model) => about(model).level ?? "–"))].sort();
  at("family").replaceChildren(...levels.map((level) => {
    const name = make("p", "name", make("b", "", level), make("span", "", LEVELS[level] ?? ""));
    const here = models.filter((model) => (about(model).level ?? "–") === level);
    return make("li", "step", name, make("ul", "", ...here.map(entry)));
  }));
  at("title").textContent = about(models[0]).bundle ?? "gradus";
  document.title = `${at("title").textContent} · gradus`;
  at("no-chat").hidden = !models.every(reads);
  at("measured").hidden = models.every(reads);
  at("no-classifier").hidden = models.some(classifies);
  lay(models);
}

// Fresh columns and cards, in the family's order.
function lay(chosen) {
  const columns = chosen.filter((model) => !reads(model)).map((model) => new Column(model));
  const cards = chosen.filter(classifies).map((model) => new Card(model));
  at("answers").replaceChildren(...columns.map((part) => part.node));
  at("classified").replaceChildren(...cards.map((part) => part.node));
  return [...columns, ...cards];
}

async function enter() {
  try {
    models = (await (await call("v1/models")).json()).data;
  } catch (error) {
    if (error.status === 401) askForKey(key && error.message);
    else show("no-models", inWords(error));
    return;
  }
  const order = (model) => `${about(model).level ?? "–"} ${model.id}`;
  models.sort((one, other) => order(one).localeCompare(order(other)));
  show("no-models", models.length ? "" : "This server lists no model for you.");
  at("key-form").hidden = true;
  at("key-kept").hidden = !key;
  at("room").hidden = !models.length;
  if (models.length) drawFamily();
}

// ---- the key, and the two forms

let key = "";

function keep(value) {
  key = value;
  useKey(value);
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

function askForKey(fault = "") {
  keep("");
  at("key-kept").hidden = true;
  at("key-form").hidden = false;
  show("key-fault", fault);
  at("key").setAttribute("aria-invalid", String(Boolean(fault)));
  at("key").focus();
}

at("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = at("key").value.trim();
  at("key").value = "";
  // Other letters cannot stand in a header.
  if (!/^[!-~]+$/.test(given)) return askForKey("A key has letters, digits and signs, no spaces.");
  show("key-fault", "");
  keep(given);
  return enter();
});

// A key that was revoked meanwhile.
at("room").addEventListener("refused", (event) => {
  if (key) askForKey(event.detail);
});

at("forget").addEventListener("click", () => {
  running?.abort();
  at("room").hidden = true;
  askForKey();
});

let running = null;

async function askAll() {
  if (running || !at("ask-form").reportValidity()) return;
  const chosen = models.filter((model) => !leftOut.has(model.id));
  if (!chosen.length) return void (at("state").textContent = "No model is ticked above.");
  const parts = lay(chosen);
  const asked = {
    prompt: at("prompt").value, temperature: at("temperature").valueAsNumber,
    most: at("most").valueAsNumber,
  };
  running = new AbortController();
  busy(true, "Asking …");
  parts[0].node.scrollIntoView({ block: "nearest" });
  await Promise.all(parts.map((part) => part.ask(asked, running.signal)));
  busy(false, running.signal.aborted ? "Stopped." : "Done.");
  running = null;
}

function busy(yes, state) {
  const stop = at("stop");
  if (!yes && document.activeElement === stop) at("ask").focus();
  stop.disabled = !yes;
  at("ask").setAttribute("aria-disabled", String(yes));
  at("state").textContent = state;
}

at("stop").addEventListener("click", () => running?.abort());
at("ask-form").addEventListener("submit", (event) => {
  event.preventDefault();
  askAll();
});
at("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    askAll();
  }
});

if (document.documentElement.dataset.key === "needed") {
  keep(sessionStorage.getItem(KEY) ?? "");
  if (key) enter();
  else askForKey();
} else {
  enter();
}
