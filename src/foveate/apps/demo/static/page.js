// The page: one image or clip, one question, one slider.

import * as answers from "./answers.js";
import { Controls } from "./controls.js";
import { fillGallery, markScene, suggest } from "./gallery.js";
import { addTurn } from "./history.js";
import { fetchImage, isClip, readFile, takeFiles } from "./image.js";
import { ask, get, look, showFrames } from "./server.js";
import { sketch } from "./sketch.js";
import { zoomTogether } from "./zoom.js";

const $ = (id) => document.getElementById(id);
const BASELINE = "grid"; // the method to compare with at first
const WAIT = 120; // milliseconds without a change before the kept tokens are requested again
const state = {
  limits: null, // from the server
  first: null, second: null, // the controls, and those to compare with
  image: null, name: "", truths: new Map(), // a data URL, and the known answers by question
  frames: new Map(), // of the clips that were opened, by their data URLs
  opening: null, // a promise of the next image: whether it was accepted
  shown: {}, // the request whose kept tokens are shown
  asked: null, // the last request about the image that was answered, with the pruned answer
  answered: null, // the request of the answers that are shown
  fit: null, // undoes the zoom
  asking: null, request: null, // the AbortController and the request of the answers in progress
  looking: null, timer: 0, // the AbortController of the kept tokens in progress, and the timer before them
};

function makeRequest(image = state.image) {
  const compare = $("compare").checked ? state.second.settings : null;
  const encode = hasAuto() ? 1 : Number($("encode").value) / 100 || "auto"; // the slider's left end
  const question = $("question").value.trim();
  return { image, question, ...state.first.settings, encode, turns: earlierTurns(question), compare };
}

/** Whether a policy chooses a budget. */
function hasAuto() {
  return state.first.isAuto || ($("compare").checked && state.second.isAuto);
}

/** The turns before a question: a follow-up goes on from the last answer, or takes the place of the same question. */
function earlierTurns(question) {
  if (!$("follow").checked || !state.asked) return [];
  const { question: last, text, turns } = state.asked;
  return question === last ? turns : [...turns, { question: last, answer: text }];
}

/** Offers a follow-up of this request, which was answered, if there is one. */
function offerFollowUp(asked, checked) {
  state.asked = asked;
  $("follow").checked = checked;
  $("follow-field").hidden = asked === null;
}

function isComplete({ image, question, method }) {
  return Boolean(image && question && method);
}

// -- kept tokens: the newest request wins ----------------------------------------------------------------------------

function onChange() {
  if (state.answered) answers.showStale(hasChanged(makeRequest(), state.answered));
  lookSoon();
}

/** Whether a setting of a request differs from that of an earlier one. */
function hasChanged(request, earlier) {
  const isSame = (one, other) => one === other || JSON.stringify(one) === JSON.stringify(other);
  return Object.keys(request).some((name) => !isSame(request[name], earlier[name]));
}

function lookSoon() {
  clearTimeout(state.timer);
  if (!state.opening) state.looking?.abort(); // else it belongs to the new image
  if (!state.asking && !state.opening) state.timer = setTimeout(lookAgain, WAIT); // else once these are done
}

/** Requests the kept tokens again if the settings have changed since. */
function catchUp() {
  const request = makeRequest();
  if (isComplete(request) && hasChanged(request, state.shown)) onChange();
}

async function lookAgain() {
  const request = makeRequest();
  if (isComplete(request)) await attempt(async () => showKept(await lookNewest(request), request));
}

async function lookNewest(request) {
  clearTimeout(state.timer);
  state.looking?.abort();
  const controller = (state.looking = new AbortController());
  const kept = await look(request, controller.signal);
  controller.signal.throwIfAborted();
  return kept;
}

/** Shows the kept tokens of a request, and those to compare with. */
function showKept([kept, other], request) {
  state.shown = request;
  if (!state.asking) answers.showArms(request);
  showArm(kept, "pruned");
  if (other) showArm(other, "compared");
}

