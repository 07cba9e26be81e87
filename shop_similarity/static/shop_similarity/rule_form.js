// Shows of the rule's form what its kind needs: the position of a pin, the weight of a boost, no category for a pin, an
// attribute where the rule is about one.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const kind = document.getElementById("id_kind");
  if (!kind) return;
  const needs = {
    position: ["pin"],
    boost: ["boost", "share"],
    target_product_id: ["pin", "hide", "boost"],
    target_category: ["hide", "boost"],
    attribute: ["share", "same", "other"],
  };
  const show = () => {
    for (const [name, kinds] of Object.entries(needs)) {
      const row = document.querySelector(`.form-row.field-${name}`);
      if (row) row.hidden = kind.value !== "" && !kinds.includes(kind.value);
    }
  };
  kind.addEventListener("change", show);
  show();
});
