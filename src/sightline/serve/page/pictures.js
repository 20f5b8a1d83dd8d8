// Pictures on their way from a person to the server.
//
// Comes in: files as they were dropped, pasted or chosen. Goes out: `{name, blob}` within the server's limits,
// or an Error in words. A picture within the limits is sent byte for byte, so that the model sees what it
// would see on the command line; the others are drawn anew: upright, smaller, without their metadata.

const MAX_SIDE = 2048; // pixels: more than any tiling of today looks at
const MAX_BYTES = 2 ** 20; // eight of these, in base64, fit into the server's limit of 12 MiB for a request
const MIN_SIDE = 2; // as in data/image.py, like the next
const MAX_ASPECT = 100;

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
    const fits = scale === 1 && bytes.byteLength <= MAX_BYTES && type;
    return { name, blob: fits ? new Blob([bytes], { type }) : await redrawn(bitmap, scale) };
  } finally {
    bitmap.close();
  }
}

/** The picture as a smaller file: fewer pixels until it fits. */
async function redrawn(bitmap, scale) {
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(MIN_SIDE, Math.round(side * scale)));
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  let blob = await encoded(canvas, "image/webp"); // small, and keeps transparency
  if (blob.type !== "image/webp") {
    // A browser that writes none: white shows through, as on the server.
    context.globalCompositeOperation = "destination-over";
    context.fillStyle = "#fff";
    context.fillRect(0, 0, width, height);
    blob = await encoded(canvas, "image/jpeg");
  }
  return blob.size <= MAX_BYTES ? blob : redrawn(bitmap, scale * 0.7);
}

const encoded = (canvas, type) => new Promise((resolve) => canvas.toBlob(resolve, type, 0.9));

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
