// The page's side of the wire: OpenAI's chat protocol, and what our server adds to it.
//
// Comes in: messages and settings. Goes out: text as it arrives, or `Trouble` in words that a person can act on.
// Addresses are relative, so the page works behind any prefix. Knows nothing of conversations or elements.

import { jot, jotted } from "./store.js";

let key = jotted("sessionStorage", "key") ?? "";

export function useKey(value) {
  key = value.trim();
  jot("sessionStorage", "key", key);
}

/** `message` says what went wrong and what to do. `kind` is for the page: away, key, busy, broken or refused. */
export class Trouble extends Error {
  constructor(kind, message, retryAfter = null) {
    super(message);
    this.kind = kind;
    this.retryAfter = retryAfter; // seconds
  }
}

// By code, then by status; whatever is not here is told in the server's own words.
const WORDS = {
  context_length_exceeded:
    "The conversation is too long for this model. Shorten the question, remove a picture, or start a new conversation.",
  stopping: "The server is stopping and takes no more questions.",
  401: "The server asks for an API key.",
  413: "Too large for the server. Remove a picture or shorten the text.",
  429: "The server is full just now.",
};
const KINDS = { 401: "key", 429: "busy", 503: "busy" };

function troubleOf(status, error, retryAfter) {
  const told = error?.message ? `The server says: ${error.message}` : `The server answered with status ${status}.`;
  const tooMany = error?.code === "invalid_value" && error.param === "messages";
  const words = WORDS[tooMany ? "context_length_exceeded" : error?.code] ?? WORDS[status] ?? told;
  return new Trouble(KINDS[status] ?? "refused", words, retryAfter);
}

async function send(path, { body, signal } = {}) {
  const headers = { "Content-Type": "application/json", ...(key && { Authorization: `Bearer ${key}` }) };
  const method = body ? "POST" : "GET";
  let response;
  try {
    response = await fetch(path, { method, headers, signal, body: body && JSON.stringify(body), cache: "no-store" });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Trouble("away", "The server does not answer. Your words are kept; try again when it is back.");
  }
  if (response.ok) return response;
  const reply = await response.json().catch(() => null); // a proxy in between may answer in HTML
  const retryAfter = Number.parseInt(response.headers.get("Retry-After"), 10);
  throw troubleOf(response.status, reply?.error, Number.isNaN(retryAfter) ? null : retryAfter);
}

/** The data of server-sent events, a line each. Leaving the loop early closes the connection. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let pending = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (pending + value).split("\n\n");
      pending = blocks.pop();
      for (const block of blocks) yield block.replace(/^data: /, "");
    }
  } finally {
    reader.cancel().catch(() => {}); // of a connection that is already gone
  }
}

/** What is served: `[{id, card, limits, explain, collect}]`; the last two say whether the server does that. */
export async function models() {
  const { data } = await (await send("v1/models")).json();
  return data;
}

/**
 * One answer, piece by piece.
 *
 * Returns `{finish, usage}`, once the server has said that the answer is whole. Throws `Trouble`; whatever arrived
 * before was given to `onText`. When `signal` is aborted, the connection closes, and with it the work on the server.
 */
export async function ask({ model, messages, settings, signal, onText }) {
  const body = { model, messages, stream: true, stream_options: { include_usage: true }, ...settings };
  const response = await send("v1/chat/completions", { body, signal });
  let finish = null;
  let usage = null;
  try {
    for await (const data of events(response.body)) {
      if (data === "[DONE]") return { finish, usage };
      const event = JSON.parse(data);
      if (event.error) throw troubleOf(500, event.error, null);
      usage = event.usage ?? usage;
      const choice = event.choices?.[0];
      finish = choice?.finish_reason ?? finish;
      if (choice?.delta?.content) onText(choice.delta.content);
    }
  } catch (error) {
    if (signal?.aborted || error instanceof Trouble) throw error;
  }
  // Reading failed, or the stream ended without [DONE].
  throw new Trouble("broken", "The answer broke off: the connection to the server was lost.");
}

/** Keep a judgement as training data. `rating`: up or down; `correction`: what should have been said, or null. */
export const rate = (judgement) => send("v1/feedback", { body: judgement });

/** How much each patch of each picture mattered to the answer. */
export const explain = async (question) => (await send("v1/explain", { body: question })).json();
