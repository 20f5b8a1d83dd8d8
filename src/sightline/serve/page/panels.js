// The two panels: settings, and what the served models are.
//
// Comes in: the dialogs of index.html, and what the server tells of its models. Goes out: `settings`, kept in this
// browser, and the part of them that goes with each request.

import { jot, jotted } from "./store.js";
import { at, el } from "./view.js";

// Temperature and top-p as in LLaVA's own demo (llava/serve/gradio_web_server.py).
const DEFAULTS = { temperature: 0.2, top_p: 0.7, max_tokens: "", system: "", theme: "" };

export const settings = { ...DEFAULTS };

/** Settings as the fields of a request; those left to the server are absent. */
export function readSettings() {
  const { temperature, top_p, max_tokens } = settings;
  return { temperature: +temperature, top_p: +top_p, ...(max_tokens && { max_tokens: +max_tokens }) };
}

/** Brings the settings to life. `onKey` is called with an API key that was entered. */
export function setUpSettings(onKey) {
  const dialog = at("settings");
  const form = dialog.querySelector("form");
  const systemDark = matchMedia("(prefers-color-scheme: dark)");

  const show = () => {
    for (const name of Object.keys(DEFAULTS)) form.elements[name].value = settings[name];
    for (const output of form.querySelectorAll("output")) {
      output.value = Number(output.parentElement.querySelector("input").value).toFixed(2);
    }
    const dark = settings.theme ? settings.theme === "dark" : systemDark.matches;
    document.documentElement.dataset.theme = settings.theme;
    at("theme").ariaPressed = dark;
  };
  const change = (changes) => {
    Object.assign(settings, changes);
    jot("localStorage", "settings", JSON.stringify(settings));
    show();
  };

  form.addEventListener("input", ({ target }) => {
    if (target.name in DEFAULTS && target.checkValidity()) change({ [target.name]: target.value });
  });
  dialog.addEventListener("close", () => {
    const key = form.elements.key;
    if (key.value) onKey(key.value);
    key.value = "";
    show();
  });
  at("reset").addEventListener("click", () => change(DEFAULTS));
  at("theme").addEventListener("click", () => {
    change({ theme: at("theme").ariaPressed === "true" ? "light" : "dark" });
  });
  systemDark.addEventListener("change", show);

  Object.assign(settings, JSON.parse(jotted("localStorage", "settings")));
  show();
}

// ---- Model card

/** Fills the panel with what the server tells of each model. */
export function describeModels(models) {
  at("cards").replaceChildren(...models.map(({ id, card }) => modelCard(id, card ?? {})));
}

function modelCard(id, { parts = {}, recipe = null, ...facts }) {
  const rows = Object.entries(parts).map(([name, { parameters, source }]) =>
    el("tr", {},
      el("th", { scope: "row" }, name), el("td", {}, source ?? ""), el("td.number", {}, parameters.toLocaleString("en"))));
  return el("section", {},
    el("h3", {}, id),
    rows.length > 0 && el("table", {},
      el("thead", {}, el("tr", {}, ...["Part", "From", "Parameters"].map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, ...rows)),
    el("dl", {}, ...Object.entries(facts).flatMap(([name, value]) =>
      [el("dt", {}, name.replaceAll("_", " ")), el("dd", {}, spelled(value))])),
    recipe && el("details", {}, el("summary", {}, "Recipe"), el("pre", {}, spelled(recipe))));
}

const spelled = (value) => (typeof value === "object" ? JSON.stringify(value, null, 2) : String(value));
