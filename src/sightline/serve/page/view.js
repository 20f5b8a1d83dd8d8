// From conversations to elements.
//
// Comes in: plain objects (see app.js for their shape) and `acts`, what the buttons do. Goes out: elements, new ones
// each time. Text that people or models wrote becomes text nodes here, or passes through markdown.js; no markup is
// ever put together from strings.

import { render } from "./markdown.js";
import { shownAddress } from "./pictures.js";

/** `el("button.plain", { onclick }, "Copy")`: an element with properties, listeners and children. */
export function el(name, properties = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const node = document.createElement(tag);
  if (tag === "button") node.type = "button"; // which submits no form, where nothing else is said
  node.classList.add(...classes);
  for (const [key, value] of Object.entries(properties)) {
    if (key in node) node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child != null && child !== false));
  return node;
}

export const at = (id) => document.getElementById(id);

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS(svg.namespaceURI, "use"));
  svg.firstChild.setAttribute("href", `#i-${name}`);
  return svg;
}

/** A small button with an icon. By `act` the focus finds it again when its surroundings are new. */
const tool = (act, label, onclick, more = {}) =>
  el("button.tool", { title: label, ariaLabel: label, "data-act": act, onclick, ...more },
    icon(TURNED[act] ?? act));

const TURNED = { down: "up", right: "left" }; // icons that are others upside down, which the style sheet sees to

export const shownAnswer = (column) => column.tries[column.shown];

// ---- Pictures

const described = (picture, number) => `Picture ${number + 1}: ${picture.alt ?? picture.name}`;

export const pictureList = (pictures, remove = null) =>
  pictures.map((picture, number) =>
    el("li", {},
      el("img", { src: shownAddress(picture.blob), alt: described(picture, number), title: picture.name }),
      remove && el("button.remove", { ariaLabel: `Remove picture ${number + 1}`, onclick: () => remove(number) },
        icon("cross"))));

/** The picture, dark but where the model looked. `heat`: over all of it, row by row, from 0 to 1. */
function heatView(picture, number, heat, width, height) {
  const canvas = el("canvas", { width, height, ariaHidden: "true" });
  const context = canvas.getContext("2d");
  const shade = context.createImageData(width, height);
  heat.forEach((value, place) => {
    shade.data[4 * place + 3] = 190 * (1 - Math.sqrt(value)); // the root lets weak heat be seen; 0 stays in view
  });
  context.putImageData(shade, 0, 0); // one pixel for each number: the style sheet enlarges it, and smooths in doing so
  return el("div.heat", {}, el("img", { src: shownAddress(picture.blob), alt: described(picture, number) }), canvas);
}

// ---- One question and its answers

export function exchangeView(exchange, acts) {
  return el("article.exchange", {},
    askedView(exchange, acts),
    el(exchange.columns.length > 1 ? "div.several" : "div", {},
      ...exchange.columns.map((column) => columnView(exchange, column, acts))));
}

function askedView(exchange, acts) {
  return el("div.asked", {},
    el("h2.aside", {}, "Question"),
    exchange.pictures.length > 0 && el("ul.pictures", {}, ...pictureList(exchange.pictures)),
    exchange.text && el("p.words", { dir: "auto" }, exchange.text),
    el("div.tools", {},
      tool("pencil", "Edit the question", (event) => edit(event.target.closest(".asked"), exchange, acts)),
      exchange.text && tool("copy", "Copy the question", () => acts.copy(exchange.text))));
}

/** Puts an editor in the question's place. */
function edit(asked, exchange, acts) {
  const pictures = [...exchange.pictures];
  const words = el("textarea", { value: exchange.text, rows: 3, dir: "auto", ariaLabel: "Edit the question" });
  const list = el("ul.pictures");
  const show = () =>
    list.replaceChildren(...pictureList(pictures, (number) => {
      pictures.splice(number, 1);
      show();
      words.focus();
    }));
  const cancel = () => {
    form.replaceWith(asked);
    asked.querySelector("[data-act=pencil]").focus();
  };
  const later = acts.after(exchange);
  const form = el("form.asked.editor", {
    onsubmit: (event) => {
      event.preventDefault();
      if (words.value.trim() || pictures.length) acts.resend(exchange, words.value.trim(), pictures);
    },
    onkeydown: (event) => {
      if (event.key === "Escape") cancel();
      if (sends(event)) form.requestSubmit();
    },
  },
    list, words,
    el("div.row", {},
      el("p.note", {}, later ? "Replaces all that follows." : ""),
      el("span.gap"),
      el("button.plain", { onclick: cancel }, "Cancel"),
      el("button.primary", { type: "submit" }, "Send again")));
  show();
  asked.replaceWith(form);
  words.focus();
}

/** Enter, but not while a word is being composed (Chinese, Japanese, Korean) and not for a new line. */
export function sends(event) {
  const enter = event.key === "Enter" && event.target.tagName === "TEXTAREA";
  if (!enter || event.shiftKey || event.isComposing) return false;
  event.preventDefault();
  return true;
}

function columnView(exchange, column, acts) {
  const several = exchange.columns.length > 1 || acts.several();
  const answer = shownAnswer(column);
  const busy = answer.state === "waiting" || answer.state === "streaming";
  const view = el("section.answer", { ariaBusy: busy, "data-state": answer.state },
    el("h3", { className: several ? "by" : "aside" }, several ? column.model : "Answer"),
    saidView(answer));
  if (answer.finish === "length") view.append(el("p.note", {}, "Cut at the longest answer that was allowed."));
  if (answer.state === "stopped") view.append(el("p.note", {}, answer.text ? "Stopped." : "Stopped before a word."));
  if (answer.trouble) view.append(troubleView(exchange, column, acts));
  if (!busy) view.append(toolsView(exchange, column, acts, view));
  faces.set(column, { view, rebuild: () => columnView(exchange, column, acts) });
  return view;
}

