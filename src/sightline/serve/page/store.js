// What this browser keeps, and nobody else.
//
// Comes in: conversations as plain objects with pictures as blobs. Goes out: the same, newest first. IndexedDB holds
// blobs as they are, localStorage 5 MB of text. Where the browser allows no storage (private windows, a full disk)
// `load`, `save` and `remove` reject, and the page says so; short texts are then merely not kept.

export const KEPT = 50; // conversations; older ones make room

const NAME = "sightline";
const TABLE = "conversations";

const settled = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

let opened = null;

function database() {
  if (opened === null) {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(TABLE, { keyPath: "id" });
    opened = settled(request);
    opened.catch(() => (opened = null)); // so that the next call tries again
  }
  return opened;
}

async function transact(mode, work) {
  const transaction = (await database()).transaction(TABLE, mode);
  const result = await work(transaction.objectStore(TABLE));
  if (mode === "readonly") return result;
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve(result);
    transaction.onabort = () => reject(transaction.error); // a full disk shows here, not in the request
  });
}

/** All conversations, the one spoken last first. */
export async function load() {
  const all = await transact("readonly", (table) => settled(table.getAll()));
  return all.sort((one, other) => other.updated - one.updated);
}

export const save = (conversation) => transact("readwrite", (table) => settled(table.put(conversation)));

export const remove = (id) => transact("readwrite", (table) => settled(table.delete(id)));

/** A short text. `where`: localStorage, or sessionStorage, which is gone when the tab is closed. */
export function jot(where, name, text) {
  try {
    window[where].setItem(`${NAME}.${name}`, text);
  } catch {
    // Not allowed, or no room. The page works without.
  }
}

export function jotted(where, name) {
  try {
    return window[where].getItem(`${NAME}.${name}`);
  } catch {
    return null;
  }
}
