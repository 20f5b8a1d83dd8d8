// From what a model said to elements that can be shown.
//
// Comes in: Markdown that nobody has checked. Goes out: a DocumentFragment that runs nothing, loads nothing and styles
// nothing. Two walls stand behind each other: our renderer writes HTML as text and never a picture; DOMPurify then
// keeps a short list of elements, whatever the renderer let through. The server's content policy is the third.

import { Marked } from "./vendor/marked/marked.esm.js";
import "./vendor/dompurify/purify.min.js"; // npm has no small ES module of it; this one puts DOMPurify on globalThis

const purify = globalThis.DOMPurify;

const ELEMENTS = [
  "p", "br", "hr", "strong", "em", "del", "code", "pre", "blockquote", "ul", "ol", "li", "a",
  "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td",
];
const ATTRIBUTES = ["href", "start", "align"];
const WEB = /^(?:https?:\/\/|mailto:)/i; // where a link may lead: never javascript:, data: or a path on this server

const SPELLED = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
const asText = (text) => text.replace(/[&<>"']/g, (character) => SPELLED[character]);

const renderer = {
  html: ({ text, block }) => (block ? `<p>${asText(text.trim()).replaceAll("\n", "<br>")}</p>` : asText(text)),
  // Inside <script> or <pre>, marked lets text pass as it is; nothing does here.
  text(token) {
    return token.tokens ? this.parser.parseInline(token.tokens) : asText(token.text);
  },
  // A picture's address could carry away what was said, so it is only told.
  image: ({ href, text }) => asText(`[picture: ${text ? `${text}, ` : ""}${href}]`),
  link({ href, tokens }) {
    const words = this.parser.parseInline(tokens);
    return WEB.test(href) ? `<a href="${asText(href)}">${words}</a>` : `${words} (${asText(href)})`;
  },
  // An answer stands under a heading of the page, so its own headings start below.
  heading({ tokens, depth }) {
    const level = Math.min(depth + 3, 6);
    return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>`;
  },
  checkbox: ({ checked }) => (checked ? "\u2611 " : "\u2610 "),
};

const marked = new Marked({ gfm: true, breaks: true, renderer });

purify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName !== "A") return;
  node.setAttribute("rel", "noopener noreferrer nofollow");
  node.setAttribute("target", "_blank");
  node.setAttribute("title", node.getAttribute("href") ?? ""); // the words of a link may name another place
});

/** An answer as elements. */
export const render = (text) => sanitised(marked.parse(text));

/** HTML of whatever origin as elements that have no effect but what they show. */
export function sanitised(html) {
  return purify.sanitize(html, {
    ALLOWED_TAGS: ELEMENTS,
    ALLOWED_ATTR: ATTRIBUTES,
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
    ALLOWED_URI_REGEXP: WEB,
    RETURN_DOM_FRAGMENT: true,
  });
}
