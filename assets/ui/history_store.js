// The history: the runs that this browser stores in IndexedDB, the newest 50, a few megabytes in all. If the browser
// forbids storage or it is full, runs stay in memory until the page is closed, and `problem` says which it is.
{
  const VERSION = 1;
  const NEWEST = 50;
  const MOST_CHARACTERS = 5 * 2 ** 20; // of all records together
  const inMemory = new Map(), // entries that could not be stored, by id
    removedIds = new Set();
  let opening = null,
    problem = "";

  const open = () =>
    (opening ||= new Promise((resolve, reject) => {
      const request = indexedDB.open("bon-history", VERSION);
      request.onupgradeneeded = () =>
        request.result.createObjectStore("runs", { keyPath: "id" }).createIndex("age", ["at", "size"]);
      request.onerror = () => reject(request.error);
      request.onsuccess = () => {
        request.result.onversionchange = () => request.result.close();
        resolve(request.result);
      };
    }));

  const transact = async (mode, work) => {
    const transaction = (await open()).transaction("runs", mode);
    return new Promise((resolve, reject) => {
      const request = work(transaction.objectStore("runs"));
      transaction.oncomplete = () => resolve(request?.result);
      transaction.onabort = () => reject(transaction.error || new Error("aborted"));
    });
  };

  // Deletes the oldest entries beyond the limits. The newest one stays, however large.
  const trim = (store) => {
    let count = 0,
      size = 0;
    store.index("age").openKeyCursor(null, "prev").onsuccess = ({ target: { result: cursor } }) => {
      if (!cursor) return;
      count += 1;
      size += cursor.key[1];
      if (count > 1 && (count > NEWEST || size > MOST_CHARACTERS)) store.delete(cursor.primaryKey);
      cursor.continue();
    };
  };

  const put = async (entry) => {
    removedIds.delete(entry.id);
    try {
      await transact("readwrite", (store) => {
        // A run that is shown or ranked again is not a new run: its first record stays.
        const key = store.getKey(entry.id);
        key.onsuccess = () => key.result === undefined && (store.add(entry), trim(store));
      });
    } catch (error) {
      problem = error?.name === "QuotaExceededError" ? "full" : "closed";
      if (!inMemory.has(entry.id)) inMemory.set(entry.id, entry);
      if (inMemory.size > NEWEST) inMemory.delete(inMemory.keys().next().value);
    }
  };
  const announceChange = () => document.dispatchEvent(new Event("bon:saved"));

  // The id of a run: its prompt, seed, n and timing.
  const identity = ({ prompt, settings, timing }) => JSON.stringify([prompt, settings.seed, settings.n, timing]);

  bon.historyStore = {
    NEWEST,
    version: VERSION,
    // "full" or "closed" if runs stay in memory, or an empty text.
    problem: () => problem,

    // record: a run as JSON; phase: how it ended.
    save: async ({ record, phase }) => {
      const id = identity(JSON.parse(record));
      if (removedIds.has(id)) return;
      await put({ id, v: VERSION, at: Date.now(), size: record.length, phase, record });
      announceChange();
    },

    // All entries, newest first, including those that cannot be read.
    all: async () => {
      let stored = [];
      try {
        stored = await transact("readonly", (store) => store.getAll());
      } catch {
        problem ||= "closed";
      }
      const at = (entry) => (Number.isFinite(entry.at) ? entry.at : 0);
      return [...stored, ...inMemory.values()].sort((a, b) => at(b) - at(a));
    },

    remove: async (entries) => {
      for (const { id } of entries) (inMemory.delete(id), removedIds.add(id));
      await transact("readwrite", (store) => void entries.forEach(({ id }) => store.delete(id))).catch(() => {});
    },

    restore: async (entries) => {
      for (const entry of entries) await put(entry);
      announceChange();
    },
  };

  document.addEventListener("bon:ended", ({ detail }) => bon.historyStore.save(detail));
}
