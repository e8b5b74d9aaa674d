"use strict";
(() => {
  // A list of results with its own filter: status by button, one member by menu, words by typing.
  const filtered = (list) => {
    const ones = [...list.querySelectorAll(".one")];
    const groups = [...list.querySelectorAll(".group")];
    const buttons = [...list.querySelectorAll("button[data-status]")];
    const menu = list.querySelector("select[data-by]");
    const words = list.querySelector("input[type=search]");
    const shown = list.querySelector(".shown");
    let texts = null;
    let status = "";
    const show = () => {
      const asked = words.value.trim().toLowerCase();
      if (asked && !texts) texts = new Map(ones.map((one) => [one, one.textContent.toLowerCase()]));
      let count = 0;
      for (const one of ones) {
        const fits = (!status || one.dataset.status === status)
          && (!menu.value || one.dataset[menu.dataset.by] === menu.value)
          && (!asked || texts.get(one).includes(asked));
        one.hidden = !fits;
        count += fits;
      }
      const narrowed = Boolean(asked || status || menu.value);
      for (const group of groups) {
        group.hidden = !group.querySelector(".one:not([hidden])");
        if (group instanceof HTMLDetailsElement) group.open = narrowed && !group.hidden;
      }
      shown.textContent = count;
    };
    for (const button of buttons) {
      button.addEventListener("click", () => {
        status = button.dataset.status;
        for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
        show();
      });
    }
    menu.addEventListener("change", show);
    words.addEventListener("input", show);
    list.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  };
  for (const list of document.querySelectorAll("[data-list]")) filtered(list);
  const open = () => {
    const wanted = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (wanted instanceof HTMLDetailsElement) wanted.open = true;
  };
  addEventListener("hashchange", open);
  open();
  // On paper nothing unfolds: what was checked is open while it is printed, of the guides each row and what is
  // to be mended, and all is folded again afterwards.
  const printed = ".all details, .controls .group, .controls .one.bad, .controls .one.dim, .controls .one.let";
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll(printed)].filter((one) => !one.open);
    for (const one of folded) one.open = true;
  });
  addEventListener("afterprint", () => {
    for (const one of folded) one.open = false;
  });
})();
