// From a file that somebody chose, dropped or pasted to a picture that can be sent.

const KINDS = [
  ["image/png", [0x89, 0x50, 0x4e, 0x47]],
  ["image/jpeg", [0xff, 0xd8, 0xff]],
  ["image/gif", [0x47, 0x49, 0x46, 0x38]],
  ["image/webp", [0x52, 0x49, 0x46, 0x46]],
];
const SPARE = 16 * 1024; // bytes of a request beside the picture

/** The file as a data URL. Throws an Error whose message is a sentence for whoever chose it. */
export async function readPicture(file, limits) {
  const largest = Math.floor(((limits.bytes - SPARE) * 3) / 4); // base64 makes four letters of three bytes
  if (file.size > largest) {
    throw new Error(`${named(file)} has ${mib(file.size)} MiB, and the limit is ${mib(largest)} MiB: scale it down.`);
  }
  const head = new Uint8Array(await file.slice(0, 4).arrayBuffer());
  const kind = KINDS.find(([, bytes]) => bytes.every((byte, i) => byte === head[i]));
  const bad = `${named(file)} is no picture that can be read: use a PNG, JPEG, WebP or GIF file.`;
  if (!kind) throw new Error(bad);
  const url = await dataUrl(new Blob([file], { type: kind[0] }));
  const { naturalWidth: width, naturalHeight: height } = await decoded(url).catch(() => {
    throw new Error(bad);
  });
  if (width * height > limits.pixels) {
    const most = limits.pixels / 1e6;
    throw new Error(
      `${named(file)} has ${(width * height / 1e6).toFixed(1)} megapixels, and the limit is ${most}: scale it down.`,
    );
  }
  return url;
}

/** A picture of the server's own. */
export async function fetched(path) {
  return dataUrl(await (await fetch(path)).blob());
}

/** Calls `open` with a file that is dropped on the page or pasted; `stage` shows that it would be taken. */
export function takeFiles(stage, open) {
  const files = (event) => [...(event.dataTransfer?.items ?? [])].some(({ kind }) => kind === "file");
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    stage.classList.toggle("over", files(event));
  });
  for (const end of ["dragleave", "drop"]) document.addEventListener(end, () => stage.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    const words = event.clipboardData.types.includes("text/plain"); // of a table, say, which comes as a picture too
    if (event.clipboardData.files[0] && !words) open(event.clipboardData.files[0]);
  });
}

async function decoded(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  return image;
}

function dataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

const named = (file) => (file.name ? `“${file.name}”` : "The picture");
const mib = (bytes) => (bytes / 2 ** 20).toFixed(1);
