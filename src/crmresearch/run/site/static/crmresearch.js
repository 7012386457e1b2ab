// Filter claims and rows of the ledger, sort columns, and keep both in the address. Without scripts all is shown.
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const items = all(".crm-claim, .crm-sortable tbody tr");
  const said = new Map(items.map((item) => [item, `${item.textContent} ${item.dataset.find ?? ""}`.toLowerCase()]));
  const tiles = all(".crm-tile"), finder = document.querySelector(".crm-find");
  const field = finder?.querySelector("input"), status = finder?.querySelector("[role=status]");
  let state;

  const filter = () => {
    const words = (state.get("find") ?? "").toLowerCase().split(/\s+/), answer = state.get("answer");
    for (const item of items) {
      const answered = !answer || (item.dataset.answer ?? "").split(" ").includes(answer);
      item.hidden = !(answered && words.every((word) => said.get(item).includes(word)));
    }
    for (const list of all(".crm-ledger")) {
      const section = list.closest("section"), any = list.querySelector(".crm-claim:not([hidden])");
      if (section) section.hidden = !any;
      if (any && list.parentElement.matches("details") && words.join("")) list.parentElement.open = true;
    }
    for (const tile of tiles) tile.setAttribute("aria-pressed", String(tile.dataset.filter === answer));
    const shown = items.filter((item) => !item.hidden).length;
    if (status) status.textContent = status.dataset.said.replace("#", shown).replace("#", items.length);
  };

  const sort = () => {
    for (const table of all(".crm-sortable")) {
      const heads = all("thead th", table), [key, down] = (state.get(table.id) ?? "").split(" ");
      const column = heads.findIndex((head) => head.dataset.key === key);
      heads.forEach((head, k) => head.setAttribute("aria-sort", k !== column ? "none" : down ? "descending" : "ascending"));
      if (column < 0) continue;
      const value = (row) => row.cells[column].dataset.sort, number = (text) => text !== "" && isFinite(text);
      const order = (a, b) => (number(a) && number(b) ? a - b : a.localeCompare(b, undefined, { numeric: true }));
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        return x === "" || y === "" ? (x === "") - (y === "") : (down ? -1 : 1) * order(x, y); // what is missing stands last
      });
      table.tBodies[0].append(...rows);
    }
  };

  const keep = (key, value) => {
    value ? state.set(key, value) : state.delete(key);
    history.replaceState(null, "", `${location.pathname}${location.search}${String(state) && `#${state}`}`);
    filter();
    sort();
  };

  // an address is a place on the page, or what is filtered and sorted
  const read = () => {
    const place = decodeURIComponent(location.hash.slice(1));
    state = new URLSearchParams(place.includes("=") ? location.hash.slice(1) : "");
    if (field) field.value = state.get("find") ?? "";
    filter();
    sort();
    const line = !place.includes("=") && place && document.getElementById(place);
    for (let part = line; part; part = part.parentElement) if (part.matches("details")) part.open = true;
    if (line) {
      if (line.classList.contains("crm-line")) line.querySelector("details")?.setAttribute("open", "");
      line.scrollIntoView();
    }
  };

  for (const tile of tiles) {
    tile.addEventListener("click", () => keep("answer", state.get("answer") === tile.dataset.filter ? "" : tile.dataset.filter));
  }
  for (const head of all(".crm-sortable thead th")) {
    const button = document.createElement("button"), table = head.closest("table");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      keep(table.id, head.getAttribute("aria-sort") === "ascending" ? `${head.dataset.key} down` : head.dataset.key);
    });
  }
  if (finder) finder.hidden = false;
  field?.addEventListener("input", () => keep("find", field.value.trim()));
  addEventListener("hashchange", read);
  const folded = "details.crm-fold, .cell_output details, .crm-more details";
  addEventListener("beforeprint", () => all(folded).forEach((part) => { part.open = true; }));
  read();
})();
