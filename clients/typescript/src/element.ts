/** Types of the custom element <similar-products>, for pages that are checked by TypeScript. */
import type { components } from "./schema.js";

type Answer = components["schemas"]["SimilarProductsAnswer"];
type Result = components["schemas"]["SimilarityResult"];

export interface SimilarProductsAttributes {
  product?: string | number;
  limit?: string | number;
  api?: string;
  heading?: string;
  headingLevel?: string | number;
  layout?: "grid" | "row";
  loading?: "lazy" | "eager";
  credentials?: "same-origin" | "include";
  category?: string | readonly string[];
  priceMin?: string | number;
  priceMax?: string | number;
  minSimilarity?: string | number;
  diversity?: string | number;
  lean?: "colour" | "pattern" | "shape";
  same?: string | readonly string[];
  other?: string | readonly string[];
  alternatives?: boolean;
  collapse?: boolean;
  explain?: boolean;
  soldOut?: boolean;
}

export interface SimilarProductsElement extends HTMLElement {
  readonly answer: Answer | null;
  renderCard: ((result: Result, element: SimilarProductsElement) => Node) | null;
  reload(): void;
}

export type LoadedEvent = CustomEvent<{ product: string; answer: Answer; results: Result[] }>;
export type ImpressionEvent = CustomEvent<{ product: string; results: Result[] }>;
export type ClickEvent = CustomEvent<{
  product: string;
  result: Result;
  position: number;
  originalEvent: MouseEvent;
}>;
export type ErrorEvent = CustomEvent<{
  product: string | null;
  status: number;
  problem?: unknown;
  error?: unknown;
  url?: string;
}>;

export interface SimilarProductsListeners {
  "onsimilar-loaded"?: (event: LoadedEvent) => void;
  "onsimilar-impression"?: (event: ImpressionEvent) => void;
  "onsimilar-click"?: (event: ClickEvent) => void;
  "onsimilar-error"?: (event: ErrorEvent) => void;
}

declare global {
  interface HTMLElementTagNameMap {
    "similar-products": SimilarProductsElement;
  }
  interface HTMLElementEventMap {
    "similar-loaded": LoadedEvent;
    "similar-impression": ImpressionEvent;
    "similar-click": ClickEvent;
    "similar-error": ErrorEvent;
  }
}
