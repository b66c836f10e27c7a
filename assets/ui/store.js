// The runs that this browser keeps, in IndexedDB: the newest 50, a few megabytes in all. Where a page may not store
// anything, or nothing more, runs stay in memory until the page is closed, and `problem` says so.
{
  const VERSION = 1;
  const NEWEST = 50;
  const ROOM = 5 * 2 ** 20; // characters of all records together
  const spare = new Map(),
    removed = new Set();
  let opening = null,
    problem = "";

  const open = () =>
    (opening ||= new Promise((resolve, reject) => {
      const asked = indexedDB.open("bon-history", VERSION);
      asked.onupgradeneeded = () =>
        asked.result.createObjectStore("runs", { keyPath: "id" }).createIndex("age", ["at", "size"]);
      asked.onerror = () => reject(asked.error);
      asked.onsuccess = () => {
        asked.result.onversionchange = () => asked.result.close();
        resolve(asked.result);
      };
    }));

  const transact = async (mode, work) => {
    const made = (await open()).transaction("runs", mode);
    return new Promise((resolve, reject) => {
      const asked = work(made.objectStore("runs"));
      made.oncomplete = () => resolve(asked?.result);
      made.onabort = () => reject(made.error || new Error("aborted"));
    });
  };

  // Newest first; what is beyond the bounds goes. The newest stays, however large.
  const trim = (store) => {
    let count = 0,
      size = 0;
    store.index("age").openKeyCursor(null, "prev").onsuccess = ({ target: { result: cursor } }) => {
      if (!cursor) return;
      count += 1;
      size += cursor.key[1];
      if (count > 1 && (count > NEWEST || size > ROOM)) store.delete(cursor.primaryKey);
      cursor.continue();
    };
  };

  const put = async (entry) => {
    removed.delete(entry.id);
    try {
      await transact("readwrite", (store) => {
        // A run that is shown again, or ranked anew, is no new run: the first record of it stays.
        const known = store.getKey(entry.id);
        known.onsuccess = () => known.result === undefined && (store.add(entry), trim(store));
      });
    } catch (error) {
      problem = error?.name === "QuotaExceededError" ? "full" : "closed";
      if (!spare.has(entry.id)) spare.set(entry.id, entry);
      if (spare.size > NEWEST) spare.delete(spare.keys().next().value);
    }
  };
  const changed = () => document.dispatchEvent(new Event("bon:kept"));

  // One run is one timing of one prompt and seed.
  const identity = ({ prompt, settings, timing }) => JSON.stringify([prompt, settings.seed, settings.n, timing]);

  bon.store = {
    NEWEST,
    version: VERSION,
    problem: () => problem,

    keep: async ({ record, phase }) => {
      const id = identity(JSON.parse(record));
      if (removed.has(id)) return;
      await put({ id, v: VERSION, at: Date.now(), size: record.length, phase, record });
      changed();
    },

    // All entries, newest first, whatever is in them.
    all: async () => {
      let kept = [];
      try {
        kept = await transact("readonly", (store) => store.getAll());
      } catch {
        problem ||= "closed";
      }
      const at = (entry) => (Number.isFinite(entry.at) ? entry.at : 0);
      return [...kept, ...spare.values()].sort((a, b) => at(b) - at(a));
    },

    remove: async (entries) => {
      for (const { id } of entries) (spare.delete(id), removed.add(id));
      await transact("readwrite", (store) => void entries.forEach(({ id }) => store.delete(id))).catch(() => {});
    },

    restore: async (entries) => {
      for (const entry of entries) await put(entry);
      changed();
    },
  };

  document.addEventListener("bon:ended", ({ detail }) => bon.store.keep(detail));

  // The draft of a run that is under way, for when the page is left meanwhile, by Gradio's own reload too.
  const LEFT = "bon-left";
  bon.leaveRun = (draft) => {
    try {
      if (draft) sessionStorage.setItem(LEFT, draft);
      else sessionStorage.removeItem(LEFT);
    } catch {
      // Where nothing may be stored, nothing is.
    }
  };
  bon.leftRun = () => {
    try {
      const draft = sessionStorage.getItem(LEFT);
      sessionStorage.removeItem(LEFT);
      return draft;
    } catch {
      return null;
    }
  };
}
