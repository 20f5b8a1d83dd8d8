// Draws the cards from the page's data: filters, order, and more of them on demand. Texts only ever become text nodes.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const state = { verdict: "all", group: "", order: "asked", words: "", shown: 60 };
const UNIT = data.cards.every((card) => card.value === null || (card.value >= 0 && card.value <= 1));

function verdict(card) {
  if (card.value === null) return "none";
  return card.value >= 1 ? "right" : card.value > 0 ? "partly" : "wrong";
}
function make(tag, name, text) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text !== undefined) element.textContent = text;
  return element;
}
function label(value) {
  if (!UNIT) return value.toFixed(3);
  return value >= 1 ? "right" : value > 0 ? value.toFixed(2) : "wrong";
}
function draw(card) {
  const kind = verdict(card);
  const box = make("article", "card " + (UNIT ? kind : "none"));
  if (!card.pictures.length) box.append(make("div", "none", "no picture"));
  for (const picture of card.pictures) {
    const image = make("img");
    image.src = data.pictures[picture];
    image.alt = "";
    image.loading = "lazy";
    box.append(image);
  }
  const body = make("div", "body");
  if (card.hint) body.append(make("p", "question", card.hint));
  body.append(make("p", "question", card.question));
  if (card.options.length) {
    const list = make("ol", "options");
    const lettered = card.right.every(([text]) => /^[A-Z]$/.test(text)); // otherwise the question gave no letters
    card.options.forEach((option, at) => list.append(make("li", "", (lettered ? String.fromCharCode(65 + at) + ". " : "") + option)));
    body.append(list);
  }
  const answers = make("dl");
  answers.append(make("dt", "", "says"), make("dd", "said", card.said || "(nothing)"));
  if (card.right.length) {
    const texts = card.right.map(([text, count]) => (count > 1 ? text + " ×" + count : text));
    answers.append(make("dt", "", "expected"), make("dd", "", texts.join(texts.some((text) => text.includes(", ")) ? "\n" : ", ")));
  }
  if (card.blind !== null) {
    const mark = card.blindValue === null ? "" : " (" + label(card.blindValue) + ")";
    answers.append(make("dt", "", "blind"), make("dd", "", (card.blind || "(nothing)") + mark));
  }
  body.append(answers);
  const foot = make("div", "foot");
  foot.append(make("span", "verdict", card.value === null ? "" : label(card.value)), make("span", "", card.id));
  body.append(foot);
  box.append(body);
  return box;
}
function chosen() {
  const [kind, name] = state.group ? JSON.parse(state.group) : [-1, ""];
  const words = state.words.toLowerCase();
  const found = data.cards.filter((card) =>
    (state.verdict === "all" || verdict(card) === state.verdict) &&
    (kind < 0 || card.groups[kind] === name) &&
    (!words || [card.question, card.said, card.id, ...card.right.map((one) => one[0])].join("\n").toLowerCase().includes(words)));
  if (state.order !== "asked") {
    const sign = state.order === "best" ? -1 : 1;
    found.sort((one, other) => sign * ((one.value ?? 0) - (other.value ?? 0)));
  }
  return found;
}
function show() {
  const found = chosen();
  const cards = document.getElementById("cards");
  cards.replaceChildren(...found.slice(0, state.shown).map(draw));
  document.getElementById("count").textContent =
    found.length.toLocaleString("en") + " of " + data.cards.length.toLocaleString("en") + " questions";
  document.getElementById("more").hidden = found.length <= state.shown;
}
function change(part) {
  Object.assign(state, { shown: 60 }, part);
  show();
}
const select = document.getElementById("group");
data.kinds.forEach((kind, at) => {
  const part = make("optgroup");
  part.label = "by " + kind;
  [...new Set(data.cards.map((card) => card.groups[at]))].filter(Boolean).sort().forEach((name) => {
    const option = make("option", "", name);
    option.value = JSON.stringify([at, name]);
    part.append(option);
  });
  select.append(part);
});
select.hidden = !data.kinds.length;
select.addEventListener("change", () => change({ group: select.value }));
document.getElementById("order").addEventListener("change", (event) => change({ order: event.target.value }));
document.getElementById("words").addEventListener("input", (event) => change({ words: event.target.value }));
document.getElementById("more").addEventListener("click", () => change({ shown: state.shown + 120 }));
document.querySelectorAll("[data-verdict]").forEach((button) => {
  const kind = button.dataset.verdict;
  const count = kind === "all" ? data.cards.length : data.cards.filter((card) => verdict(card) === kind).length;
  button.append(" " + count.toLocaleString("en"));
  button.hidden = kind !== "all" && (!count || !UNIT);
  button.addEventListener("click", () => {
    document.querySelectorAll("[data-verdict]").forEach((one) => one.setAttribute("aria-pressed", String(one === button)));
    change({ verdict: kind });
  });
});
show();
