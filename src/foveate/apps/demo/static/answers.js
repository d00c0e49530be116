// The right side: the kept tokens, the answers, and their costs.

const $ = (id) => document.getElementById(id);
const ROWS = [
  ["visual_tokens", "Visual tokens", String, "fewer"],
  ["tokens", "Tokens read", String, "fewer"],
  ["first_token", "Time to first token", time, "less"],
  ["encode", "vision encoder", time, "less"],
  ["select", "selection", time, "less"],
  ["prefill", "prefill", time, "less"],
  ["seconds", "Total time", time, "less"],
  ["kv_bytes", "KV cache", bytes, "less"],
];
const PARTS = new Set(["encode", "select", "prefill"]); // parts of the time to the first token
const ARMS = { pruned: "", compared: "compared-" }; // the pruned answers, and what the ids of their pictures begin with
const ANSWERS = ["pruned", "compared", "unpruned"];
const costs = {}, texts = {}, notes = {}; // of the answers so far
let names = {}; // of the pruned answers, where two are compared
let caption = ""; // of the question that was asked

/** A budget in words. */
export function nameBudget({ keep }) {
  return keep === "auto" ? "auto" : `${Math.round(100 * keep)} %`;
}

/** Makes room for the answers of a request: with two pruned ones these are called by their methods and budgets. */
export function showArms({ compare, ...request }) {
  const name = (arm) => `${arm.method}, ${nameBudget(arm)}`;
  names = compare ? { pruned: name(request), compared: name(compare) } : {};
  $("pruned-name").textContent = names.pruned ?? "Pruned";
  $("compared-name").textContent = names.compared ?? "";
  $("answers").classList.toggle("three", Boolean(compare));
  if (!compare) clearArm("compared");
  $("compared-answer").hidden = !compare;
}

/** Shows the kept tokens of a pruned answer over the image, and returns their count in words. */
export function showKept(look, which) {
  const find = (id) => $(ARMS[which] + id);
  const share = `${look.kept} of ${look.total} tokens`;
  const overlay = find("overlay");
  overlay.hidden = look.overlay === null;
  if (look.overlay) overlay.src = look.overlay;
  const why = look.core === null ? "" : `, ${look.core} core and ${look.complement} complement`;
  const tiles = look.tiles === null ? "" : `; ${countTiles(look.tiles)} encoded`;
  overlay.alt = `The image with all but the kept tokens faded: ${look.kept} of ${look.total}${why}${tiles}.`;
  showMap(look, find);
  showFirstLook(look, find);
  $(`${which}-count`).textContent = share;
  $("unpruned-count").textContent = `all ${look.total} tokens`;
  find("reason").textContent = look.reason ? `Auto keeps ${look.reason}` : "";
  find("legend").replaceChildren(...legend(look));
  notes[which] = look.notes;
  showNotes();
  return share;
}

function showNotes() {
  const all = new Set(Object.keys(ARMS).flatMap((which) => notes[which] ?? []));
  $("notes").replaceChildren(...[...all].map((note) => element("li", note)));
}

/** How many of how many tiles or windows, in words. */
export function countTiles([count, all]) {
  return `${count} of ${all} parts`;
}

/** Shows the map of relevance, where the method has one. */
function showMap({ map, prompt_aware }, find) {
  find("map").hidden = map === null;
  if (map === null) return;
  const score = prompt_aware ? "relevance to the question" : "the method's score, without the question";
  find("map-title").textContent = `Map: ${score}, darker for more`;
  find("map-overlay").src = map;
  find("map-overlay").alt = `The map of ${score}.`;
}

/** Shows the tokens of a first look, where there was one. */
function showFirstLook({ look, looked, total }, find) {
  find("first-look").hidden = look === null;
  if (look === null) return;
  find("first-look-title").textContent = `First look: ${looked} averages of ${total} tokens`;
  find("first-look-overlay").src = look;
  find("first-look-overlay").alt = "The image with all but the tokens of the first look faded, and the map of attention.";
}

/** What the marks over the image mean for this method. */
function legend({ kept, total, core, complement, prompt_aware, tiles }) {
  const marks = [];
  if (core === null) marks.push(["kept", `kept ${kept}`]);
  else {
    if (core) marks.push(["core", `core ${core}: ${prompt_aware ? "the most relevant" : "the highest scores"}`]);
    marks.push(["complement", `complement ${complement}: unlike the rest`]);
  }
  const [encoded, parts] = tiles ?? [0, 0];
  if (kept < total && encoded === parts) marks.push(["dropped", `dropped ${total - kept}`]);
  if (encoded < parts) marks.push(["absent", `not encoded: ${countTiles([parts - encoded, parts])}`]);
  return marks.map(([kind, text]) => {
    const item = element("li", text);
    item.prepend(element("i", "", kind));
    return item;
  });
}

/** Removes the kept tokens: there is no question about this image yet. */
export function clearKept() {
  Object.keys(ARMS).forEach(clearArm);
  $("unpruned-count").replaceChildren();
}

function clearArm(which) {
  const find = (id) => $(ARMS[which] + id);
  for (const id of ["overlay", "map", "first-look"]) find(id).hidden = true;
  for (const id of ["reason", "legend"]) find(id).replaceChildren();
  $(`${which}-count`).replaceChildren();
  delete notes[which];
  showNotes();
}

