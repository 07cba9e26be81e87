// <similar-products product="12" limit="8">: look-alikes on any page, from the JSON API, without a template of Django's.
// One file without dependencies; it passes `script-src 'self'` and needs no `unsafe-inline` for its style. What stands
// within the element stays until products arrive, and when they do not. docs/fronts.md describes all of it.
(() => {
  "use strict";
  if (typeof window === "undefined" || !window.customElements || customElements.get("similar-products")) return;

  const OWN_SCRIPT = document.currentScript;
  const SEEN_MS = 1000;
  const NEAR = "300px";
  const MOST = 100;
  // The widget's own script reads them too, so that a basket counts whichever of the two saw the click.
  const CLICKS = "shop-similarity-clicks";
  const MOST_CLICKS = 20;
  const SIZES = "auto, (min-width: 64rem) 15rem, (min-width: 40rem) 30vw, 45vw";
  const CARD = "similar-products-card-";

  const WORDS = {
    en: { heading: "Similar products", said: (count) => `${count} similar product${count === 1 ? "" : "s"}` },
    de: {
      heading: "Ähnliche Produkte",
      said: (count) => (count === 1 ? "1 ähnliches Produkt" : `${count} ähnliche Produkte`),
    },
    fr: {
      heading: "Produits similaires",
      said: (count) => (count < 2 ? `${count} produit similaire` : `${count} produits similaires`),
    },
  };

  // Attributes that are parameters of the API, and how they are written there.
  const asText = (name) => (value, query) => value !== "" && query.append(name, value);
  const asFlag = (name) => (value, query) => query.append(name, value === "false" ? "false" : "true");
  const asTexts = (name) => (value, query) => {
    for (const text of value.split(",")) if (text.trim()) query.append(name, text.trim());
  };
  const PARAMETERS = {
    alternatives: asFlag("alternatives"),
    category: asTexts("category"),
    collapse: asFlag("collapse"),
    diversity: asText("diversity"),
    explain: asFlag("explain"),
    lean: asText("lean"),
    "min-similarity": asText("min_similarity"),
    other: asTexts("other"),
    "price-max": asText("price_max"),
    "price-min": asText("price_min"),
    same: asTexts("same"),
    "sold-out": asFlag("sold_out"),
  };
  const LOOKS = ["heading", "heading-level", "layout"];
  const OTHERS = ["product", "limit", "api", "credentials", "loading"];

  // The custom properties and their defaults are those of widget.css.
  const STYLE = `
:host { display: block; }
:host([hidden]) { display: none; }
* { box-sizing: border-box; }
.frame {
  --_muted: var(--similar-products-muted, color-mix(in srgb, currentColor 85%, transparent));
  --_line: var(--similar-products-line, color-mix(in srgb, currentColor 65%, transparent));
  --_picture: var(--similar-products-picture, color-mix(in srgb, currentColor 6%, transparent));
  --_radius: var(--similar-products-radius, 0.5rem);
  --_gap: var(--similar-products-gap, 1.25rem 1rem);
  --_focus: var(--similar-products-focus, currentColor);
  container-type: inline-size;
  display: grid;
  grid-template-columns: minmax(0, 1fr);
  margin-block: var(--similar-products-margin, 2rem);
}
/* What was there, what is there and the room for it share one cell, so that nothing below ever moves. */
.frame > * { grid-area: 1 / 1; min-width: 0; }
.frame > .said { position: absolute; }
.space, .fallback { visibility: hidden; }
.frame.waits:not(.has-fallback) .space .picture { visibility: visible; }
.frame.falls-back .fallback { visibility: visible; }
.frame.is-empty, [hidden] { display: none; }
/* The shop's own widget within: its room is the element's. */
::slotted(.similar-products) { margin-block: 0 !important; }
.heading { font-size: var(--similar-products-heading-size, 1.25rem); font-weight: 600; line-height: 1.25; margin: 0 0 1rem; }
.list {
  display: grid;
  gap: var(--_gap);
  grid-template-columns: repeat(auto-fill, minmax(min(var(--similar-products-card-min, 9.5rem), 45cqi), 1fr));
  list-style: none;
  margin: 0;
  padding: 0;
}
.grid .list:has(> :last-child:is(:nth-child(4n), :nth-child(4n + 3))) {
  --_four: clamp(20.1cqi, (var(--similar-products-card-min, 9.5rem) - 25cqi + 0.75rem) * 999, 33.4cqi);
  grid-template-columns: repeat(auto-fill, minmax(var(--_four), 1fr));
}
.grid .list:has(> :last-child:is(:nth-child(8n), :nth-child(8n + 7))) {
  grid-template-columns: repeat(auto-fill, minmax(clamp(11.2cqi, (var(--similar-products-card-min, 9.5rem) - 12.5cqi + 0.875rem) * 999, var(--_four)), 1fr));
}
.row .list {
  grid-auto-columns: var(--similar-products-row-card, clamp(8.5rem, 42cqi, 13rem));
  grid-auto-flow: column;
  grid-template-columns: none;
  margin: -0.375rem;
  overflow-x: auto;
  overscroll-behavior-x: contain;
  padding: 0.375rem 0.375rem 0.75rem;
  scroll-padding-inline: 0.375rem;
  scroll-snap-type: x proximity;
  scrollbar-width: thin;
}
.row .item { scroll-snap-align: start; }
.item { margin: 0; min-width: 0; }
.card { color: inherit; display: block; text-decoration: none; }
.picture {
  aspect-ratio: var(--similar-products-ratio, 1);
  background: var(--_picture);
  border-radius: var(--_radius);
  display: block;
  overflow: hidden;
}
.image { display: block; height: 100%; object-fit: var(--similar-products-fit, contain); width: 100%; }
.name {
  -webkit-box-orient: vertical;
  -webkit-line-clamp: var(--similar-products-name-lines, 2);
  display: -webkit-box;
  font-size: 0.9375rem;
  line-height: 1.4;
  margin-top: 0.5rem;
  /* As many lines whether the name needs them or not: cards then have the height that was kept for them. */
  min-height: calc(var(--similar-products-name-lines, 2) * 1.4em);
  overflow: hidden;
  overflow-wrap: anywhere;
}
.why { color: var(--_muted); font-size: 0.8125rem; line-height: 1.4; margin: 0.125rem 0 0; min-height: 2.8em; }
.card:hover .name { text-decoration: underline; text-underline-offset: 0.2em; }
.list:focus-visible, .card:focus-visible {
  border-radius: var(--_radius);
  outline: 0.1875rem solid var(--_focus);
  outline-offset: 0.1875rem;
}
.row .list:focus-visible { outline-offset: 0; }
[aria-busy="true"] .list { opacity: 0.55; }
.said { clip-path: inset(50%); height: 1px; overflow: hidden; white-space: nowrap; width: 1px; }
@media (prefers-reduced-motion: no-preference) { .row .list { scroll-behavior: smooth; } }
`;
  let sheet = null;
  const style = () => {
    if (!sheet) {
      // A sheet of the script's own is no inline style to a Content-Security-Policy.
      sheet = new CSSStyleSheet();
      sheet.replaceSync(STYLE);
    }
    return sheet;
  };

  const make = (tag, name, ...children) => {
    const element = document.createElement(tag);
    element.className = name;
    element.setAttribute("part", name);
    element.append(...children);
    return element;
  };

  /** A key as one segment of an address, as `shop_similarity.catalogue.key_segment` writes it. */
  const segment = (key) => {
    if (/^[A-Za-z0-9_-][A-Za-z0-9_.:@+-]*$/.test(key)) return key;
    const bytes = String.fromCharCode(...new TextEncoder().encode(key));
    return `~${btoa(bytes).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "")}`;
  };

  /** An address that a link or a picture may have; none that runs a script. */
  const safe = (address) => {
    try {
      const url = new URL(address, document.baseURI);
      return /^(https?|blob):$/.test(url.protocol) || /^data:image\//.test(address) ? url.href : "";
    } catch {
      return "";
    }
  };

  /** The language of the page around an element, also around the components that it stands in; "" where none is said. */
  const languageAt = (element) => {
    for (let node = element; node; ) {
      const near = node.closest("[lang]");
      if (near) return near.lang.trim().replace(/_/g, "-");
      const root = node.getRootNode();
      node = root instanceof ShadowRoot ? root.host : null;
    }
    return "";
  };
  // Another text no header may have, or browsers ask a server elsewhere for permission first.
  const LANGUAGE = /^[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*$/;

  // Reporting

  const send = (url, token, events) => {
    if (!url || !token) return;
    const body = JSON.stringify({ token, events });
    try {
      // As text, for a beacon of another type asks the server for permission first.
      if (navigator.sendBeacon && navigator.sendBeacon(url, new Blob([body], { type: "text/plain" }))) return;
      fetch(url, { method: "POST", body, keepalive: true, headers: { "Content-Type": "text/plain" } }).catch(() => {});
    } catch (error) {
      console.warn("similar-products:", error);
    }
  };

  const readClicks = () => {
    try {
      return JSON.parse(sessionStorage.getItem(CLICKS)) || [];
    } catch {
      return [];
    }
  };

  const rememberClick = (product, token, url) => {
    try {
      const others = readClicks().filter((click) => click.product !== product);
      sessionStorage.setItem(CLICKS, JSON.stringify([{ product, token, url }, ...others].slice(0, MOST_CLICKS)));
    } catch {
      // Storage is switched off or full: the click itself is reported all the same.
    }
  };

  // Half of the list, or where it is higher than the window, half of the window.
  const isHalfVisible = ({ intersectionRect: part, boundingClientRect: whole, rootBounds: root }) => {
    const enough = (shown, size, room) => shown > 0 && shown >= 0.5 * Math.min(size, room || size);
    return (
      enough(part.height, whole.height, root && root.height) && enough(part.width, whole.width, root && root.width)
    );
  };
  const STEPS = Array.from({ length: 21 }, (_, step) => step / 20);

  class SimilarProducts extends HTMLElement {
    #root = null;
    #parts = {};
    #answer = null;
    #shownFor = null;
    #asked = "";
    #request = null;
    #isDue = false;
    #isNear = false;
    #isVisible = false;
    #isSeen = false;
    #timer = 0;
    #near = null;
    #views = null;
    #sizes = null;
    #render = null;
    #state = "waits";
    #hasShown = false;

    static observedAttributes = [...OTHERS, ...LOOKS, ...Object.keys(PARAMETERS)];

    /** Reports that a product went into the basket, if it was clicked on in a list of similar products before. */
    static basket(product) {
      const click = readClicks().find((each) => each.product === String(product));
      if (click) send(click.url, click.token, [{ kind: "basket", product: click.product }]);
      return Boolean(click);
    }

    /** What the API answered last, or null. */
    get answer() {
      return this.#answer;
    }

    /** A function (result, element) that returns the node of a card; null: the template within, or the plain card. */
    get renderCard() {
      return this.#render;
    }

    set renderCard(render) {
      this.#render = typeof render === "function" ? render : null;
      if (this.#answer && this.#root) this.#draw(this.#answer);
    }

    /** Ask the API again. */
    reload() {
      this.#asked = "";
      this.#schedule();
    }

    connectedCallback() {
      // A framework may have set properties before this file arrived.
      for (const name of ["renderCard", ...Object.keys(PROPERTIES)]) {
        if (Object.hasOwn(this, name)) {
          const value = this[name];
          delete this[name];
          this[name] = value;
        }
      }
      if (!this.#root) this.#build();
      document.addEventListener("visibilitychange", this.#visibility);
      this.#look();
      this.#schedule();
      if (this.#answer) this.#watch();
    }

    disconnectedCallback() {
      document.removeEventListener("visibilitychange", this.#visibility);
      this.#stopAsking();
      this.#stopWaiting();
      for (const observer of [this.#near, this.#views, this.#sizes]) if (observer) observer.disconnect();
      this.#near = this.#views = this.#sizes = null;
    }

    attributeChangedCallback(name, before, after) {
      if (!this.#root || before === after) return;
      if (LOOKS.includes(name)) {
        this.#look();
        return;
      }
      if (name === "limit" || name === "explain") this.#keepRoom();
      this.#schedule();
    }

    #build() {
      const parts = this.#parts;
      parts.space = make("div", "space");
      parts.space.setAttribute("aria-hidden", "true");
      const slot = document.createElement("slot");
      // The parser may still be at what stands within, and frameworks put it there later.
      slot.addEventListener("slotchange", () => this.#become(this.#state));
      parts.fallback = make("div", "fallback", slot);
      parts.shown = make("section", "section");
      parts.shown.setAttribute("aria-labelledby", "heading");
      parts.shown.hidden = true;
      parts.list = make("ul", "list");
      // Some browsers forget that a list without bullets is one.
      parts.list.setAttribute("role", "list");
      parts.said = make("div", "said");
      parts.said.setAttribute("role", "status");
      parts.frame = make("div", "frame", parts.space, parts.fallback, parts.shown, parts.said);
      for (const kind of ["click", "auxclick"]) parts.list.addEventListener(kind, this.#clicked);
      this.#root = this.attachShadow({ mode: "open" });
      this.#root.adoptedStyleSheets = [style()];
      this.#root.append(parts.frame);
    }

    // How it looks

    get #words() {
      const language = languageAt(this) || navigator.language || "en";
      return WORDS[language.toLowerCase().split("-")[0]] || WORDS.en;
    }

    get #limit() {
      const limit = Number.parseInt(this.getAttribute("limit") || "8", 10);
      return Number.isFinite(limit) ? Math.min(Math.max(limit, 1), MOST) : 8;
    }

    #look() {
      const level = /^[1-6]$/.test(this.getAttribute("heading-level") || "") ? this.getAttribute("heading-level") : "2";
      const text = this.getAttribute("heading") || this.#words.heading;
      const heading = make(`h${level}`, "heading", text);
      heading.id = "heading";
      this.#parts.shown.replaceChildren(heading, this.#parts.list);
      const layout = this.getAttribute("layout") === "row" ? "row" : "grid";
      for (const part of [this.#parts.space, this.#parts.shown]) {
        part.classList.toggle("row", layout === "row");
        part.classList.toggle("grid", layout === "grid");
      }
      this.#parts.list.removeAttribute("tabindex");
      this.#parts.list.removeAttribute("aria-labelledby");
      if (layout === "row") this.#parts.list.setAttribute("aria-labelledby", "heading");
      this.#keepRoom();
      this.#watchSize();
    }

    /** Room for as many cards as may come, with all their lines. */
    #keepRoom() {
      const heading = make("div", "heading", "\u00a0");
      const list = make("div", "list");
      for (let place = 0; place < this.#limit; place += 1) {
        const item = make("div", "item", make("span", "picture"), make("span", "name"));
        if (this.#isOn("explain")) item.append(make("p", "why"));
        list.append(item);
      }
      // What only keeps room is nothing that a page should style.
      for (const element of [heading, list, ...list.querySelectorAll("[part]")]) element.removeAttribute("part");
      this.#parts.space.replaceChildren(heading, list);
    }

    #isOn(name) {
      return this.hasAttribute(name) && this.getAttribute(name) !== "false";
    }

    /** "waits", "shown", "falls-back" or "is-empty". */
    #become(state) {
      this.#state = state;
      const hasFallback = [...this.childNodes].some((node) =>
        node instanceof Element
          ? node.localName !== "template" && !node.slot
          : node.nodeType === Node.TEXT_NODE && node.textContent.trim(),
      );
      const { frame, shown } = this.#parts;
      if (state === "is-empty" && hasFallback) state = "falls-back";
      shown.hidden = state !== "shown";
      frame.classList.toggle("has-fallback", hasFallback);
      frame.classList.toggle("waits", state === "waits");
      frame.classList.toggle("falls-back", state === "falls-back" || (state === "waits" && hasFallback));
      frame.classList.toggle("is-empty", state === "is-empty");
      if (state !== "shown") this.#removeCards();
    }

    // Asking

    #schedule() {
      if (this.#isDue) return;
      this.#isDue = true;
      // Frameworks set several attributes one after the other.
      queueMicrotask(() => {
        this.#isDue = false;
        if (this.isConnected) this.#refresh();
      });
    }

    #address() {
      const product = this.getAttribute("product");
      if (!product) return null;
      const base = this.getAttribute("api") || (OWN_SCRIPT && OWN_SCRIPT.dataset.api) || "/api/similarity/v1/";
      const path = `products/${segment(product)}/similar/`;
      const url = new URL(path, new URL(base.replace(/\/*$/, "/"), document.baseURI));
      url.searchParams.set("limit", this.#limit);
      for (const [name, write] of Object.entries(PARAMETERS)) {
        if (this.hasAttribute(name)) write(this.getAttribute(name), url.searchParams);
      }
      return url.href;
    }

    #refresh() {
      let url = null;
      try {
        url = this.#address();
      } catch (error) {
        this.#stopAsking();
        this.#fail({ status: 0, error });
        return;
      }
      if (!url) {
        this.#stopAsking();
        this.#asked = "";
        this.#forget();
        this.#become("falls-back");
        return;
      }
      if (url === this.#asked) return;
      if (this.getAttribute("loading") === "lazy" && !this.#isNear) {
        if (!this.#answer) this.#become("waits");
        this.#waitUntilNear();
        return;
      }
      this.#load(url);
    }

    #waitUntilNear() {
      if (this.#near) return;
      if (!("IntersectionObserver" in window)) {
        this.#isNear = true;
        this.#schedule();
        return;
      }
      this.#near = new IntersectionObserver(
        (entries) => {
          if (!entries.some((entry) => entry.isIntersecting)) return;
          this.#isNear = true;
          this.#near.disconnect();
          this.#near = null;
          this.#schedule();
        },
        { rootMargin: `${NEAR} 0px` },
      );
      this.#near.observe(this);
    }

    /** What is on its way counts no more, and may be asked for again. */
    #stopAsking() {
      if (!this.#request) return;
      this.#request.abort();
      this.#request = null;
      this.#asked = "";
    }

    async #load(url) {
      this.#stopAsking();
      const request = new AbortController();
      const product = this.getAttribute("product");
      this.#request = request;
      this.#asked = url;
      if (this.#answer && this.#shownFor === product) this.#parts.shown.setAttribute("aria-busy", "true");
      else {
        this.#forget();
        this.#become("waits");
      }
      const language = languageAt(this);
      try {
        const response = await fetch(url, {
          credentials: this.getAttribute("credentials") === "include" ? "include" : "same-origin",
          headers: { Accept: "application/json", ...(LANGUAGE.test(language) ? { "Accept-Language": language } : {}) },
          signal: request.signal,
        });
        const answer = await response.json().catch(() => null);
        if (request !== this.#request) return;
        this.#request = null;
        if (!response.ok || !answer || !Array.isArray(answer.results)) {
          this.#fail({ status: response.status, problem: answer, url });
          return;
        }
        // Who looks at the page for the first time reads the list itself; a change has to be said.
        const isAnother = this.#hasShown;
        this.#hasShown = true;
        this.#answer = answer;
        this.#shownFor = product;
        this.#show(answer);
        if (isAnother) this.#say(this.#words.said(answer.results.length));
        this.#tell("loaded", { product, answer, results: answer.results });
      } catch (error) {
        if (request !== this.#request) return;
        this.#request = null;
        this.#fail({ status: 0, error, url });
      }
    }

    #forget() {
      this.#answer = null;
      this.#shownFor = null;
      this.#stopWaiting();
      this.#parts.shown.removeAttribute("aria-busy");
      this.#parts.list.replaceChildren();
    }

    #fail(detail) {
      console.warn("similar-products:", detail.error || `${detail.url} answered ${detail.status}`);
      this.#asked = "";
      this.#forget();
      this.#become("falls-back");
      this.#tell("error", { product: this.getAttribute("product"), ...detail });
    }

    #tell(kind, detail, options = {}) {
      const event = new CustomEvent(`similar-${kind}`, { bubbles: true, composed: true, detail, ...options });
      return this.dispatchEvent(event);
    }

    #say(text) {
      const { said } = this.#parts;
      said.textContent = "";
      // A text that comes with its element is not read; one that changes a little later is.
      setTimeout(() => {
        said.textContent = text;
      }, 100);
    }

    // Cards

    #removeCards() {
      for (const card of [...this.children]) if (card.slot && card.slot.startsWith(CARD)) card.remove();
    }

    #show(answer) {
      this.#stopWaiting();
      if (this.#views) this.#views.disconnect();
      this.#views = null;
      this.#isSeen = this.#isVisible = false;
      this.#parts.shown.removeAttribute("aria-busy");
      this.#draw(answer);
    }

    #draw(answer) {
      const { list } = this.#parts;
      this.#removeCards();
      const items = answer.results.map((result, place) => {
        const item = make("li", "item");
        item.dataset.similarityProduct = result.id;
        item.append(this.#card(result, place));
        return item;
      });
      list.replaceChildren(...items);
      this.#become(items.length ? "shown" : "is-empty");
      this.#watch();
    }

    #card(result, place) {
      const own = this.#ownCard(result);
      if (!own) return this.#plainCard(result);
      // It stands among the page's own elements, so that the page's styles and scripts reach it.
      const card = own.nodeType === Node.ELEMENT_NODE ? own : make("div", "", own);
      card.slot = `${CARD}${place}`;
      this.append(card);
      const slot = document.createElement("slot");
      slot.name = card.slot;
      return slot;
    }

    #ownCard(result) {
      if (this.#render) {
        try {
          const made = this.#render(result, this);
          return made instanceof Node ? made : null;
        } catch (error) {
          console.warn("similar-products:", error);
          return null;
        }
      }
      const template = [...this.children].find((child) => child instanceof HTMLTemplateElement);
      const first = template && template.content.firstElementChild;
      if (!first) return null;
      const card = document.importNode(first, true);
      for (const element of [card, ...card.querySelectorAll("*")]) fill(element, result);
      return card;
    }

    #plainCard(result) {
      const card = make("a", "card");
      const url = safe(result.url || "");
      if (url) card.href = url;
      const picture = make("span", "picture");
      if (result.image && safe(result.image.url)) picture.append(photo(make("img", "image"), result.image));
      card.append(picture, make("span", "name", result.name));
      const piece = document.createDocumentFragment();
      piece.append(card);
      if (this.#isOn("explain")) {
        piece.append(make("p", "why", result.explanation ? result.explanation.sentence : ""));
      }
      return piece;
    }

    // What is seen and clicked

    #watch() {
      this.#watchSize();
      const { list } = this.#parts;
      if (this.#views || this.#isSeen || !list.childElementCount || !("IntersectionObserver" in window)) return;
      this.#views = new IntersectionObserver(
        (entries) => {
          const last = entries[entries.length - 1];
          this.#isVisible = isHalfVisible(last);
          if (this.#isVisible) this.#wait();
          else this.#stopWaiting();
        },
        { threshold: STEPS },
      );
      this.#views.observe(list);
    }

    /** Rows take the keyboard's focus only while there is something to scroll. */
    #watchSize() {
      if (this.#sizes) this.#sizes.disconnect();
      this.#sizes = null;
      const { list } = this.#parts;
      if (this.getAttribute("layout") !== "row" || !("ResizeObserver" in window)) return;
      this.#sizes = new ResizeObserver(() => {
        if (list.scrollWidth > list.clientWidth + 1) list.tabIndex = 0;
        else if (list !== this.#root.activeElement) list.removeAttribute("tabindex");
      });
      this.#sizes.observe(list);
    }

    #visibility = () => {
      if (document.visibilityState === "hidden") this.#stopWaiting();
      else if (this.#isVisible) this.#wait();
    };

    #wait() {
      if (this.#timer || this.#isSeen || document.visibilityState === "hidden") return;
      this.#timer = setTimeout(() => {
        this.#timer = 0;
        this.#report([]);
      }, SEEN_MS);
    }

    #stopWaiting() {
      clearTimeout(this.#timer);
      this.#timer = 0;
    }

    #report(more) {
      const answer = this.#answer;
      if (!answer) return;
      const isFirst = !this.#isSeen;
      this.#isSeen = true;
      this.#stopWaiting();
      const events = isFirst ? [{ kind: "impression" }, ...more] : more;
      if (events.length) send(answer.events_url, answer.token, events);
      if (isFirst) this.#tell("impression", { product: this.#shownFor, results: answer.results });
    }

    #clicked = (event) => {
      if (event.type === "auxclick" && event.button !== 1) return;
      const path = event.composedPath();
      const item = path.find((node) => node instanceof Element && node.parentNode === this.#parts.list);
      const link = path.slice(0, path.indexOf(item)).find((node) => node instanceof Element && node.matches("a[href]"));
      if (!item || !link || !this.#answer) return;
      const position = [...this.#parts.list.children].indexOf(item);
      const result = this.#answer.results[position];
      rememberClick(result.id, this.#answer.token, this.#answer.events_url);
      this.#report([{ kind: "click", product: result.id }]);
      // Who opens another tab does not want the page to take the click over.
      const isPlain = !(event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey);
      const detail = { product: this.#shownFor, result, position: position + 1, originalEvent: event };
      if (!this.#tell("click", detail, { cancelable: isPlain })) event.preventDefault();
    };
  }

  // Pictures and templates

  const photo = (image, source) => {
    const copies = (source.srcset || "").split(", ").filter(Boolean);
    image.alt = "";
    image.loading = "lazy";
    image.decoding = "async";
    if (source.width) image.width = source.width;
    if (source.height) image.height = source.height;
    image.sizes = SIZES;
    if (copies.every((copy) => safe(copy.split(" ")[0]))) image.srcset = source.srcset || "";
    image.addEventListener("error", () => image.remove(), { once: true });
    image.src = safe(source.url);
    return image;
  };

  /** `data-similar="name"` takes the text, `href` and `src` of links and pictures their address. */
  const fill = (element, result) => {
    const what = element.dataset.similar;
    if (!what) return;
    if (what === "url") {
      const url = safe(result.url || "");
      if (url) element.setAttribute("href", url);
    } else if (what === "image") {
      if (result.image && safe(result.image.url)) photo(element, result.image);
      else element.remove();
    } else if (what === "explanation") {
      element.textContent = result.explanation ? result.explanation.sentence : "";
    } else {
      const value = result[what];
      element.textContent = value === null || value === undefined ? "" : String(value);
    }
  };

  // Properties by the names that frameworks set: `element.priceMax = 20` is the attribute `price-max`.
  const FLAGS = ["alternatives", "collapse", "explain", "sold-out"];
  const PROPERTIES = Object.fromEntries(
    SimilarProducts.observedAttributes.map((name) => [
      name.replace(/-(\w)/g, (_, letter) => letter.toUpperCase()),
      name,
    ]),
  );
  for (const [property, attribute] of Object.entries(PROPERTIES)) {
    Object.defineProperty(SimilarProducts.prototype, property, {
      configurable: true,
      enumerable: true,
      get() {
        return FLAGS.includes(attribute)
          ? this.hasAttribute(attribute) && this.getAttribute(attribute) !== "false"
          : this.getAttribute(attribute);
      },
      set(value) {
        if (value === null || value === undefined) this.removeAttribute(attribute);
        else this.setAttribute(attribute, Array.isArray(value) ? value.join(",") : String(value));
      },
    });
  }

  customElements.define("similar-products", SimilarProducts);
})();
