// Pins, hides and queues in place, so that what was typed into the product's form stays. Without this script the
// buttons leave the page, do the same and come back.
"use strict";

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-shop-similarity-action]");
  const token = button && button.form && button.form.elements.namedItem("csrfmiddlewaretoken");
  if (!token) return;
  event.preventDefault();
  if (button.getAttribute("aria-disabled") === "true") return;
  const panel = button.closest("[data-shop-similarity-panel]");
  button.setAttribute("aria-disabled", "true");
  panel.setAttribute("aria-busy", "true");
  const body = new URLSearchParams({ csrfmiddlewaretoken: token.value, [button.name]: button.value });
  try {
    const response = await fetch(button.formAction, {
      method: "POST",
      body,
      credentials: "same-origin",
      headers: { "X-Shop-Similarity-Panel": "1" },
    });
    if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
    const made = document.createElement("template");
    made.innerHTML = await response.text();
    const fresh = made.content.querySelector("[data-shop-similarity-panel]");
    if (!fresh) throw new Error(response.url);
    // A live region speaks when its text changes, not when it arrives with it.
    const region = fresh.querySelector("[role='status']");
    const said = region.textContent;
    region.textContent = "";
    panel.replaceWith(fresh);
    region.textContent = said;
    region.focus({ preventScroll: true });
  } catch (error) {
    button.removeAttribute("aria-disabled");
    panel.removeAttribute("aria-busy");
    const region = panel.querySelector("[role='status']");
    region.textContent = error.message;
    region.focus();
  }
});
