// Press an answer to see only its claims; press it again to see all. Without scripts every claim is shown.
(() => {
  const tiles = document.querySelectorAll(".crm-tile");
  const show = (answer) => {
    for (const claim of document.querySelectorAll(".crm-claim")) claim.hidden = answer !== null && !claim.dataset.answer.split(" ").includes(answer);
    for (const list of document.querySelectorAll(".crm-ledger")) {
      const section = list.closest("section");
      if (section) section.hidden = !list.querySelector(".crm-claim:not([hidden])");
    }
  };
  for (const tile of tiles) {
    tile.addEventListener("click", () => {
      const press = tile.getAttribute("aria-pressed") !== "true";
      for (const other of tiles) other.setAttribute("aria-pressed", "false");
      tile.setAttribute("aria-pressed", String(press));
      show(press ? tile.dataset.filter : null);
    });
  }
  const reveal = () => {
    const line = location.hash && document.getElementById(location.hash.slice(1));
    if (line && line.classList.contains("crm-line")) line.querySelector("details")?.setAttribute("open", "");
  };
  addEventListener("hashchange", reveal);
  const folded = "details.crm-fold, .cell_output details, .crm-more details";
  addEventListener("beforeprint", () => document.querySelectorAll(folded).forEach((part) => { part.open = true; }));
  reveal();
})();