function showArm(kept, which) {
  const controls = { pruned: state.first, compared: state.second }[which];
  controls.showShare(answers.showKept(kept, which));
  if (which === "pruned") showEncoded(...(kept.tiles === null ? [] : [answers.countTiles(kept.tiles)]));
}

function showEncoded(...counts) {
  const isAuto = hasAuto(), share = isAuto ? "100" : $("encode").value;
  const text = [share === "0" ? "auto" : `${share} %`, ...counts].join(", ");
  $("encode-share").textContent = text;
  $("encode").setAttribute("aria-valuetext", text);
  $("encode").disabled = isAuto;
  $("encode-note").textContent = isAuto
    ? "A policy is for whole images."
    : share === "0"
      ? "A small view of the image goes through the encoder, then each part in which the question finds as much as in the best one."
      : "So much of the image goes through the encoder at most: a small view of it, then the parts that the question needs.";
}

// -- images ----------------------------------------------------------------------------------------------------------

/** Shows another image once the server has accepted it; a refused one leaves the old image. */
async function adopt(url, name, { scene = null, drawing = false, asked = null } = {}) {
  if (state.asking) stop();
  const questions = scene?.questions ?? [];
  const typed = $("question").value;
  const request = { ...makeRequest(url), turns: asked?.turns ?? [], ...(scene && { question: questions[0].text }) };
  const kept = isComplete(request) ? await lookNewest(request) : null;
  if (scene && $("question").value === typed) $("question").value = request.question; // unless another was typed
  Object.assign(state, { image: url, name, truths: new Map(questions.map(({ text, answer }) => [text, answer])) });
  offerFollowUp(asked, request.turns.length > 0);
  $("draw").setAttribute("aria-pressed", String(drawing));
  $("palette").hidden = $("canvas").hidden = !drawing;
  const [src, title] = present(url, name);
  Object.assign($("image"), { src, alt: `The image of the question: ${title}.`, hidden: drawing });
  markScene($("gallery"), scene);
  suggest($("suggestions"), questions, (text) => {
    $("question").value = text;
    if (state.asking) stop();
    run();
  });
  state.answered = null;
  state.fit();
  answers.reset();
  answers.showPlain(src, title);
  if (kept) showKept(kept, request);
  else answers.clearKept();
}

/** Reads an image and shows it. The last one that was chosen wins, and a question asked meanwhile waits for it. */
function choose(read, name, options) {
  const opening = attempt(async () => {
    const url = await read();
    if (state.opening === opening) await adopt(url, name, options);
  }).then((done) => {
    if (state.opening === opening) {
      state.opening = null;
      catchUp();
    }
    return done;
  });
  state.opening = opening;
}

function openFile(file) {
  choose(() => read(file), file.name || "pasted");
}

/** The file as a data URL; of a clip the server shows the frames first. */
async function read(file) {
  const url = await readFile(file, state.limits);
  if (isClip(url)) state.frames.set(url, await showFrames(url));
  return url;
}

/** The image as it is shown, and what it is called: of a clip all frames side by side. */
function present(url, name) {
  if (!isClip(url)) return [url, name];
  const { sheet, times } = state.frames.get(url);
  return [sheet, `${name}, ${times.length} frames up to ${times.at(-1).toFixed(1)} s`];
}

function openScene(scene) {
  choose(() => fetchImage(scene.image), scene.title, { scene });
}

function openDrawing(url) {
  choose(async () => url, "drawing", { drawing: true });
}

/** Takes an earlier question, about its image and after the turns before it, into the field. */
function openTurn(turn) {
  $("question").value = turn.question;
  if (turn.image !== state.image) return choose(async () => turn.image, turn.name, { asked: turn });
  offerFollowUp(turn, turn.turns.length > 0);
  onChange();
}