const faces = new WeakMap(); // column -> the element that shows it now

function saidView(answer) {
  const said = el("div.said", { dir: "auto" });
  if (answer.text) said.append(render(answer.text));
  else if (answer.state === "done") said.append(el("p.note", {}, "The model said nothing."));
  else if (answer.waiting) said.append(el("p.note", {}, answer.waiting));
  else if (answer.state === "waiting") said.append(el("span.dots", {}, el("i"), el("i"), el("i")));
  return said;
}

/** Shows the words that have come since: the body alone, so that nothing else moves. */
export function refreshWords(column) {
  const answer = shownAnswer(column);
  const view = faces.get(column)?.view;
  view?.setAttribute("data-state", answer.state);
  view?.querySelector(".said").replaceWith(saidView(answer));
}

/** Shows the column anew, with the focus where it was. */
export function refresh(column) {
  const face = faces.get(column);
  if (!face?.view.isConnected) return;
  const act = face.view.contains(document.activeElement) ? document.activeElement.dataset.act : null;
  const old = face.view;
  old.replaceWith(face.rebuild());
  const { view } = faces.get(column);
  if (act) (view.querySelector(`[data-act="${act}"]:enabled`) ?? view.querySelector(".tool"))?.focus();
}

function troubleView(exchange, column, acts) {
  const { kind, words } = shownAnswer(column).trouble;
  const onclick = () => acts.again(exchange, column);
  const again = el("button.plain", { "data-act": "again", onclick }, icon("again"), "Try again");
  return el("div.trouble", {}, el("p", {}, words),
    el("div.row", {},
      kind === "key" && el("button.plain", { onclick: acts.enterKey }, "Enter the key"),
      again, el("p.note.unknown", {}, "Not answered, so the model does not know of this question.")));
}

function toolsView(exchange, column, acts, view) {
  const answer = shownAnswer(column);
  const tools = el("div.tools");
  if (column.tries.length > 1) {
    tools.append(
      tool("left", "Earlier answer", () => acts.walk(column, -1), { disabled: column.shown === 0 }),
      el("span.count", {}, `${column.shown + 1} of ${column.tries.length}`),
      tool("right", "Later answer", () => acts.walk(column, 1), { disabled: answer === column.tries.at(-1) }));
  }
  if (answer.text) tools.append(tool("copy", "Copy the answer", () => acts.copy(answer.text)));
  if (!answer.trouble) tools.append(tool("again", "Answer again", () => acts.again(exchange, column)));
  if (answer.text && acts.explains() && acts.picturesOf(exchange, column).length) {
    const press = (event) => look(event.currentTarget, exchange, column, acts, view);
    tools.append(tool("eye", "Where it looked", press, { ariaExpanded: "false" }));
  }
  if (answer.text && acts.collects()) tools.append(...thumbs(exchange, column, acts, view));
  const count = answer.usage?.completion_tokens;
  const facts = `${count} token${count === 1 ? "" : "s"}, ${answer.seconds?.toFixed(1)} s`;
  if (count) tools.append(el("span.facts", {}, facts));
  return tools;
}

// ---- Where it looked

async function look(button, exchange, column, acts, view) {
  const open = view.querySelector(".looked");
  open?.remove();
  button.ariaExpanded = !open;
  if (open) return;
  const figure = el("figure.looked", {}, el("span.dots", {}, el("i"), el("i"), el("i")));
  view.append(figure);
  try {
    const { width, height, heat } = await acts.explain(exchange, column);
    const pictures = acts.picturesOf(exchange, column);
    figure.replaceChildren(
      ...heat.map((of, number) => heatView(pictures[number], number, of.flat(), width, height)),
      el("figcaption", {}, "The brighter a place, the more it mattered to these words."));
    figure.scrollIntoView({ block: "nearest" });
  } catch (error) {
    figure.replaceChildren(el("p.trouble", {}, error.message));
  }
}

// ---- What people think of an answer

function thumbs(exchange, column, acts, view) {
  const answer = shownAnswer(column);
  const note = el("p.note", { role: "status" });
  const asks = "What should it have said?";
  const words = el("textarea", { rows: 2, dir: "auto", placeholder: `${asks} (may stay empty)`, ariaLabel: asks });
  const send = async (rating, correction) => {
    note.className = "note";
    note.textContent = "Sending.";
    try {
      await acts.rate(exchange, column, rating, correction);
      form.replaceChildren(note);
      note.textContent = "Thank you. Kept as training data.";
      for (const button of buttons) button.ariaPressed = button.dataset.act === rating;
    } catch (error) {
      note.className = "trouble";
      note.textContent = error.message; // what was typed stays in its field
    }
  };
  const form = el("form.judgement", {
    onsubmit: (event) => {
      event.preventDefault();
      send("down", words.value.trim() || null);
    },
  });
  const show = (...children) => {
    form.replaceChildren(...children);
    view.append(form);
    form.scrollIntoView({ block: "nearest" });
  };
  const judge = {
    up: () => {
      show(note);
      send("up", null);
    },
    down: () => {
      note.textContent = "The server keeps it as training data.";
      words.value = answer.correction ?? "";
      show(words, el("div.row", {}, note, el("span.gap"), el("button.primary", { type: "submit" }, "Send")));
      words.focus();
    },
  };
  const buttons = Object.entries({ up: "A good answer", down: "A bad answer" }).map(([rating, label]) =>
    tool(rating, label, judge[rating], { ariaPressed: answer.rating === rating }));
  return buttons;
}
