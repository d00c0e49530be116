// The page: one picture, one question, one slider.

import * as answers from "./answers.js";
import { fillGallery, pressScene, suggest } from "./gallery.js";
import { fetched, readPicture, takeFiles } from "./picture.js";
import { ask, get, look } from "./server.js";
import { sketch } from "./sketch.js";

const $ = (id) => document.getElementById(id);
const WAIT = 120; // milliseconds without a change before the kept tokens are drawn anew
const state = {
  limits: null, methods: [], // what the server told
  picture: null, truths: new Map(), // a data URL, and the answers that are known, by question
  opening: null, // a promise of the next picture: whether it was taken
  shown: {}, // the wish whose kept tokens are drawn
  asking: null, wanted: null, // the AbortController of the answers that come in, and what they are about
  looking: null, timer: 0, // that of the kept tokens on their way, and the wait before them
};

function wish(picture = state.picture) {
  const keep = Number($("keep").value) / 100;
  return { picture, question: $("question").value.trim(), keep, method: $("method").value };
}

function complete({ picture, question, method }) {
  return Boolean(picture && question && method);
}

// -- the kept tokens: the newest request wins ------------------------------------------------------------------------

function changed() {
  answers.markStale();
  clearTimeout(state.timer);
  if (!state.opening) state.looking?.abort(); // else it is the new picture's
  if (!state.asking && !state.opening) state.timer = setTimeout(relook, WAIT); // else once these are through
}

/** Draws the kept tokens anew if something else is wanted by now. */
function catchUp() {
  const now = wish();
  if (complete(now) && Object.keys(now).some((name) => now[name] !== state.shown[name])) changed();
}

async function relook() {
  const wanted = wish();
  if (complete(wanted)) await attempt(async () => seen(await newest(wanted), wanted));
}

async function newest(wanted) {
  clearTimeout(state.timer);
  state.looking?.abort();
  const mine = (state.looking = new AbortController());
  const found = await look(wanted, mine.signal);
  mine.signal.throwIfAborted();
  return found;
}

function seen(found, wanted) {
  state.shown = wanted;
  showShare(`${$("keep").value} %, ${answers.showLook(found)}`);
}

function showShare(text) {
  $("share").textContent = text;
  $("keep").setAttribute("aria-valuetext", text);
}

// -- pictures --------------------------------------------------------------------------------------------------------

/** Shows another picture once the server has taken it; what it refuses leaves the old one. */
async function adopt(url, name, { scene = null, drawing = false } = {}) {
  if (state.asking) stop();
  const questions = scene?.questions ?? [];
  const typed = $("question").value;
  const wanted = { ...wish(url), ...(scene && { question: questions[0].text }) };
  const found = complete(wanted) ? await newest(wanted) : null;
  if (scene && $("question").value === typed) $("question").value = wanted.question; // unless another was typed meanwhile
  Object.assign(state, { picture: url, truths: new Map(questions.map(({ text, answer }) => [text, answer])) });
  $("draw").setAttribute("aria-pressed", String(drawing));
  $("palette").hidden = $("canvas").hidden = !drawing;
  Object.assign($("picture"), { src: url, alt: `The picture that is asked about: ${name}.`, hidden: drawing });
  pressScene($("gallery"), scene);
  suggest($("suggestions"), questions, (text) => {
    $("question").value = text;
    changed();
  });
  answers.nothingAsked();
  answers.showPlain(url, name);
  if (found) seen(found, wanted);
  else answers.clearLook();
}

/** Reads a picture and shows it: the last one that was chosen, and who asks meanwhile asks about that one. */
function choose(read, name, how) {
  const mine = attempt(async () => {
    const url = await read();
    if (state.opening === mine) await adopt(url, name, how);
  }).then((done) => {
    if (state.opening === mine) {
      state.opening = null;
      catchUp();
    }
    return done;
  });
  state.opening = mine;
}

