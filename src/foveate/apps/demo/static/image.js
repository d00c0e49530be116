// From a file that was chosen, dropped or pasted to an image that can be sent.

const KINDS = [
  ["image/png", [0x89, 0x50, 0x4e, 0x47]],
  ["image/jpeg", [0xff, 0xd8, 0xff]],
  ["image/gif", [0x47, 0x49, 0x46, 0x38]],
  ["image/webp", [0x52, 0x49, 0x46, 0x46]],
];
const SPARE = 16 * 1024; // bytes of a request beside the image

/** Whether a data URL holds a clip. */
export const isClip = (url) => url.startsWith("data:video/");

/** The file of an image or a clip as a data URL. Throws an Error whose message is a sentence for the user. */
export async function readFile(file, limits) {
  const largest = Math.floor(((limits.bytes - SPARE) * 3) / 4); // base64 makes four characters of three bytes
  if (file.size > largest) {
    throw new Error(`${named(file)} has ${mib(file.size)} MiB, and the limit is ${mib(largest)} MiB: scale it down.`);
  }
  if (file.type.startsWith("video/")) return dataUrl(file); // which the server reads
  const head = new Uint8Array(await file.slice(0, 4).arrayBuffer());
  const kind = KINDS.find(([, bytes]) => bytes.every((byte, i) => byte === head[i]));
  const bad = `${named(file)} is not a readable image: use a PNG, JPEG, WebP or GIF file, or a clip.`;
  if (!kind) throw new Error(bad);
  const url = await dataUrl(new Blob([file], { type: kind[0] }));
  const { naturalWidth: width, naturalHeight: height } = await decode(url).catch(() => {
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

/** An image of the server as a data URL. */
export async function fetchImage(path) {
  return dataUrl(await (await fetch(path)).blob());
}

/** Calls `open` with a file that is dropped on the page or pasted; `stage` marks a possible drop. */
export function takeFiles(stage, open) {
  const hasFile = (event) => [...(event.dataTransfer?.items ?? [])].some(({ kind }) => kind === "file");
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    stage.classList.toggle("drag-over", hasFile(event));
  });
  for (const end of ["dragleave", "drop"]) document.addEventListener(end, () => stage.classList.remove("drag-over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    const hasText = event.clipboardData.types.includes("text/plain"); // a copied table comes as an image too
    if (event.clipboardData.files[0] && !hasText) open(event.clipboardData.files[0]);
  });
}

async function decode(url) {
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

const named = (file) => (file.name ? `“${file.name}”` : "The image");
const mib = (bytes) => (bytes / 2 ** 20).toFixed(1);
