// The example pictures, and the questions that go with one.

import { element } from "./answers.js";

/** A thumbnail for every scene; `open(scene)` is called with the one that is pressed. */
export function fillGallery(list, scenes, open) {
  list.replaceChildren(...scenes.map((scene) => thumbnail(scene, () => open(scene))));
}

/** Shows which scene is the picture, if any. */
export function pressScene(list, scene) {
  for (const button of list.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.title === scene?.title));
  }
}

/** A button for every question; `take(text)` is called with the one that is pressed. */
export function suggest(list, questions, take) {
  list.replaceChildren(
    ...questions.map(({ text }) => {
      const button = Object.assign(element("button", text), { type: "button" });
      button.addEventListener("click", () => take(text));
      return item(button);
    }),
  );
}

function thumbnail(scene, open) {
  const image = Object.assign(document.createElement("img"), { src: scene.picture, alt: scene.title });
  const button = Object.assign(document.createElement("button"), { type: "button", title: scene.title });
  button.setAttribute("aria-pressed", "false");
  button.append(image);
  button.addEventListener("click", open);
  return item(button);
}

function item(child) {
  const made = document.createElement("li");
  made.append(child);
  return made;
}
