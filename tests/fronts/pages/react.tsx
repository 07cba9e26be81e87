// The element in React: `?api=ADDRESS&product=KEY&product=KEY`.
import { type DetailedHTMLProps, type HTMLAttributes, StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";

import type {
  SimilarProductsAttributes,
  SimilarProductsElement,
  SimilarProductsListeners,
} from "../../../clients/typescript/src/element.js";

declare module "react" {
  namespace JSX {
    interface IntrinsicElements {
      "similar-products": DetailedHTMLProps<HTMLAttributes<SimilarProductsElement>, SimilarProductsElement> &
        SimilarProductsAttributes &
        SimilarProductsListeners;
    }
  }
}

const asked = new URLSearchParams(location.search);
const products = asked.getAll("product");

function Page() {
  const [place, setPlace] = useState(0);
  const [told, setTold] = useState("");
  return (
    <>
      <h1>A page of React</h1>
      <button type="button" onClick={() => setPlace(place + 1)}>
        Next product
      </button>
      <similar-products
        product={products[place % products.length]}
        limit={4}
        api={asked.get("api") ?? ""}
        onsimilar-loaded={(event) => setTold(`${event.detail.results.length} loaded`)}
        onsimilar-click={(event) => {
          event.preventDefault();
          setTold(`Opened ${event.detail.result.name}`);
        }}
      >
        <p>Chosen by hand</p>
      </similar-products>
      <p id="told" role="status">
        {told}
      </p>
    </>
  );
}

createRoot(document.getElementById("app")!).render(
  <StrictMode>
    <Page />
  </StrictMode>,
);
