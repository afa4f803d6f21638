// Before the first paint, so that a chosen theme does not flash: no module, which would wait for the document.
"use strict";
(() => {
  const NAME = "metagame.theme";
  const root = document.documentElement;
  let chosen = null;
  try {
    chosen = localStorage.getItem(NAME);
  } catch {
    // Storage may be closed to a page in another page's frame.
  }
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;

  window.metagameTheme = {
    get: () => root.dataset.theme ?? "auto",
    set(theme) {
      if (theme === "auto") delete root.dataset.theme;
      else root.dataset.theme = theme;
      try {
        localStorage.setItem(NAME, theme);
      } catch {
        // It then holds for this visit.
      }
    },
  };
})();
