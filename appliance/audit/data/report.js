"use strict";
(() => {
  const ones = [...document.querySelectorAll(".one")];
  const groups = [...document.querySelectorAll(".group")];
  const buttons = [...document.querySelectorAll("button[data-status]")];
  const area = document.getElementById("area");
  const words = document.getElementById("words");
  const shown = document.getElementById("shown");
  const texts = new Map(ones.map((one) => [one, one.textContent.toLowerCase()]));
  let status = "";
  const show = () => {
    const asked = words.value.trim().toLowerCase();
    let count = 0;
    for (const one of ones) {
      const fits = (!status || one.dataset.status === status) && (!area.value || one.dataset.area === area.value)
        && texts.get(one).includes(asked);
      one.hidden = !fits;
      count += fits;
    }
    for (const group of groups) group.hidden = !group.querySelector(".one:not([hidden])");
    shown.textContent = count;
  };
  for (const button of buttons) {
    button.addEventListener("click", () => {
      status = button.dataset.status;
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      show();
    });
  }
  area.addEventListener("change", show);
  words.addEventListener("input", show);
  document.getElementById("filter").addEventListener("submit", (event) => event.preventDefault());
  const open = () => {
    const wanted = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (wanted instanceof HTMLDetailsElement) wanted.open = true;
  };
  addEventListener("hashchange", open);
  open();
  // On paper nothing unfolds: all is open while it is printed, and folded again afterwards.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = ones.filter((one) => !one.open);
    for (const one of folded) one.open = true;
  });
  addEventListener("afterprint", () => {
    for (const one of folded) one.open = false;
  });
})();
