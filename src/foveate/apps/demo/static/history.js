// Earlier questions with their answers, the tokens that each kept, and its image.

import { element } from "./answers.js";

const MOST = 12;

/** Adds a question, newest first; `open(turn)` is called with one that is pressed. */
export function addTurn(list, turn, open) {
  const image = Object.assign(document.createElement("img"), { src: turn.overlay, alt: "" });
  const text = element("span", "", "turn-text");
  const place = turn.turns.length ? `, question ${turn.turns.length + 1} of a conversation` : "";
  text.append(element("span", turn.question, "small"), element("strong", turn.answer));
  text.append(element("span", turn.share + place, "small"));
  if (turn.beside) text.append(element("span", `beside it: ${turn.beside}`, "small"));
  const button = Object.assign(element("button", ""), { type: "button" });
  button.append(image, text);
  button.addEventListener("click", () => open(turn));
  const item = document.createElement("li");
  item.append(button);
  list.prepend(item);
  while (list.children.length > MOST) list.lastElementChild.remove();
}
