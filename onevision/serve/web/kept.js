// The conversation, kept in this browser until "New chat", so that a reload loses nothing.

const STORE = "talk", KEY = "current";
const MAX_CHARACTERS = 100e6; // of data URLs

function open() {
  return new Promise((resolve, reject) => {
    const asked = indexedDB.open("onevision", 1);
    asked.onupgradeneeded = () => asked.result.createObjectStore(STORE);
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });
}

async function run(mode, act) {
  const base = await open();
  try {
    return await new Promise((resolve, reject) => {
      const work = base.transaction(STORE, mode);
      const asked = act(work.objectStore(STORE));
      work.oncomplete = () => resolve(asked.result);
      work.onerror = work.onabort = () => reject(work.error);
    });
  } finally {
    base.close();
  }
}

// Keeps the turns; returns whether they are kept.
export async function keep(talk) {
  const size = talk.flatMap((turn) => turn.media ?? []).reduce((sum, medium) => sum + medium.url.length, 0);
  try {
    if (size > MAX_CHARACTERS) await run("readwrite", (store) => store.delete(KEY));
    else await run("readwrite", (store) => store.put(talk, KEY));
    return size <= MAX_CHARACTERS;
  } catch { return false; } // no room, or storage is switched off
}

export async function kept() {
  try {
    return (await run("readonly", (store) => store.get(KEY))) ?? [];
  } catch { return []; }
}
