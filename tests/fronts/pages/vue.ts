// The element in Vue: `?api=ADDRESS&product=KEY&product=KEY`. Render functions need no `unsafe-eval`.
import { createApp, defineComponent, h, ref } from "vue";

import type { ClickEvent, LoadedEvent } from "../../../clients/typescript/src/element.js";

const asked = new URLSearchParams(location.search);
const products = asked.getAll("product");

const Page = defineComponent(() => {
  const place = ref(0);
  const told = ref("");
  return () => [
    h("h1", "A page of Vue"),
    h("button", { type: "button", onClick: () => (place.value += 1) }, "Next product"),
    h(
      "similar-products",
      {
        product: products[place.value % products.length],
        limit: 4,
        api: asked.get("api"),
        "onSimilar-loaded": (event: LoadedEvent) => (told.value = `${event.detail.results.length} loaded`),
        "onSimilar-click": (event: ClickEvent) => {
          event.preventDefault();
          told.value = `Opened ${event.detail.result.name}`;
        },
      },
      [h("p", "Chosen by hand")],
    ),
    h("p", { id: "told", role: "status" }, told.value),
  ];
});

createApp(Page).mount("#app");
