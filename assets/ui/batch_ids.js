// The ids of the batches that this browser stores, that of the batch on display first. If the browser forbids storage,
// they last as long as the page.
{
  const STORAGE_KEY = "bon-batches";
  const MOST_IDS = 8;
  let ids = [];

  bon.batchIds = {
    // Reads the stored ids: another tab may have changed them.
    all: () => {
      try {
        const stored = JSON.parse(bon.readStored("localStorage", STORAGE_KEY));
        if (Array.isArray(stored)) ids = stored.filter((id) => typeof id === "string");
      } catch {
        // Not JSON: the ids in memory stay.
      }
      return ids;
    },

    putFirst: (id) => set([id, ...bon.batchIds.all().filter((other) => other !== id)]),

    remove: (removed) => set(bon.batchIds.all().filter((id) => !removed.includes(id))),

    // Calls onChange when another tab has changed the ids.
    watch: (onChange) => addEventListener("storage", ({ key }) => key === STORAGE_KEY && onChange()),
  };

  const set = (newIds) => {
    ids = newIds.slice(0, MOST_IDS);
    bon.store("localStorage", STORAGE_KEY, JSON.stringify(ids));
  };
}
