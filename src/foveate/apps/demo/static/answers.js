// The right side: what is kept, what was answered, and what it cost.

const $ = (id) => document.getElementById(id);
const ROWS = [
  ["visual_tokens", "Visual tokens", String, "fewer"],
  ["tokens", "Tokens read", String, "fewer"],
  ["first_token", "Time to first token", time, "less"],
  ["encode", "vision encoder", time, "less"],
  ["select", "selection", time, "less"],
  ["prefill", "prefill", time, "less"],
  ["seconds", "Time in all", time, "less"],
  ["kv_bytes", "KV cache", bytes, "less"],
];
const PARTS = new Set(["encode", "select", "prefill"]); // of the time to the first token
const costs = {};

/** The kept tokens, over the picture and in words. */
export function showLook(seen) {
  const share = `${seen.kept} of ${seen.total} tokens`;
  const overlay = $("overlay");
  overlay.hidden = seen.overlay === null;
  if (seen.overlay) overlay.src = seen.overlay;
  const why = seen.core === null ? "" : `, ${seen.core} core and ${seen.complement} complement`;
  overlay.alt = `The picture, with the kept tokens bright: ${seen.kept} of ${seen.total}${why}.`;
  $("pruned-count").textContent = share;
  $("unpruned-count").textContent = `all ${seen.total} tokens`;
  $("legend").replaceChildren(...legend(seen));
  $("notes").replaceChildren(...seen.notes.map((note) => element("li", note)));
  return share;
}

function legend(seen) {
  const marks = [];
  if (seen.core !== null) {
    if (seen.core) marks.push(["core", `core ${seen.core}: the most relevant`]);
    marks.push(["complement", `complement ${seen.complement}: unlike the rest`]);
  }
  if (seen.heat) marks.push(["heat", "dropped; the redder, the more relevant"]);
  return marks.map(([kind, text]) => {
    const item = element("li", text);
    item.prepend(element("i", "", kind));
    return item;
  });
}

/** Without them: nothing is known of a picture that nothing was asked about. */
export function clearLook() {
  $("overlay").hidden = true;
  for (const id of ["pruned-count", "unpruned-count", "legend", "notes"]) $(id).replaceChildren();
}

/** The plain picture beside the overlay. */
export function showPlain(url, name) {
  Object.assign($("plain"), { src: url, alt: `The whole picture: ${name}.`, hidden: false });
}

/** Without answers; the kept tokens stay. */
export function clearAnswers() {
  $("answers").classList.remove("stale");
  for (const which of ["pruned", "unpruned"]) {
    delete costs[which];
    const said = $(which);
    said.textContent = "";
    said.className = "said";
    said.removeAttribute("aria-busy");
  }
  $("cost").hidden = true;
  $("truth").hidden = true;
}

/** Ready for new ones to this question, with its true answer where that is known. */
export function openAnswers(question, truth) {
  clearAnswers();
  $("caption").textContent = "Question";
  $("asked").textContent = question;
  $("truth").hidden = truth === undefined;
  $("truth").textContent = truth === undefined ? "" : `True answer: ${truth}`;
  for (const which of ["pruned", "unpruned"]) $(which).setAttribute("aria-busy", "true");
}

export function nothingAsked() {
  clearAnswers();
  $("caption").textContent = "Nothing asked yet";
  $("asked").textContent = "Ask to compare both answers";
}

/** More of an answer. It is text, whatever it looks like. */
export function addPiece({ answer, text }) {
  const said = $(answer);
  said.textContent = (said.textContent + text).trimStart();
  said.classList.toggle("long", said.textContent.length > 60);
}

/** An answer is complete. */
export function showCost({ answer, cost, reason }, truth) {
  const said = $(answer);
  said.removeAttribute("aria-busy");
  if (!said.textContent.trim()) said.textContent = "(nothing)";
  if (reason === "length") said.textContent += " …";
  if (truth !== undefined) {
    const right = said.textContent.trim().toLowerCase() === truth.toLowerCase();
    said.append(" ", element("span", right ? "right" : "wrong", right ? "mark right" : "mark wrong"));
  }
  costs[answer] = cost;
  $("cost").hidden = false;
  $("rows").replaceChildren(...ROWS.map((row) => costRow(row, {})));
}

/** How many times less the pruned answer took. */
export function showSaved({ saved }) {
  $("rows").replaceChildren(...ROWS.map((row) => costRow(row, saved)));
}

/** They are about earlier settings now. */
export function markStale() {
  if (!$("pruned").textContent) return;
  $("answers").classList.add("stale");
  $("caption").textContent = "Answered with earlier settings; ask again for these";
}

/** What is left of answers that were not finished. */
export function settle() {
  for (const which of ["pruned", "unpruned"]) $(which).removeAttribute("aria-busy");
}

function costRow([name, title, form, word], saved) {
  const row = element("tr", "", PARTS.has(name) ? "part" : "");
  const head = element("th", title);
  head.scope = "row";
  const { pruned, unpruned } = costs;
  const cell = (cost) => element("td", cost ? (cost[name] ? form(cost[name]) : "–") : "");
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
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}
