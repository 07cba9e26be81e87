// Shows of the rule's form what its kind needs: the position of a pin, the weight of a boost, no category for a pin.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const kind = document.getElementById("id_kind");
  if (!kind) return;
  const needs = { position: ["pin"], boost: ["boost"], target_category: ["hide", "boost"] };
  const show = () => {
    for (const [name, kinds] of Object.entries(needs)) {
      const row = document.querySelector(`.form-row.field-${name}`);
      if (row) row.hidden = kind.value !== "" && !kinds.includes(kind.value);
    }
  };
  kind.addEventListener("change", show);
  show();
});
