// Texts that this browser stores by key. area: "localStorage", or "sessionStorage", which ends with the browser tab.
// If the browser forbids storage, nothing is stored and every text is null.
{
  window.bon = window.bon || {};

  bon.readStored = (area, key) => {
    try {
      return window[area].getItem(key);
    } catch {
      return null;
    }
  };

  // A null text removes the key.
  bon.store = (area, key, text) => {
    try {
      if (text === null) window[area].removeItem(key);
      else window[area].setItem(key, text);
    } catch {
      // Forbidden or full.
    }
  };
}
