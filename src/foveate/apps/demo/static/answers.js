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
const costs = {}, texts = {}; // of the answers so far

/** Shows the kept tokens over the image, and returns their count in words. */
export function showKept(look) {
  const share = `${look.kept} of ${look.total} tokens`;
  const overlay = $("overlay");
  overlay.hidden = look.overlay === null;
  if (look.overlay) overlay.src = look.overlay;
  const why = look.core === null ? "" : `, ${look.core} core and ${look.complement} complement`;
  const tiles = look.tiles === null ? "" : `; ${countTiles(look.tiles)} encoded`;
  overlay.alt = `The image with all but the kept tokens faded: ${look.kept} of ${look.total}${why}${tiles}.`;
  showMap(look);
  showFirstLook(look);
  $("pruned-count").textContent = share;
  $("unpruned-count").textContent = `all ${look.total} tokens`;
  $("reason").textContent = look.reason ? `Auto keeps ${look.reason}` : "";
  $("legend").replaceChildren(...legend(look));
  $("notes").replaceChildren(...look.notes.map((note) => element("li", note)));
  return share;
}

/** How many of how many tiles or windows, in words. */
export function countTiles([count, all]) {
  return `${count} of ${all} parts`;
}

/** Shows the map of relevance, where the method has one. */
function showMap({ map, prompt_aware }) {
  $("map").hidden = map === null;
  if (map === null) return;
  const score = prompt_aware ? "relevance to the question" : "the method's score, without the question";
  $("map-title").textContent = `Map: ${score}, darker for more`;
  $("map-overlay").src = map;
  $("map-overlay").alt = `The map of ${score}.`;
}

/** Shows the tokens of a first look, where there was one. */
function showFirstLook({ look, looked, total }) {
  $("first-look").hidden = look === null;
  if (look === null) return;
  $("first-look-title").textContent = `First look: ${looked} averages of ${total} tokens`;
  $("first-look-overlay").src = look;
  $("first-look-overlay").alt = "The image with all but the tokens of the first look faded, and the map of attention.";
}

function legend(look) {
  const marks = [];
  if (look.core !== null) {
    if (look.core) marks.push(["core", `core ${look.core}: ${look.prompt_aware ? "the most relevant" : "the highest scores"}`]);
    marks.push(["complement", `complement ${look.complement}: unlike the rest`]);
  }
  const [encoded, tiles] = look.tiles ?? [0, 0];
  if (encoded < tiles) marks.push(["absent", `not encoded: ${countTiles([tiles - encoded, tiles])}`]);
  return marks.map(([kind, text]) => {
    const item = element("li", text);
    item.prepend(element("i", "", kind));
    return item;
  });
}

/** Removes the kept tokens: there is no question about this image yet. */
export function clearKept() {
  $("overlay").hidden = $("map").hidden = $("first-look").hidden = true;
  for (const id of ["pruned-count", "unpruned-count", "reason", "legend", "notes"]) $(id).replaceChildren();
}

/** Shows the image without overlay. */
export function showPlain(url, name) {
  Object.assign($("plain"), { src: url, alt: `The whole image: ${name}.`, hidden: false });
}

/** Removes the answers; the kept tokens stay. */
export function clearAnswers() {
  $("answers").classList.remove("stale");
  for (const which of ["pruned", "unpruned"]) {
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
export function openAnswers({ question, turns }, truth) {
  clearAnswers();
  $("caption").textContent = turns.length ? `Question ${turns.length + 1} of a conversation` : "Question";
  $("question-title").textContent = question;
  $("truth").hidden = truth === undefined;
  $("truth").textContent = truth === undefined ? "" : `True answer: ${truth}`;
  for (const which of ["pruned", "unpruned"]) $(which).setAttribute("aria-busy", "true");
}

/** Removes everything about an earlier question. */
export function reset() {
  clearAnswers();
  $("caption").textContent = "Nothing asked yet";
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

/** The pruned answer as it is shown and as it was generated, its share of tokens, and the image with the kept ones. */
export function describe() {
  const overlay = $("overlay").hidden ? $("plain").src : $("overlay").src;
  const answer = $("pruned").firstChild.textContent.trim(); // without the mark of right or wrong
  return { answer, text: texts.pruned.trim(), share: $("pruned-count").textContent, overlay };
}

/** Marks the answers as those of earlier settings. */
export function markStale() {
  if (!$("pruned").textContent) return;
  $("answers").classList.add("stale");
  $("caption").textContent = "These answers are for earlier settings; ask again to update them";
}

/** Ends the busy state of unfinished answers. */
export function settle() {
  for (const which of ["pruned", "unpruned"]) $(which).removeAttribute("aria-busy");
}

function costRow([name, title, format, word], saved) {
  const row = element("tr", "", PARTS.has(name) ? "part" : "");
  const head = element("th", title);
  head.scope = "row";
  const { pruned, unpruned } = costs;
  const cell = (cost) => element("td", cost ? (cost[name] ? format(cost[name]) : "–") : "");
  row.append(head, cell(pruned), cell(unpruned), element("td", ratio(saved[name], word)));
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
