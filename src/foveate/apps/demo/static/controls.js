// The controls of one budget and one method.

import { nameBudget } from "./answers.js";

const AUTO = 1; // the slider's notch left of its smallest share, 2 %

export class Controls {
  /** `prefix` is that of the elements' ids; `onChange` is called when a setting changes. */
  constructor(prefix, { methods, auto, keep }, method, onChange) {
    const [slider, list] = ["keep", "method"].map((id) => document.getElementById(prefix + id));
    Object.assign(this, { prefix, methods, auto, slider, list, start: Math.round(100 * keep) });
    list.append(...methods.map(({ name }) => new Option(name, name, false, name === method)));
    slider.value = this.start;
    slider.addEventListener("input", () => {
      this.showShare();
      onChange();
    });
    list.addEventListener("change", () => {
      this.showMethod();
      onChange();
    });
    this.showMethod();
  }

  find(name) {
    return document.getElementById(this.prefix + name);
  }

  get isAuto() {
    return Number(this.slider.value) === AUTO;
  }

  /** The settings as a request has them: keep is a share or "auto". */
  get settings() {
    return { keep: this.isAuto ? "auto" : Number(this.slider.value) / 100, method: this.list.value };
  }

  /** Shows the budget, and what it came to. */
  showShare(...counts) {
    const text = [nameBudget(this.settings), ...counts].join(", ");
    this.find("share").textContent = text;
    this.slider.setAttribute("aria-valuetext", text);
  }

  /** Shows what the method does, and the notch "auto" for the method of the policy alone. */
  showMethod() {
    const { slider } = this;
    const { name, summary, paper } = this.methods.find(({ name }) => name === this.list.value);
    this.find("summary").textContent = `Keeps ${summary} (${paper}).`;
    const { method, note } = this.auto;
    const isOpen = method === name;
    if (!isOpen && this.isAuto) slider.value = this.start;
    slider.min = isOpen ? AUTO : AUTO + 1;
    if (isOpen) slider.setAttribute("list", "notches");
    else slider.removeAttribute("list");
    this.find("auto-note").textContent = method && !isOpen ? `No auto: the policy is for the method ${method}.` : note;
    this.showShare();
  }
}
