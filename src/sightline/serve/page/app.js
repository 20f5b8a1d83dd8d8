// The page: what is said, and what happens when somebody presses something.
//
// A conversation is `{id, title, updated, exchanges}`. An exchange is a question `{text, pictures}` with `columns`,
// one for each model asked: `{model, tries, shown}`, since a question can be answered again.
// A try is `{text, state}` with a state of waiting, streaming, done, stopped or failed, and in time some of `trouble,
// waiting, finish, usage, seconds, rating, correction`. These objects are what is stored.

import { dataAddress, prepare } from "./pictures.js";
import { ask, explain, models, rate, Trouble, useKey } from "./server.js";
import { describeModels, readSettings, settings, setUpSettings } from "./panels.js";
import * as store from "./store.js";
import { at, el, exchangeView, icon, pictureList, refresh, refreshWords, sends, shownAnswer } from "./view.js";

const PATIENCE = 3; // times to ask again by ourselves when the server is full

const served = []; // the models, as GET /v1/models lists them
const conversations = [];
const busy = new Map(); // conversation's id -> AbortController of the answers on their way
let current = null; // the conversation on view; null: a new one, not yet begun
let pending = []; // pictures in the composer
let deleted = null; // the last one, until another goes

// ---- Asking

const newTry = () => ({ text: "", state: "waiting" });

/** What a model has said to a question, or another where it was not asked; empty where nobody said a word. */
function answerTo(exchange, model) {
  const { text } = shownAnswer(exchange.columns.find((column) => column.model === model) ?? exchange.columns[0]);
  return text.trim() && text;
}

/** What a model is told: this exchange, and before it those that were answered. */
function told(conversation, exchange, model) {
  const before = conversation.exchanges.slice(0, conversation.exchanges.indexOf(exchange));
  return [...before.filter((earlier) => answerTo(earlier, model)), exchange];
}

async function messagesFor(conversation, exchange, model) {
  const messages = settings.system ? [{ role: "system", content: settings.system }] : [];
  for (const each of told(conversation, exchange, model)) {
    const content = [];
    for (const { blob } of each.pictures) content.push({ type: "image_url", image_url: { url: await dataAddress(blob) } });
    if (each.text) content.push({ type: "text", text: each.text });
    messages.push({ role: "user", content });
    if (each !== exchange) messages.push({ role: "assistant", content: answerTo(each, model) });
  }
  return messages;
}

/** Asks for new answers in these columns, side by side, and keeps what comes. */
async function answerAll(conversation, exchange, columns) {
  if (busy.has(conversation.id)) return;
  const control = new AbortController();
  busy.set(conversation.id, control);
  conversation.updated = Date.now();
  for (const column of columns) {
    if (!served.some(({ id }) => id === column.model)) column.model = served[0].id; // it is not served any more
    column.tries = column.tries.filter((earlier) => earlier.text);
    column.shown = column.tries.push(newTry()) - 1;
    refresh(column);
  }
  showBusy();
  follow(true);
  say("Answering.");
  keep(conversation);
  try {
    await Promise.all(columns.map((column) => answerOne(conversation, exchange, column, control.signal)));
  } finally {
    busy.delete(conversation.id);
  }
  showBusy();
  keep(conversation);
  if (conversation === current) say(columns.map((column) => spokenAnswer(column)).join(" "));
}

async function answerOne(conversation, exchange, column, signal) {
  const answer = shownAnswer(column);
  const began = performance.now();
  const onText = (piece) => {
    answer.text += piece;
    answer.state = "streaming";
    soon(column);
  };
  try {
    const messages = await messagesFor(conversation, exchange, column.model);
    const question = { model: column.model, messages, settings: readSettings(), signal, onText };
    Object.assign(answer, await patiently(question, column), { state: "done" });
  } catch (error) {
    if (signal.aborted) answer.state = "stopped";
    else if (error instanceof Trouble) {
      Object.assign(answer, { state: "failed", trouble: { kind: error.kind, words: error.message } });
    } else throw error;
  } finally {
    answer.waiting = null;
    answer.seconds = (performance.now() - began) / 1000;
    refresh(column);
    follow();
  }
}

