// What all parts of the page share: its data, light or dark, and which groups are shown.
const page = (() => {
  "use strict";
  const root = document.documentElement;
  const data = JSON.parse(document.getElementById("data").textContent);
  const system = matchMedia("(prefers-color-scheme: dark)");
  const listeners = [];
  const hidden = new Set();
  let printing = false;

  const isDark = () => !printing && (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const changed = () => listeners.forEach((listener) => listener());
  const fail = (problem) => {
    root.dataset.failed = String(problem?.message ?? problem);
    document.getElementById("failed").hidden = false;
  };
  addEventListener("error", (event) => fail(event.error ?? event.message));
  addEventListener("unhandledrejection", (event) => fail(event.reason));

  // Some browsers keep nothing for pages that are files.
  const kept = (action) => { try { return action(localStorage); } catch { return null; } };
  const theme = document.getElementById("theme");
  const named = () => { theme.textContent = isDark() ? "light page" : "dark page"; };
  const chosen = kept((store) => store.getItem("menard-theme"));
  if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen;
  theme.hidden = false;
  named();
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    kept((store) => store.setItem("menard-theme", root.dataset.theme));
    named();
    changed();
  });
  system.addEventListener("change", () => { named(); changed(); });

  const choice = document.getElementById("choice");
  const show = () => {
    for (const box of choice.querySelectorAll("input")) hidden[box.checked ? "delete" : "add"](Number(box.value));
    for (const part of document.querySelectorAll("[data-m]")) part.hidden = hidden.has(Number(part.dataset.m));
    changed();
  };
  choice?.addEventListener("change", show);
  choice?.addEventListener("click", (event) => {
    if (event.target.dataset.all === undefined) return;
    for (const box of choice.querySelectorAll("input")) box.checked = event.target.dataset.all === "1";
    show();
  });

  // Calls back once for each place, when it first comes near the window; all at once where that cannot be told.
  const whenSeen = (places, callback) => {
    if (!("IntersectionObserver" in window)) return places.forEach(callback);
    const observer = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        if (!isIntersecting) continue;
        observer.unobserve(target);
        callback(target);
      }
    }, { rootMargin: "500px" });
    places.forEach((place) => observer.observe(place));
  };

  return {
    data, hidden, isDark, fail, whenSeen,
    onChange: (listener) => listeners.push(listener),
    print: (now) => { printing = now; },
  };
})();
