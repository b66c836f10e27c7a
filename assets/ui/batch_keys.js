// The keys of the batches that this browser stores, that of the batch on display first. If the browser forbids storage,
// they last as long as the page.
{
  const STORAGE_KEY = "bon-batches";
  const MOST_KEYS = 8;
  let keys = [];

  bon.batchKeys = {
    // Reads the stored keys: another tab may have changed them.
    all: () => {
      try {
        const stored = JSON.parse(bon.readStored("localStorage", STORAGE_KEY));
        if (Array.isArray(stored)) keys = stored.filter((key) => typeof key === "string");
      } catch {
        // Not JSON: the keys in memory stay.
      }
      return keys;
    },

    putFirst: (key) => set([key, ...bon.batchKeys.all().filter((other) => other !== key)]),

    remove: (removed) => set(bon.batchKeys.all().filter((key) => !removed.includes(key))),

    // Calls onChange when another tab has changed the keys.
    watch: (onChange) => addEventListener("storage", (event) => event.key === STORAGE_KEY && onChange()),
  };

  const set = (newKeys) => {
    keys = newKeys.slice(0, MOST_KEYS);
    bon.store("localStorage", STORAGE_KEY, JSON.stringify(keys));
  };
}
