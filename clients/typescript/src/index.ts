/** The API of shop-similarity: its operations with their types, and the events of a list. */
import createClient, { type Client, type ClientOptions } from "openapi-fetch";

import type { components, paths } from "./schema.js";

export type { components, paths } from "./schema.js";
export type { SimilarProductsElement } from "./element.js";

export type Result = components["schemas"]["SimilarityResult"];
export type Answer = components["schemas"]["SimilarProductsAnswer"];
export type Problem = components["schemas"]["SimilarityProblem"];
export type EventKind = components["schemas"]["SimilarityEventKind"];

/** A client of the API of the shop at this origin. */
export function similarity(origin: string, options: Omit<ClientOptions, "baseUrl"> = {}): Client<paths> {
  return createClient<paths>({ ...options, baseUrl: origin.replace(/\/+$/, "") });
}

/** Tell the shop what became of a list, by a beacon that outlives the page; false where it can't be told. */
export function report(
  list: Pick<Answer, "token" | "events_url">,
  events: readonly { kind: EventKind; product?: string }[],
): boolean {
  if (!list.token || !list.events_url || !events.length) return false;
  const body = new Blob([JSON.stringify({ token: list.token, events })], { type: "text/plain" });
  return navigator.sendBeacon(list.events_url, body);
}