function openFile(file) {
  choose(() => readPicture(file, state.limits), file.name || "pasted");
}

function openScene(scene) {
  choose(() => fetched(scene.picture), scene.title, { scene });
}

function openDrawing(url) {
  choose(async () => url, "drawing", { drawing: true });
}

// -- asking ----------------------------------------------------------------------------------------------------------

async function run() {
  if (state.opening && !(await state.opening)) return;
  if (state.asking) return;
  const wanted = wish();
  if (!wanted.question) return fail("There is no question: type one.");
  if (!wanted.picture) return fail("There is no picture: open, draw or choose one.");
  clearTimeout(state.timer);
  state.looking?.abort();
  const mine = new AbortController();
  Object.assign(state, { asking: mine, wanted });
  const truth = state.truths.get(wanted.question);
  answers.openAnswers(wanted.question, truth);
  busy(true);
  await attempt(() => ask(wanted, mine.signal, (event) => told(event, truth, mine.signal)));
  if (state.asking === mine) halt();
}

function told(event, truth, signal) {
  if (signal.aborted) return;
  if (event.type === "look") seen(event, state.wanted);
  if (event.type === "piece") answers.addPiece(event);
  if (event.type === "cost") answers.showCost(event, truth);
  if (event.type === "saved") {
    answers.showSaved(event);
    say("Both answers are here.");
  }
}

/** No more answers, and the kept tokens of what was wanted meanwhile. */
function halt() {
  state.asking.abort();
  state.asking = null;
  busy(false);
  answers.settle();
  catchUp();
}

function stop() {
  halt();
  say("Stopped.");
}

function busy(asking) {
  $("go").textContent = asking ? "Stop" : "Ask";
  $("go").classList.toggle("stop", asking);
  $("answers").classList.toggle("busy", asking);
  if (!asking) return;
  say("Asking.");
  if (matchMedia("(max-width: 55rem)").matches) $("answers").scrollIntoView({ block: "end" });
}

// -- what is said ----------------------------------------------------------------------------------------------------

async function attempt(work) {
  fail("");
  try {
    await work();
    return true;
  } catch (error) {
    if (error.name !== "AbortError") fail(error.message);
    return false;
  }
}

function fail(text) {
  $("error").textContent = text;
  $("dismiss").hidden = !text;
}

function say(text) {
  $("status").textContent = text;
}

// -- the beginning ---------------------------------------------------------------------------------------------------

function summarize() {
  const chosen = state.methods.find(({ name }) => name === $("method").value);
  $("summary").textContent = `Keeps ${chosen.summary} (${chosen.paper}).`;
}

function wire() {
  $("go").addEventListener("click", () => (state.asking ? stop() : run()));
  $("dismiss").addEventListener("click", () => fail(""));
  $("question").addEventListener("input", changed);
  $("question").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.isComposing && !state.asking) run();
  });
  $("keep").addEventListener("input", () => {
    showShare(`${$("keep").value} %`);
    changed();
  });
  $("method").addEventListener("change", () => {
    summarize();
    changed();
  });
  $("file").addEventListener("change", ({ target }) => {
    const [file] = target.files;
    if (file) openFile(file);
    target.value = ""; // so that the same file can be chosen again
  });
  takeFiles($("stage"), openFile);
  const drawing = sketch($("canvas"), { colors: $("colors"), brush: $("brush"), clear: $("clear") }, openDrawing);
  $("draw").addEventListener("click", () => openDrawing(drawing.url()));
}

async function begin() {
  const [about, scenes] = await Promise.all([get("/about"), get("/scenes")]);
  Object.assign(state, { limits: about.limits, methods: about.methods });
  $("model").textContent = about.model;
  $("method").append(...about.methods.map(({ name }) => new Option(name, name, false, name === about.method)));
  $("keep").value = Math.round(100 * about.keep);
  summarize();
  wire();
  fillGallery($("gallery"), scenes, openScene);
  openScene(scenes[0]);
}

attempt(begin);
