// Zoom: the pictures of all answers are enlarged and moved together.

const MOST = 8; // times
const STEP = 1.5;
const MOVE = 0.1; // of a picture's side, for a press of an arrow key
const KEYS = { ArrowLeft: [MOVE, 0], ArrowRight: [-MOVE, 0], ArrowUp: [0, MOVE], ArrowDown: [0, -MOVE] };

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** Makes the frames in `area` zoom by wheel, pinch, double click, keys and buttons; returns a function that undoes it. */
export function zoomTogether(area, { smaller, larger, fit, level }) {
  const view = { scale: 1, x: 0, y: 0 }; // x and y are shares of a frame's sides, from its middle
  const pointers = new Map(); // those that are down on a frame: id -> [x, y]

  /** Enlarges about a point that stays where it is. */
  function enlarge(factor, [x, y] = [0, 0]) {
    const scale = clamp(view.scale * factor, 1, MOST);
    show(scale, x - ((x - view.x) * scale) / view.scale, y - ((y - view.y) * scale) / view.scale);
  }
  function show(scale, x, y) {
    const most = (scale - 1) / 2; // no picture leaves its frame
    Object.assign(view, { scale, x: clamp(x, -most, most), y: clamp(y, -most, most) });
    const properties = { zoom: scale, x: `${100 * view.x}%`, y: `${100 * view.y}%` };
    for (const [name, value] of Object.entries(properties)) area.style.setProperty(`--${name}`, value);
    area.classList.toggle("zoomed", scale > 1);
    level.textContent = `${Math.round(100 * scale)} %`;
  }
  const reset = () => show(1, 0, 0);

  area.addEventListener("wheel", (event) => {
    if (!findFrame(event) || !(event.ctrlKey || event.metaKey)) return; // else the page scrolls
    event.preventDefault();
    enlarge(clamp(Math.exp(-event.deltaY / 100), 1 / STEP, STEP), place(event));
  }, { passive: false });
  area.addEventListener("dblclick", (event) => {
    if (!findFrame(event)) return;
    if (view.scale > 1) reset();
    else enlarge(STEP * STEP, place(event));
  });
  area.addEventListener("keydown", (event) => {
    if (!event.target.classList.contains("frame") || event.ctrlKey || event.metaKey || event.altKey) return;
    const { key } = event;
    if (key === "+" || key === "=") enlarge(STEP);
    else if (key === "-") enlarge(1 / STEP);
    else if (key === "0") reset();
    else if (KEYS[key] && view.scale > 1) show(view.scale, view.x + KEYS[key][0], view.y + KEYS[key][1]);
    else return;
    event.preventDefault();
  });

  area.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !findFrame(event)) return;
    if (pointers.size < 2) pointers.set(event.pointerId, place(event));
    if (view.scale > 1) event.target.setPointerCapture(event.pointerId);
  });
  area.addEventListener("pointermove", (event) => {
    if (!pointers.has(event.pointerId) || !findFrame(event)) return;
    const before = measure([...pointers.values()]);
    pointers.set(event.pointerId, place(event));
    const after = measure([...pointers.values()]);
    if (view.scale === 1 && pointers.size < 2) return;
    enlarge(after.spread / before.spread, before.middle);
    const moved = [0, 1].map((axis) => after.middle[axis] - before.middle[axis]);
    show(view.scale, view.x + moved[0], view.y + moved[1]);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    document.addEventListener(end, (event) => pointers.delete(event.pointerId));
  }
  area.addEventListener("dragstart", (event) => {
    if (view.scale > 1) event.preventDefault(); // the picture moves in its frame
  });

  larger.addEventListener("click", () => enlarge(STEP));
  smaller.addEventListener("click", () => enlarge(1 / STEP));
  fit.addEventListener("click", reset);
  reset();
  return reset;
}

const findFrame = ({ target }) => target.closest(".frame");

/** The place of an event in its frame: shares of the sides, from the middle. */
function place(event) {
  const box = findFrame(event).getBoundingClientRect();
  return [(event.clientX - box.left) / box.width - 0.5, (event.clientY - box.top) / box.height - 0.5];
}

/** The middle of one or two points, and how far they are apart. */
function measure(points) {
  const [first, last] = [points[0], points.at(-1)];
  const spread = Math.hypot(first[0] - last[0], first[1] - last[1]) || 1;
  return { middle: [0, 1].map((axis) => (first[axis] + last[axis]) / 2), spread };
}
