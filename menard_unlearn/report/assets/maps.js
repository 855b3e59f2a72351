// The target's tokens under each model, side by side: built when they come into view, scrolled and pointed at together.
(() => {
  "use strict";
  const { maps, texts } = page.data;
  const places = maps.map((map) => document.getElementById(map.id));
  const cells = maps.map(() => null);

  const build = (place) => {
    const number = places.indexOf(place);
    const { classes, text, kind = "h", helped = "" } = maps[number];
    const words = text === null ? null : texts[text];
    cells[number] = [...classes].map((step, at) => {
      const cell = document.createElement("i");
      cell.className = helped[at] === "1" ? `${kind}${step} up` : `${kind}${step}`;
      cell.dataset.t = at;
      if (words) cell.textContent = words[at].replaceAll("\n", "↵\n");
      return cell;
    });
    place.append(...cells[number]);
  };

  // Maps are of one text where they have as many tokens: those that are not published have no more to tell them by.
  const alike = (number) => maps.flatMap((map, other) =>
    map.kind === maps[number].kind && map.text === maps[number].text && map.classes.length === maps[number].classes.length ? [other] : []);

  const tip = document.createElement("div");
  tip.className = "tip";
  tip.setAttribute("role", "tooltip");
  tip.hidden = true;
  document.body.append(tip);
  const unmark = () => {
    document.querySelectorAll(".map .at").forEach((cell) => cell.classList.remove("at"));
    tip.hidden = true;
  };
  const signed = (number) => number.toFixed(2).replace("-", "−");
  const figures = ({ ranks, logprobs, changes }, at) => (changes
    ? ["", `change ${changes[at] > 0 ? "+" : ""}${signed(changes[at])}`]
    : [`rank ${ranks[at]}`, `log-prob ${signed(logprobs[at])}`]);
  // Of an edited model's map what each edit does; of others every model that is shown.
  const rows = (number) => {
    if (maps[number].told) return maps[number].told.map((row, place) => [row, place === 1]);
    const shown = alike(number).filter((other) => !places[other].closest("[hidden]"));
    return (shown.length > 12 ? [number] : shown).map((other) => [maps[other], other === number]);
  };
  const told = (number, at) => {
    const table = document.createElement("table");
    for (const [row, isOwn] of rows(number)) {
      const line = table.insertRow();
      if (isOwn) line.className = "own";
      for (const text of [row.name, ...figures(row, at)]) line.insertCell().textContent = text;
    }
    tip.replaceChildren(`token ${at + 1}`, table);
  };
  const point = (event) => {
    const cell = event.target.closest?.(".map i");
    if (!cell) return unmark();
    const number = places.indexOf(cell.parentElement);
    const at = Number(cell.dataset.t);
    unmark();
    for (const other of alike(number)) cells[other]?.[at].classList.add("at");
    told(number, at);
    tip.hidden = false;
    const left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
    const below = event.clientY + 18;
    const top = below + tip.offsetHeight < innerHeight ? below : event.clientY - tip.offsetHeight - 12;
    tip.style.left = `${Math.max(left, 4)}px`;
    tip.style.top = `${Math.max(top, 4)}px`;
  };
  document.addEventListener("pointerover", point);
  addEventListener("scroll", unmark, { passive: true });

  let leading = null;
  places.forEach((place, number) => {
    place.addEventListener("pointerenter", () => { leading = place; });
    place.addEventListener("focus", () => { leading = place; });
    place.addEventListener("scroll", () => {
      if (leading !== place) return;  // it follows another
      const share = place.scrollTop / Math.max(place.scrollHeight - place.clientHeight, 1);
      for (const other of alike(number)) {
        if (places[other] !== place) places[other].scrollTop = share * (places[other].scrollHeight - places[other].clientHeight);
      }
    }, { passive: true });
  });

  page.whenSeen(places, build);
  addEventListener("beforeprint", () => places.forEach((place, number) => { if (!cells[number]) build(place); }));
})();
