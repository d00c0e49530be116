// The example images, and the questions of one.

import { element } from "./answers.js";

/** A thumbnail for every scene; `open(scene)` is called with the pressed one. */
export function fillGallery(list, scenes, open) {
  list.replaceChildren(...scenes.map((scene) => thumbnail(scene, () => open(scene))));
}

/** Marks the scene that is shown, if any. */
export function markScene(list, scene) {
  for (const button of list.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.title === scene?.title));
  }
}

/** A button for every question; `take(text)` asks the pressed one. */
export function suggest(list, questions, take) {
  list.replaceChildren(
    ...questions.map(({ text }) => {
      const button = Object.assign(element("button", text), { type: "button" });
      button.addEventListener("click", () => take(text));
      return listItem(button);
    }),
  );
}

function thumbnail(scene, open) {
  const image = Object.assign(document.createElement("img"), { src: scene.image, alt: scene.title });
  const button = Object.assign(document.createElement("button"), { type: "button", title: scene.title });
  button.setAttribute("aria-pressed", "false");
  button.append(image);
  button.addEventListener("click", open);
  return listItem(button);
}

function listItem(child) {
  const item = document.createElement("li");
  item.append(child);
  return item;
}