/** Asks, and when the server is full asks again after the time that it names. */
async function patiently(question, column) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await ask(question);
    } catch (error) {
      if (error.kind !== "busy" || error.retryAfter === null || attempt > PATIENCE) throw error;
      for (let left = error.retryAfter; left > 0; left -= 1) {
        shownAnswer(column).waiting = `${error.message} Asking again in ${left} s.`;
        refreshWords(column);
        await pause(1000, question.signal);
      }
      shownAnswer(column).waiting = null;
      refreshWords(column);
    }
  }
}

function pause(milliseconds, signal) {
  signal.throwIfAborted();
  return new Promise((resolve, reject) => {
    setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

function spokenAnswer(column) {
  const answer = shownAnswer(column);
  const who = served.length > 1 ? column.model : "Answer";
  const end = { stopped: "Stopped.", failed: answer.trouble?.words }[answer.state] ?? "";
  return `${who}: ${answer.text} ${end}`;
}

// ---- Showing

const due = new Set(); // columns with words that are not on the screen yet

/** Shows new words with the next frame, however many pieces came meanwhile. */
function soon(column) {
  if (due.size === 0) {
    requestAnimationFrame(() => {
      due.forEach(refreshWords);
      due.clear();
      follow();
    });
  }
  due.add(column);
}

let following = true; // whether the reader is at the end; who has scrolled up to read is left alone

function follow(now = false) {
  following ||= now;
  if (following) at("scroll").scrollTop = at("scroll").scrollHeight;
}

/** For screen readers: once when an answer is whole, not for each word. */
const say = (words) => (at("spoken").textContent = words);

function showAll() {
  const begun = current !== null;
  at("empty").hidden = begun;
  at("thread").hidden = !begun;
  at("thread-title").textContent = current?.title ?? "";
  document.title = begun ? `${current.title} – Sightline` : "Sightline";
  at("exchanges").replaceChildren(...(current?.exchanges ?? []).map((each) => exchangeView(each, acts)));
  showShelf();
  showBusy();
}

function showBusy() {
  const answering = current !== null && busy.has(current.id);
  document.body.classList.toggle("answering", answering);
  at("stop").hidden = !answering;
  at("send").hidden = answering;
}

function showShelf() {
  const buttons = () => [...at("conversations").querySelectorAll("button")];
  const focused = buttons().indexOf(document.activeElement);
  at("conversations").replaceChildren(
    ...conversations.map((conversation) =>
      el("li", {},
        el("button.title", { ariaCurrent: conversation === current, dir: "auto", onclick: () => open(conversation) },
          conversation.title),
        el("button.tool", { ariaLabel: `Delete ${conversation.title}`, onclick: () => remove(conversation) }, icon("cross")))));
  buttons()[focused]?.focus();
}

function showPending() {
  at("pending").hidden = pending.length === 0;
  at("pending").replaceChildren(
    ...pictureList(pending, (number) => {
      pending.splice(number, 1);
      showPending();
      at("question").focus();
    }));
}

/** Something to know where the question is written; with no words, nothing. */
function complain(words = "", ...buttons) {
  at("trouble").hidden = !words;
  at("trouble").replaceChildren(words, ...buttons);
}

// ---- Conversations

async function keep(conversation) {
  if (!conversations.includes(conversation)) return; // deleted while it was answered
  conversations.sort((one, other) => other.updated - one.updated);
  const surplus = conversations.splice(store.KEPT);
  showShelf();
  try {
    await store.save(conversation);
    for (const { id } of surplus) await store.remove(id);
    if (surplus.length) note(`This browser keeps the last ${store.KEPT} conversations; the oldest made room.`);
  } catch {
    notKept();
  }
}

const note = (words, ...buttons) => at("shelf-note").replaceChildren(words, ...buttons);

const notKept = () =>
  note("This browser does not keep conversations (a private window, or no room). They last until the page is closed.");

function open(conversation) {
  current = conversation;
  shelf(false);
  complain();
  showAll();
  follow(true);
  at("question").focus();
}

async function remove(conversation) {
  busy.get(conversation.id)?.abort();
  conversations.splice(conversations.indexOf(conversation), 1);
  deleted = conversation;
  if (conversation === current) current = null;
  showAll();
  const undo = el("button.plain", { onclick: restore }, "Undo");
  note("Deleted. ", undo);
  undo.focus();
  await store.remove(conversation.id).catch(notKept);
}

function restore() {
  conversations.push(deleted);
  open(deleted);
  keep(deleted);
}

async function recall() {
  try {
    conversations.push(...(await store.load()));
  } catch {
    notKept();
  }
  const trouble = { kind: "broken", words: "The page was closed before the answer was whole." };
  const columns = conversations.flatMap(({ exchanges }) => exchanges).flatMap((exchange) => exchange.columns);
  for (const answer of columns.flatMap(({ tries }) => tries)) {
    if (["waiting", "streaming"].includes(answer.state)) Object.assign(answer, { state: "failed", trouble });
  }
}

// ---- What the buttons do

const acts = {
  several: () => served.length > 1,
  explains: () => served.some((model) => model.explain),
  collects: () => served.some((model) => model.collect),
  after: (exchange) => current.exchanges.length - 1 - current.exchanges.indexOf(exchange),
  picturesOf: (exchange, { model }) => told(current, exchange, model).flatMap(({ pictures }) => pictures),
  enterKey: () => askForKey(),
  again: (exchange, column) => answerAll(current, exchange, [column]),
  walk(column, step) {
    column.shown += step;
    refresh(column);
    keep(current);
  },
  async copy(text) {
    say((await copied(text)) ? "Copied." : "The browser did not allow copying.");
  },
  resend(exchange, text, pictures) {
    if (busy.has(current.id)) return;
    current.exchanges.length = current.exchanges.indexOf(exchange);
    showAll();
    question(current, text, pictures);
  },
  async explain(exchange, column) {
    const messages = await messagesFor(current, exchange, column.model);
    return explain({ model: column.model, messages, answer: shownAnswer(column).text });
  },
  async rate(exchange, column, rating, correction) {
    const conversation = current;
    const answer = shownAnswer(column);
    const messages = await messagesFor(conversation, exchange, column.model);
    await rate({ model: column.model, messages, answer: answer.text, rating, correction });
    Object.assign(answer, { rating, correction });
    keep(conversation);
  },
};

async function copied(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text).then(() => true, () => false);
  const carrier = el("textarea.aside", { value: text }); // no clipboard without https, but on this machine
  document.body.append(carrier);
  carrier.select();
  const done = document.execCommand("copy");
  carrier.remove();
  return done;
}

/** Whom to ask: the model that is chosen beside the question, or all. */
function chosenModels() {
  const chosen = document.querySelector("#whom input:checked")?.value;
  return served.filter(({ id }) => !chosen || id === chosen).map(({ id }) => id);
}

function question(conversation, text, pictures) {
  const columns = chosenModels().map((model) => ({ model, tries: [newTry()], shown: 0 }));
  const exchange = { text, pictures, columns };
  conversation.exchanges.push(exchange);
  at("exchanges").append(exchangeView(exchange, acts)); // what is open above stays as it is
  at("question").focus();
  answerAll(conversation, exchange, columns);
}

/** A question to the conversation on view, or the first of a new one. */
function begin(text, pictures) {
  if (current === null) {
    const title = text.slice(0, 80) || "A picture";
    conversations.push({ id: `${Date.now()}-${Math.random()}`, title, updated: Date.now(), exchanges: [] });
    open(conversations.at(-1));
  }
  question(current, text, pictures);
}

async function submit() {
  await adding;
  const text = at("question").value.trim();
  if (!text && pending.length === 0) return;
  if (current !== null && busy.has(current.id)) return; // the words stay; Enter again when the answer is there
  if (served.length === 0) {
    connect();
    return;
  }
  const pictures = pending;
  pending = [];
  write("");
  showPending();
  complain();
  begin(text, pictures);
}

function write(text) {
  at("question").value = text;
  drafted();
}

/** Keeps what is typed over a reload, and the field as high as its words. */
function drafted() {
  const field = at("question");
  store.jot("sessionStorage", "draft", field.value);
  field.style.height = "auto";
  field.style.height = `${Math.min(field.scrollHeight, 240)}px`;
}

let adding = Promise.resolve(); // until the pictures given so far are in the composer

const addPictures = (files) => (adding = adding.then(() => preparePictures(files)));

async function preparePictures(files) {
  const troubles = [];
  for (const file of files) {
    const before = current?.exchanges.reduce((sum, { pictures }) => sum + pictures.length, 0) ?? 0;
    const most = served[0]?.limits?.pictures ?? 8; // in a conversation, since each question goes with all before it
    if (before + pending.length >= most) {
      troubles.push(`A conversation holds ${most} pictures at most. Start a new one for more.`);
      break;
    }
    try {
      pending.push(await prepare(file));
    } catch (error) {
      troubles.push(error.message);
    }
    showPending();
  }
  complain(troubles.join(" "));
  if (!troubles.length) say(`Pictures to send: ${pending.length}.`);
  at("question").focus();
}

// ---- The server

let seeking = null;

/** Learns what is served. While the server is away, says so and looks again every few seconds. */
async function connect() {
  try {
    served.splice(0, served.length, ...(await models()));
  } catch (error) {
    if (!(error instanceof Trouble)) throw error;
    if (error.kind === "key") askForKey(error.message);
    else {
      complain("The server does not answer. Looking for it.");
      clearTimeout(seeking);
      seeking = setTimeout(connect, 3000);
    }
    return;
  }
  complain();
  at("open-card").hidden = false;
  at("open-card").textContent = served.map(({ id }) => id).join(" and ");
  describeModels(served);
  at("whom").hidden = served.length < 2;
  const choice = (value, words) =>
    el("label", {}, el("input", { type: "radio", name: "whom", value, checked: value === "" }), el("span", {}, words));
  at("whom").replaceChildren(
    at("whom").querySelector("legend"), choice("", "side by side"), ...served.map(({ id }) => choice(id, id)));
  showAll();
}

function askForKey(words = "The server asks for an API key.") {
  complain(`${words} `, el("button.plain", { onclick: () => askForKey(words) }, "Enter the key"));
  at("settings").showModal();
  at("settings").querySelector("[name=key]").focus();
}

// ---- Events

function shelf(shown) {
  document.body.classList.toggle("shelf-open", shown);
  at("open-shelf").ariaExpanded = shown;
  at("main").inert = shown;
  if (shown) at("new").focus();
}

function listen() {
  at("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  at("question").addEventListener("keydown", (event) => {
    if (sends(event)) submit();
  });
  at("question").addEventListener("input", drafted);
  at("stop").addEventListener("click", () => {
    busy.get(current.id)?.abort();
    at("question").focus();
  });
  at("choose").addEventListener("click", () => at("files").click());
  at("files").addEventListener("change", async () => {
    await addPictures([...at("files").files]);
    at("files").value = ""; // so that the same file can be chosen again
  });
  at("new").addEventListener("click", () => open(null));
  at("open-shelf").addEventListener("click", () => shelf(true));
  at("veil").addEventListener("click", () => shelf(false));
  at("open-card").addEventListener("click", () => at("card").showModal());
  at("open-settings").addEventListener("click", () => at("settings").showModal());
  at("scroll").addEventListener("scroll", () => {
    following = at("scroll").scrollHeight - at("scroll").scrollTop - at("scroll").clientHeight < 8;
  });
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
    if (document.body.classList.contains("shelf-open")) {
      shelf(false);
      at("open-shelf").focus();
    } else if (!event.target.closest?.(".editor")) busy.get(current?.id)?.abort();
  });
  addEventListener("paste", (event) => {
    if (event.clipboardData.files.length === 0) return;
    event.preventDefault();
    addPictures([...event.clipboardData.files]);
  });
  addEventListener("pagehide", () => conversations.filter(({ id }) => busy.has(id)).forEach(keep));
  listenForDrops();
}

function listenForDrops() {
  const dragging = (on) => document.body.classList.toggle("dragging", on);
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    dragging(true);
  });
  addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) dragging(false); // it left the window
  });
  addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault(); // or the browser would open the file in place of the page
    dragging(false);
    addPictures([...event.dataTransfer.files]);
  });
}

async function showExamples() {
  const examples = await (await fetch("examples/examples.json")).json();
  at("examples").replaceChildren(
    ...examples.map(({ picture, alt, question: words }) =>
      el("li", {},
        el("button.example", {
          async onclick() {
            const file = await (await fetch(`examples/${picture}`)).blob();
            if (served.length) begin(words, [{ ...(await prepare(file)), name: picture, alt }]);
          },
        },
          el("img", { src: `examples/${picture}`, alt: "" }), el("span", {}, words)))));
}

for (const button of document.querySelectorAll("[data-icon]")) button.prepend(icon(button.dataset.icon));
setUpSettings((key) => {
  useKey(key);
  connect();
});
listen();
await recall();
write(store.jotted("sessionStorage", "draft") ?? "");
showAll();
at("question").focus();
connect();
showExamples();
