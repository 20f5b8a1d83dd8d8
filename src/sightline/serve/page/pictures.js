// Pictures on their way from a person to the server, and the heat that comes back.
//
// Comes in: files as they were dropped, pasted or chosen. Goes out: `{name, blob, width, height}` within the server's
// limits, or an Error in words. A picture within the limits is sent byte for byte, so that the model sees what it
// would see on the command line; the others are drawn anew: upright, smaller, without their metadata.

const MAX_SIDE = 2048; // pixels: more than any tiling of today looks at
const MAX_BYTES = 2 ** 20; // eight of these, in base64, fit into the server's limit of 12 MiB for a request
const MIN_SIDE = 2; // as in data/image.py, like the next
const MAX_ASPECT = 100;
const QUALITIES = [0.92, 0.8, 0.6, 0.4];

/** The type by the bytes: the server trusts no name either. Null for what it does not take in a data URL. */
function typeOf(bytes) {
  const start = String.fromCharCode(...bytes.subarray(0, 12));
  if (start.startsWith("\x89PNG")) return "image/png";
  if (start.startsWith("\xff\xd8\xff")) return "image/jpeg";
  return /^RIFF[^]{4}WEBP$/.test(start) ? "image/webp" : null;
}

/** A file as a picture that the server takes. Throws an Error whose message can be shown. */
export async function prepare(file) {
  const name = file.name || "pasted picture";
  let bytes;
  let bitmap;
  try {
    bytes = await file.arrayBuffer(); // a copy: the file may change or go
    bitmap = await createImageBitmap(file); // upright: the browser turns it by its EXIF tag
  } catch {
    throw new Error(`${name} is not a picture that this browser can read.`);
  }
  try {
    const { width, height } = bitmap;
    const [short, long] = [Math.min(width, height), Math.max(width, height)];
    if (short < MIN_SIDE || long > MAX_ASPECT * short) {
      throw new Error(`${name} is ${width} × ${height} pixels: too thin to look at. Crop it.`);
    }
    const scale = Math.min(1, MAX_SIDE / long);
    const type = typeOf(new Uint8Array(bytes, 0, Math.min(12, bytes.byteLength)));
    if (scale === 1 && bytes.byteLength <= MAX_BYTES && type) return { name, blob: new Blob([bytes], { type }), width, height };
    return { name, ...(await redrawn(bitmap, scale)) };
  } finally {
    bitmap.close();
  }
}

async function redrawn(bitmap, scale) {
  const width = Math.max(MIN_SIDE, Math.round(bitmap.width * scale));
  const height = Math.max(MIN_SIDE, Math.round(bitmap.height * scale));
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  let blob = null;
  for (const quality of QUALITIES) {
    blob = await encoded(canvas, "image/webp", quality); // small, and keeps transparency
    if (blob?.type !== "image/webp") break;
    if (blob.size <= MAX_BYTES) return { blob, width, height };
  }
  // A browser that writes no WebP, or a picture that will not shrink: white shows through, as on the server.
  context.globalCompositeOperation = "destination-over";
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, width, height);
  return { blob: await encoded(canvas, "image/jpeg", 0.85), width, height };
}

const encoded = (canvas, type, quality) => new Promise((resolve) => canvas.toBlob(resolve, type, quality));

/** The picture as the address of an `image_url`. */
export const dataAddress = (blob) =>
  new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });

const addresses = new WeakMap();

/** An address that shows the picture on this page, the same for the same blob. */
export function shownAddress(blob) {
  if (!addresses.has(blob)) addresses.set(blob, URL.createObjectURL(blob));
  return addresses.get(blob);
}