// -- answers ---------------------------------------------------------------------------------------------------------

async function run() {
  if (state.opening && !(await state.opening)) return;
  if (state.asking) return;
  const request = makeRequest();
  if (!request.question) return showError("There is no question: type one.");
  if (!request.image) return showError("There is no image: open, draw or choose one.");
  clearTimeout(state.timer);
  state.looking?.abort();
  const controller = new AbortController();
  Object.assign(state, { asking: controller, request, answered: request });
  const truth = state.truths.get(request.question);
  answers.openAnswers(request, truth);
  showBusy(true);
  await attempt(() => ask(request, controller.signal, (event) => onEvent(event, truth, controller.signal)));
  if (state.asking === controller) halt();
}

function onEvent(event, truth, signal) {
  if (signal.aborted) return;
  if (event.type === "look") {
    state.shown = state.request;
    showArm(event, event.answer);
  }
  if (event.type === "piece") answers.addPiece(event);
  if (event.type === "cost") answers.showCost(event, truth);
  if (event.type === "saved") {
    answers.showSaved(event);
    $("history").hidden = false;
    const turn = { ...state.request, name: state.name, ...answers.describe() };
    addTurn($("turns"), turn, openTurn);
    offerFollowUp(turn, $("follow").checked);
    showStatus(state.request.compare ? "All answers are here." : "Both answers are here.");
  }
}

/** Ends the answers, and shows the kept tokens for settings that changed meanwhile. */
function halt() {
  state.asking.abort();
  state.asking = null;
  showBusy(false);
  answers.settle();
  catchUp();
}

function stop() {
  halt();
  showStatus("Stopped.");
}

function showBusy(asking) {
  $("go").textContent = asking ? "Stop" : "Ask";
  $("go").classList.toggle("stop", asking);
  $("answers").classList.toggle("busy", asking);
  if (!asking) return;
  showStatus("Asking.");
  if (matchMedia("(max-width: 55rem)").matches) $("answers").scrollIntoView({ block: "end" });
}

// -- messages --------------------------------------------------------------------------------------------------------

async function attempt(work) {
  showError("");
  try {
    await work();
    return true;
  } catch (error) {
    if (error.name !== "AbortError") showError(error.message);
    return false;
  }
}

function showError(text) {
  $("error").textContent = text;
  $("dismiss").hidden = !text;
}

function showStatus(text) {
  $("status").textContent = text;
}

// -- start -----------------------------------------------------------------------------------------------------------

/** Opens or closes the controls to compare with. */
function showCompare() {
  $("compare-field").hidden = !$("compare").checked;
  if (!state.asking) answers.showArms(makeRequest());
}

function onSetting() {
  showEncoded();
  onChange();
}

function addListeners() {
  $("go").addEventListener("click", () => (state.asking ? stop() : run()));
  $("dismiss").addEventListener("click", () => showError(""));
  $("question").addEventListener("input", onChange);
  $("follow").addEventListener("change", onChange);
  $("question").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.isComposing && !state.asking) run();
  });
  $("encode").addEventListener("input", onSetting);
  $("compare").addEventListener("change", () => {
    showCompare();
    onSetting();
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

async function start() {
  const [about, scenes] = await Promise.all([get("/about"), get("/scenes")]);
  const baseline = about.methods.find(({ name }) => name === BASELINE)?.name ?? about.method;
  state.limits = about.limits;
  state.first = new Controls("", about, about.method, onSetting);
  state.second = new Controls("compared-", about, baseline, onSetting);
  state.fit = zoomTogether($("answers"), { smaller: $("smaller"), larger: $("larger"), fit: $("fit"), level: $("level") });
  $("model").textContent = about.model;
  $("encode-field").hidden = !about.tiles;
  showCompare();
  showEncoded();
  addListeners();
  fillGallery($("gallery"), scenes, openScene);
  openScene(scenes[0]);
}

attempt(start);