/** Shows the image without overlay. */
export function showPlain(url, name) {
  Object.assign($("plain"), { src: url, alt: `The whole image: ${name}.`, hidden: false });
}

/** Removes the answers; the kept tokens stay. */
export function clearAnswers() {
  for (const which of ANSWERS) {
    delete costs[which];
    texts[which] = "";
    const text = $(which);
    text.textContent = "";
    text.className = "answer-text";
    text.removeAttribute("aria-busy");
  }
  $("cost").hidden = true;
  $("truth").hidden = true;
}

/** Prepares for answers to a question, with its true answer if that is known. */
export function openAnswers(request, truth) {
  const { question, turns } = request;
  clearAnswers();
  showArms(request);
  caption = turns.length ? `Question ${turns.length + 1} of a conversation` : "Question";
  showStale(false);
  $("question-title").textContent = question;
  $("truth").hidden = truth === undefined;
  $("truth").textContent = truth === undefined ? "" : `True answer: ${truth}`;
  for (const which of ANSWERS) $(which).setAttribute("aria-busy", "true");
  $("columns").replaceChildren(element("td", ""), ...titles().map((title) => Object.assign(element("th", title), { scope: "col" })));
}

function titles() {
  const { pruned, compared } = names;
  return compared ? [pruned, compared, "Unpruned"] : ["Pruned", "Unpruned", "Saved"];
}

/** Removes everything about an earlier question. */
export function reset() {
  clearAnswers();
  caption = "Nothing asked yet";
  showStale(false);
  $("question-title").textContent = "Ask to compare both answers";
}

/** Adds to an answer. It is inserted as text, never as markup. */
export function addPiece({ answer, text }) {
  const shown = $(answer);
  texts[answer] += text;
  shown.textContent = texts[answer].trimStart();
  shown.classList.toggle("long", shown.textContent.length > 60);
}

/** Completes an answer. */
export function showCost({ answer, cost, reason }, truth) {
  const shown = $(answer);
  shown.removeAttribute("aria-busy");
  if (!shown.textContent.trim()) shown.textContent = "(nothing)";
  if (reason === "length") shown.textContent += " …";
  if (truth !== undefined) {
    const right = shown.textContent.trim().toLowerCase() === truth.toLowerCase();
    shown.append(" ", element("span", right ? "right" : "wrong", right ? "mark right" : "mark wrong"));
  }
  costs[answer] = cost;
  $("cost").hidden = false;
  $("rows").replaceChildren(...ROWS.map((row) => costRow(row, {})));
}

/** Shows how many times less the pruned answer took. */
export function showSaved({ saved }) {
  $("rows").replaceChildren(...ROWS.map((row) => costRow(row, saved)));
}

/** The pruned answer as it is shown and as it was generated, its share of tokens, the image with the kept ones, and
 *  the answer that it was compared with, in words. */
export function describe() {
  const overlay = $("overlay").hidden ? $("plain").src : $("overlay").src;
  const answer = (which) => $(which).firstChild.textContent.trim(); // without the mark of right or wrong
  const share = [names.pruned, $("pruned-count").textContent].filter(Boolean).join(": ");
  const beside = names.compared && `${answer("compared")} (${names.compared}: ${$("compared-count").textContent})`;
  return { answer: answer("pruned"), text: texts.pruned.trim(), share, overlay, beside };
}

/** Marks the answers and their costs as those of earlier settings, or of the present ones. */
export function showStale(isStale) {
  for (const id of ["answers", "cost"]) $(id).classList.toggle("stale", isStale);
  $("caption").textContent = isStale ? "These answers are for earlier settings; ask again to update them" : caption;
  $("cost-title").textContent = isStale ? "Cost of the answers for earlier settings" : "Cost of the answers";
}

/** Ends the busy state of unfinished answers. */
export function settle() {
  for (const which of ANSWERS) $(which).removeAttribute("aria-busy");
}

function costRow([name, title, format, word], saved) {
  const row = element("tr", "", PARTS.has(name) ? "part" : "");
  const head = element("th", title);
  head.scope = "row";
  const cell = (cost) => element("td", cost ? (cost[name] ? format(cost[name]) : "–") : "");
  const last = names.compared ? [] : [element("td", ratio(saved[name], word), "saved")];
  const shown = names.compared ? ANSWERS : ["pruned", "unpruned"];
  row.append(head, ...shown.map((which) => cell(costs[which])), ...last);
  return row;
}

function ratio(times, word) {
  if (times === undefined) return "";
  if (times > 1.05) return `${times.toFixed(1)} times ${word}`;
  return times < 0.95 ? `${(1 / times).toFixed(1)} times more` : "the same";
}

function time(seconds) {
  return seconds < 1 ? `${(1000 * seconds).toFixed(1)} ms` : `${seconds.toFixed(2)} s`;
}

function bytes(count) {
  return count < 2 ** 30 ? `${(count / 2 ** 20).toFixed(2)} MiB` : `${(count / 2 ** 30).toFixed(2)} GiB`;
}

export function element(name, text, kind = "") {
  const node = document.createElement(name);
  node.textContent = text;
  if (kind) node.className = kind;
  return node;
}
