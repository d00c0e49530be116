// The drawing mode: a canvas, a few colours, a brush.

const PAPER = "#8d8f8a";
const COLORS = [
  ["red", "#d62828"], ["blue", "#2d5ad7"], ["green", "#28a046"], ["yellow", "#fadc32"],
  ["orange", "#f5871e"], ["purple", "#8c3caf"], ["white", "#f8f8f8"], ["black", "#161616"],
];

/** Makes the canvas drawable; `onStroke` is called after every stroke with the image as a data URL. */
export function sketch(canvas, { colors, brush, clear }, onStroke) {
  const pen = canvas.getContext("2d");
  let color = COLORS[0][1];
  let from = null;

  const fill = () => {
    pen.fillStyle = PAPER;
    pen.fillRect(0, 0, canvas.width, canvas.height);
  };
  const toCanvas = (event) => {
    const box = canvas.getBoundingClientRect();
    return [
      ((event.clientX - box.left) * canvas.width) / box.width,
      ((event.clientY - box.top) * canvas.height) / box.height,
    ];
  };
  const stroke = (to) => {
    Object.assign(pen, { strokeStyle: color, lineWidth: Number(brush.value), lineCap: "round", lineJoin: "round" });
    pen.beginPath();
    pen.moveTo(...from);
    pen.lineTo(...to);
    pen.stroke();
    from = to;
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    from = toCanvas(event);
    stroke(from);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (from) event.getCoalescedEvents().forEach((each) => stroke(toCanvas(each)));
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, () => {
      if (from) onStroke(canvas.toDataURL("image/png"));
      from = null;
    });
  }
  clear.addEventListener("click", () => {
    fill();
    onStroke(canvas.toDataURL("image/png"));
  });
  colors.append(...COLORS.map(([name, code], i) => swatch(name, code, i === 0, () => (color = code))));
  fill();
  return { url: () => canvas.toDataURL("image/png") };
}

function swatch(name, code, checked, onChoose) {
  const label = document.createElement("label");
  const input = Object.assign(document.createElement("input"), { type: "radio", name: "color", value: name, checked });
  input.setAttribute("aria-label", name);
  input.addEventListener("change", onChoose);
  label.append(input);
  label.style.setProperty("--color", code);
  label.title = name;
  return label;
}
