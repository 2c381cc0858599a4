// What stands below the prompt: a column for each model that writes, a card for each that reads.
// Whatever a server says becomes a text node, and is never read as HTML.

import { Refused, call, inWords, read } from "./page-ask.js";

const SHOWN_LABELS = 6;
const percent = (share) => `${(100 * share).toFixed(1)} %`;

export function make(tag, name = "", ...content) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  node.append(...content);
  return node;
}

export const about = (model) => model.metadata ?? {};
export const reads = (model) => about(model).task === "classify";
export const classifies = (model) => reads(model) || about(model).classifies === true;

// What a column of writing and a card of reading have in common.
class Part {
  constructor(model, ...content) {
    const { level = "", version } = about(model);
    this.model = model;
    const head = make("h3", "", make("span", "", level ?? ""), model.id);
    this.node = make("article", "", head, ...content);
    if (version) head.title = `version ${version}`;
    this.node.setAttribute("aria-label", `${level ?? ""} ${model.id}`.trim());
  }

  // Never throws: what goes wrong in one column stays there.
  async ask(asked, signal) {
    this.node.setAttribute("aria-busy", "true");
    try {
      await this.answer(asked, signal);
    } catch (error) {
      if (signal.aborted) {
        this.note("stopped");
        return;
      }
      const fault = make("p", "fault", inWords(error));
      fault.setAttribute("role", "alert");
      this.node.append(fault);
      if (error.status === 401) {
        const told = { bubbles: true, detail: error.message };
        this.node.dispatchEvent(new CustomEvent("refused", told));
      }
    } finally {
      this.node.setAttribute("aria-busy", "false");
    }
  }

  note(text) {
    this.node.append(make("p", "soft", text));
  }
}

// A chat's answer as it streams, and how fast it came.
export class Column extends Part {
  constructor(model) {
    const text = document.createTextNode("");
    const answer = make("div", "answer", text);
    answer.setAttribute("aria-live", "polite");
    const figures = make("dl", "figures");
    super(model, answer, figures);
    this.text = text;
    this.figures = Object.fromEntries(
      ["first token", "tokens/s", "tokens"].map((name) => {
        const value = make("dd", "", "–");
        figures.append(make("div", "", make("dt", "", name), value));
        return [name, value];
      }),
    );
  }

  async answer({ prompt, temperature, most }, signal) {
    const began = performance.now();
    const answer = await call("v1/chat/completions", {
      model: this.model.id, messages: [{ role: "user", content: prompt }], temperature,
      max_tokens: most, stream: true, stream_options: { include_usage: true },
    }, signal);
    let [first, last, chunks, tokens, ending, done] = [0, 0, 0, null, "", false];
    for await (const data of read(answer)) {
      if (data === "[DONE]") {
        done = true;
        break;
      }
      const event = JSON.parse(data);
      if (event.error) {
        throw new Refused(`The answer broke off: ${event.error.message ?? "no reason was given"}.`);
      }
      tokens = event.usage?.completion_tokens ?? tokens;
      const choice = event.choices?.[0];
      if (choice) {
        last = performance.now();
        const said = choice.delta?.content ?? "";
        ending = choice.finish_reason ?? ending;
        if (said) {
          first ||= last;
          chunks += 1;
          this.text.appendData(said);
        }
      }
      this.measure(first && first - began, last - first, tokens, chunks);
    }
    if (!done) throw new Refused("The answer broke off: the stream ended before its end mark.");
    if (!chunks) this.note("an empty answer");
    if (ending === "length") this.note("cut at max tokens");
  }

  // Where the engine counts no tokens, a chunk is taken for one, and the figure says so.
  measure(firstMs, restMs, tokens, chunks) {
    if (!firstMs) return;
    const count = tokens ?? chunks;
    const roughly = tokens === null ? "≈ " : "";
    const rate = count > 1 && restMs >= 1 ? (1000 * (count - 1)) / restMs : null;
    this.figures["first token"].textContent =
      firstMs < 1000 ? `${Math.round(firstMs)} ms` : `${(firstMs / 1000).toFixed(2)} s`;
    this.figures["tokens"].textContent = roughly + count;
    this.figures["tokens/s"].textContent =
      rate === null ? "–" : roughly + rate.toFixed(rate < 100 ? 1 : 0);
  }
}

// A head's probabilities as bars.
export class Card extends Part {
  constructor(model) {
    const verdict = make("p", "verdict", make("span", "soft", "Nothing asked yet."));
    verdict.setAttribute("aria-live", "polite");
    super(model, verdict);
    this.verdict = verdict;
  }

  async answer({ prompt }, signal) {
    this.verdict.replaceChildren();
    const asked = { model: this.model.id, input: prompt };
    const told = (await (await call("v1/classify", asked, signal)).json()).data[0];
    if (typeof told.value === "number") {
      this.verdict.append(make("b", "", told.value.toPrecision(4)));
      return;
    }
    const shares = Object.entries(told.probabilities).sort((one, other) => other[1] - one[1]);
    const given = new Set(told.labels ?? (told.label === null ? [] : [told.label]));
    const threshold = told.labels ? null : (about(this.model).threshold ?? null);
    if (given.size) {
      this.verdict.append(make("b", "", [...given].join(", ")));
    } else {
      const below = threshold === null ? "" : `, below its threshold of ${percent(threshold)}`;
      const likeliest = shares.length ? `: the likeliest has ${percent(shares[0][1])}${below}` : "";
      this.verdict.append(make("span", "chip open", "? no label"), ` It abstains${likeliest}.`);
    }
    const bars = shares.map(([label, share]) => bar(label, share, given.has(label), threshold));
    this.node.append(make("ol", "bars", ...bars.slice(0, SHOWN_LABELS)));
    const rest = bars.slice(SHOWN_LABELS);
    if (rest.length) {
      const head = make("summary", "", `${rest.length} more label${rest.length > 1 ? "s" : ""}`);
      this.node.append(make("details", "", head, make("ol", "bars", ...rest)));
    }
    if (threshold !== null) this.note(`The line: below ${percent(threshold)} it gives no label.`);
  }
}

// A label, that may go on in the next line after each underscore.
function breakable(label) {
  return label.split(/(?<=_)/).flatMap((part, index) => (index ? [make("wbr"), part] : [part]));
}

function bar(label, share, given, threshold) {
  const fill = make("span", "fill");
  fill.style.width = `${100 * share}%`;
  const track = make("span", "track", fill);
  track.setAttribute("aria-hidden", "true");
  if (threshold !== null) {
    track.append(make("span", "mark"));
    track.lastChild.style.left = `${100 * threshold}%`;
  }
  const name = make("span", given ? "label given" : "label", ...breakable(label));
  return make("li", "", name, track, make("span", "share", percent(share)));
}
