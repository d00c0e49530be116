// What the server is asked, and how it says no.

/** A refusal, in the server's own sentence. */
export class Refusal extends Error {}

const LOST = "The server cannot be reached: see whether `foveate demo` still runs, then ask again.";

export function get(path) {
  return reached(async () => (await checked(await fetch(path))).json());
}

/** The kept tokens of a wish: {picture, question, keep, method}. */
export function look(wish, signal) {
  return reached(async () => (await post("/look", wish, signal)).json());
}

/** Both answers; `tell` gets every event as it comes. */
export function ask(wish, signal, tell) {
  return reached(async () => {
    const response = await post("/ask", wish, signal);
    let last = null;
    for await (const event of lines(response.body)) {
      if (event.type === "error") throw new Refusal(event.error);
      tell(event);
      last = event.type;
    }
    if (last !== "saved") throw new Refusal(LOST);
  });
}

async function post(path, wish, signal) {
  const headers = { "Content-Type": "application/json" };
  return checked(await fetch(path, { method: "POST", headers, body: JSON.stringify(wish), signal }));
}

async function checked(response) {
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  throw new Refusal(told.error ?? `The server answered with status ${response.status}: its log says why.`);
}

async function reached(call) {
  try {
    return await call();
  } catch (error) {
    if (error.name === "AbortError" || error instanceof Refusal) throw error;
    throw new Refusal(LOST);
  }
}

async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (held + value).split("\n");
    held = parts.pop();
    yield* parts.map((part) => JSON.parse(part));
  }
}
