// Requests to the server, and its errors.

/** A refused request, with the server's own sentence. */
export class RequestError extends Error {}

const LOST = "The server cannot be reached: check that `foveate demo` still runs, then ask again.";

export function get(path) {
  return reach(async () => (await check(await fetch(path))).json());
}

/** The kept tokens of a request, {image, question, keep, method, encode, turns, compare}, and those of `compare`, another
 *  {keep, method}, if there is one; keep is a share or "auto". */
export function look({ compare, ...request }, signal) {
  const arms = compare ? [request, { ...request, ...compare }] : [request];
  return Promise.all(arms.map((arm) => reach(async () => (await post("/look", arm, signal)).json())));
}

/** The frames of a clip, side by side in one image, and their seconds. */
export function showFrames(image) {
  return reach(async () => (await post("/frames", { image })).json());
}

/** All answers; `onEvent` is called with every event as it arrives. */
export function ask(request, signal, onEvent) {
  return reach(async () => {
    const response = await post("/ask", request, signal);
    let last = null;
    for await (const event of readLines(response.body)) {
      if (event.type === "error") throw new RequestError(event.error);
      onEvent(event);
      last = event.type;
    }
    if (last !== "saved") throw new RequestError(LOST);
  });
}

async function post(path, request, signal) {
  const headers = { "Content-Type": "application/json" };
  return check(await fetch(path, { method: "POST", headers, body: JSON.stringify(request), signal }));
}

async function check(response) {
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw new RequestError(body.error ?? `The server answered with status ${response.status}: its log says why.`);
}

async function reach(call) {
  try {
    return await call();
  } catch (error) {
    if (error.name === "AbortError" || error instanceof RequestError) throw error;
    throw new RequestError(LOST);
  }
}

async function* readLines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    yield* parts.map((part) => JSON.parse(part));
  }
}
