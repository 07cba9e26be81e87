// Lists of similar products: loads lazy ones, exchanges them in place, and reports what was seen, clicked and bought.
// Pages work without this file. Whatever goes wrong in here, the page stays as it is.
(() => {
  "use strict";
  if (window.shopSimilarity) return;

  const SEEN_MS = 1000;
  const NEAR = "300px";
  const CHOICES = "similar_";
  const CLICKS = "shop-similarity-clicks";
  const MOST_CLICKS = 20;

  const quietly =
    (action) =>
    (...values) => {
      try {
        return action(...values);
      } catch (error) {
        console.warn("shop-similarity:", error);
        return undefined;
      }
    };

  // Reporting

  const send = quietly((url, token, events) => {
    if (!url || !token) return;
    const body = JSON.stringify({ token, events });
    // As text, for a beacon of another type asks the server for permission first.
    if (navigator.sendBeacon && navigator.sendBeacon(url, new Blob([body], { type: "text/plain" }))) return;
    fetch(url, { method: "POST", body, keepalive: true, headers: { "Content-Type": "text/plain" } }).catch(() => {});
  });

  const seen = new Set();

  const reportImpression = (list, more = []) => {
    const { similarityToken: token, similarityEvents: url } = list.dataset;
    const events = seen.has(token) ? more : [{ kind: "impression" }, ...more];
    seen.add(token);
    if (events.length) send(url, token, events);
  };

  const waiting = new Map();

  // A list may lie in view and not be painted: in a closed drawer, or below what <similar-products> shows instead.
  const isPainted = (list) =>
    !list.checkVisibility || list.checkVisibility({ visibilityProperty: true, checkVisibilityCSS: true });

  const wait = (list) => {
    if (waiting.has(list) || seen.has(list.dataset.similarityToken) || document.visibilityState === "hidden") return;
    const wasPainted = isPainted(list);
    waiting.set(
      list,
      setTimeout(() => {
        waiting.delete(list);
        if (!list.isConnected) return;
        if (!wasPainted || !isPainted(list)) {
          wait(list);
          return;
        }
        views.unobserve(list);
        reportImpression(list);
      }, SEEN_MS),
    );
  };

  const stopWaiting = (list) => {
    clearTimeout(waiting.get(list));
    waiting.delete(list);
  };

  // Half of the list, or where it is higher than the window, half of the window.
  const isHalfVisible = ({ intersectionRect: part, boundingClientRect: whole, rootBounds: root }) => {
    const enough = (shown, size, room) => shown > 0 && shown >= 0.5 * Math.min(size, room || size);
    return (
      enough(part.height, whole.height, root && root.height) && enough(part.width, whole.width, root && root.width)
    );
  };

  const visible = new Set();
  const STEPS = Array.from({ length: 21 }, (_, step) => step / 20);
  const views =
    "IntersectionObserver" in window
      ? new IntersectionObserver(
          quietly((entries) => {
            for (const entry of entries) {
              if (isHalfVisible(entry)) {
                visible.add(entry.target);
                wait(entry.target);
              } else {
                visible.delete(entry.target);
                stopWaiting(entry.target);
              }
            }
          }),
          { threshold: STEPS },
        )
      : null;

  document.addEventListener("visibilitychange", () => {
    for (const list of visible) {
      if (document.visibilityState === "hidden") stopWaiting(list);
      else if (list.isConnected) wait(list);
    }
  });

  // A page in between may be left at once, so what was clicked last is kept for as long as the tab is open.
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

  const reportClick = quietly((event) => {
    if (event.type === "auxclick" && event.button !== 1) return;
    const element = event.target instanceof Element ? event.target : null;
    const link = element && element.closest("a[href]");
    const item = link && link.closest("[data-similarity-product]");
    const list = item && item.closest("[data-similarity-token]");
    if (!list) return;
    const product = item.dataset.similarityProduct;
    rememberClick(product, list.dataset.similarityToken, list.dataset.similarityEvents);
    reportImpression(list, [{ kind: "click", product }]);
  });

  /** Reports that a product went into the basket, if it was clicked on in a list of similar products before. */
  const basket = quietly((product) => {
    const click = readClicks().find((each) => each.product === String(product));
    if (click) send(click.url, click.token, [{ kind: "basket", product: click.product }]);
    return Boolean(click);
  });

  document.addEventListener("click", reportClick, true);
  document.addEventListener("auxclick", reportClick, true);
  document.addEventListener(
    "submit",
    quietly((event) => {
      const marked = event.submitter && event.submitter.closest("[data-similarity-basket]");
      const element = marked || event.target.closest("[data-similarity-basket]");
      if (element) basket(element.dataset.similarityBasket);
    }),
    true,
  );
  document.addEventListener(
    "click",
    quietly((event) => {
      const button = event.target instanceof Element && event.target.closest("[data-similarity-basket]");
      // Buttons of a form report when it is sent.
      if (button && !(button instanceof HTMLFormElement) && !button.form) basket(button.dataset.similarityBasket);
    }),
    true,
  );

  // Loading

  const load = async (url) => {
    const response = await fetch(url, {
      credentials: "same-origin",
      headers: { Accept: "text/html", "X-Requested-With": "XMLHttpRequest" },
    });
    if (!response.ok) throw new Error(`${url} answered ${response.status}`);
    const parsed = new DOMParser().parseFromString(await response.text(), "text/html");
    const element = parsed.body.firstElementChild;
    if (!element) throw new Error(`${url} answered nothing`);
    return document.adoptNode(element);
  };

  const lazy =
    "IntersectionObserver" in window
      ? new IntersectionObserver(
          (entries) => {
            for (const entry of entries) if (entry.isIntersecting) fill(entry.target);
          },
          { rootMargin: `${NEAR} 0px` },
        )
      : null;

  const fill = async (place) => {
    if (lazy) lazy.unobserve(place);
    // Where htmx is at work, it loads the place by its hx-get.
    if (place.hasAttribute("hx-get") && window.htmx) return;
    try {
      const loaded = await load(place.dataset.similaritySrc);
      if (place.isConnected) place.replaceWith(loaded);
    } catch (error) {
      console.warn("shop-similarity:", error);
      // The link in the place stays and leads to the page of similar products.
      const frame = place.closest(".similar-products-lazy");
      if (frame) frame.dataset.similarityFailed = "";
    }
  };

  // Exchanging in place

  let said = null;
  const say = (text) => {
    if (!said) {
      said = document.createElement("div");
      said.className = "similar-products-said";
      said.setAttribute("role", "status");
      document.body.append(said);
    }
    said.textContent = "";
    // A text that comes with its element is not read; one that changes a little later is.
    setTimeout(() => {
      said.textContent = text || "";
    }, 100);
  };

  /** The page's own address with the choices that the address of a fragment has. */
  const pageAddress = (fragment) => {
    const page = new URL(location.href);
    for (const name of [...page.searchParams.keys()]) if (name.startsWith(CHOICES)) page.searchParams.delete(name);
    for (const [name, value] of new URL(fragment, location.href).searchParams) {
      if (name.startsWith(CHOICES)) page.searchParams.set(name, value);
    }
    return page;
  };

  /** What the focus is on, in words that find the same control in the new list. */
  const focusOf = (widget) => {
    const focused = document.activeElement;
    if (!focused || !widget.contains(focused)) return null;
    const controls = [...widget.querySelectorAll("a, button, input")];
    return { id: focused.id, place: controls.indexOf(focused), option: focused.closest(".similar-products__option") };
  };

  const giveFocus = (widget, before) => {
    if (!before) return;
    const options = widget.querySelectorAll(".similar-products__option[aria-current]");
    const controls = widget.querySelectorAll("a, button, input");
    const next =
      (before.option && options[0]) ||
      (before.id && document.getElementById(before.id)) ||
      controls[before.place] ||
      controls[0];
    if (next) next.focus({ preventScroll: true });
  };

  const swap = async (widget, url, otherwise) => {
    const before = focusOf(widget);
    widget.setAttribute("aria-busy", "true");
    try {
      const loaded = await load(url);
      if (!widget.isConnected) return;
      widget.replaceWith(loaded);
      const address = pageAddress(url);
      history.replaceState(history.state, "", address);
      giveFocus(loaded, before);
      say(loaded.dataset.similarityStatus);
    } catch (error) {
      console.warn("shop-similarity:", error);
      otherwise();
    }
  };

  document.addEventListener(
    "click",
    quietly((event) => {
      if (event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) {
        return;
      }
      const link = event.target instanceof Element && event.target.closest("a[data-similarity-swap]");
      const widget = link && link.closest("[data-similarity-widget]");
      if (!widget) return;
      event.preventDefault();
      swap(widget, link.dataset.similaritySwap, () => location.assign(link.href));
    }),
  );

  document.addEventListener(
    "submit",
    quietly((event) => {
      const form = event.target;
      const widget = form.dataset.similaritySwap && form.closest("[data-similarity-widget]");
      if (!widget || event.defaultPrevented) return;
      event.preventDefault();
      const url = new URL(form.dataset.similaritySwap, location.href);
      for (const [name, value] of new FormData(form)) {
        if (name.startsWith(CHOICES) && value !== "") url.searchParams.set(name, value);
      }
      swap(widget, url.href, () => form.submit());
    }),
  );

  // Rows take the keyboard's focus only while there is something to scroll.

  const sizes =
    "ResizeObserver" in window
      ? new ResizeObserver(
          quietly((entries) => {
            for (const { target } of entries) {
              if (target.scrollWidth > target.clientWidth + 1) target.tabIndex = 0;
              else if (target !== document.activeElement) target.removeAttribute("tabindex");
            }
          }),
        )
      : null;

  // What is on the page now and what comes later

  const ROW = ".similar-products--row .similar-products__list[aria-labelledby]";
  const known = new WeakSet();
  const each = (root, selector, action) => {
    if (root.matches && root.matches(selector)) action(root);
    for (const element of root.querySelectorAll(selector)) action(element);
  };
  const once = (action) => (element) => {
    if (known.has(element)) return;
    known.add(element);
    action(element);
  };

  const take = quietly((root) => {
    each(root, "[data-similarity-token]", once((list) => views && views.observe(list)));
    each(root, "[data-similarity-src]", once((place) => (lazy ? lazy.observe(place) : fill(place))));
    each(root, ROW, (list) => sizes && sizes.observe(list));
  });

  let started = false;
  const start = () => {
    if (started) return;
    started = true;
    take(document);
    new MutationObserver(
      quietly((changes) => {
        for (const change of changes) {
          for (const node of change.addedNodes) if (node instanceof Element) take(node);
        }
      }),
    ).observe(document.documentElement, { childList: true, subtree: true });
  };

  window.shopSimilarity = Object.freeze({ basket });
  // All deferred scripts have run by then, htmx among them.
  if (document.readyState === "complete") start();
  else {
    document.addEventListener("DOMContentLoaded", start);
    window.addEventListener("load", start);
  }
})();
