// Asking the server: its refusals in words, its streams as events, the key on every call.

const MEANS = {
  400: "The request was refused", 401: "The key was refused", 403: "This is not allowed",
  404: "It is not here", 408: "The request came too slowly", 413: "The text is too long",
  422: "The request was refused", 429: "Too many requests", 501: "This server does not offer it",
  503: "The model is not available now", 504: "The model did not answer in time",
};

// A refusal in words that can be shown.
export class Refused extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

// Server-sent events, fed in pieces of any size (WHATWG HTML, "Parsing an event stream").
export class Events {
  #rest = "";
  #data = [];

  // Returns the data of all events that are whole by now.
  push(text) {
    this.#rest += text;
    const whole = [];
    for (;;) {
      const end = /\r\n|\n|\r/.exec(this.#rest);
      // The other half of a line's end may be in the next piece.
      if (!end || (end[0] === "\r" && end.index + 1 === this.#rest.length)) return whole;
      const line = this.#rest.slice(0, end.index);
      this.#rest = this.#rest.slice(end.index + end[0].length);
      const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line);
      if (field === "data") this.#data.push(value);
      if (line === "" && this.#data.length) whole.push(this.#data.splice(0).join("\n"));
    }
  }
}

// The data of an answer's events, as they come.
export async function* read(answer) {
  const events = new Events();
  const decoder = new TextDecoder();
  const reader = answer.body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read().catch(broken);
      if (done) return;
      yield* events.push(decoder.decode(value, { stream: true }));
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// What fetch throws where nobody listens, or a connection is cut.
function broken(error) {
  if (!(error instanceof TypeError)) throw error;
  throw new Refused("The server cannot be reached, or the connection broke.");
}

let key = "";

// The bearer of every call from now on; empty: none.
export function useKey(value) {
  key = value;
}

// A GET, or with a body a POST; what is not 200 becomes a refusal in words.
export async function call(path, body, signal) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const asked = { headers, signal, cache: "no-store", credentials: "omit" };
  if (body) {
    headers["Content-Type"] = "application/json";
    Object.assign(asked, { method: "POST", body: JSON.stringify(body) });
  }
  const answer = await fetch(path, asked).catch(broken);
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

async function refusal(answer) {
  let why = "";
  try {
    const told = (await answer.json()).error;
    why = typeof told === "string" ? told : String(told.message ?? "");
  } catch {
    why = "it gave no reason";
  }
  const wait = answer.headers.get("Retry-After");
  const again = /^\d+$/.test(wait ?? "") ? ` Try again in ${wait} s.` : "";
  const means = MEANS[answer.status] ?? "The server failed";
  const said = `${means} (${answer.status}): ${why}`.replace(/[.\s]*$/, ".");
  return new Refused(said + again, answer.status);
}

// Any failure as a sentence.
export function inWords(error) {
  return error instanceof Refused ? error.message : `The answer makes no sense: ${error.message}.`;
}
