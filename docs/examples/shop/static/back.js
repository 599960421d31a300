// Chromium may keep a page for the Back button although it says no-store. It must not show it again as it was.
addEventListener("pagehide", () => { document.documentElement.hidden = true });
addEventListener("pageshow", event => { if (event.persisted) location.reload() });
