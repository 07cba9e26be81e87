// Search by photo: dropping, pasting, the camera, a preview, choosing a part, results in place.
// The form works without this file. The photo that is shown never comes from the server.
(() => {
  "use strict";

  // Larger photos are made smaller before they are sent; the server needs no more than this.
  const LONGEST_SIDE = 1280;
  const SEND_AS_IT_IS = 700 * 1024;
  const QUALITY = 0.92;
  const SMALLEST_PART = 4;
  const LOOK_AGAIN_MS = 1500;
  const NEAR_CORNER = 22;
  const WHOLE = { left: 0, top: 0, right: 100, bottom: 100 };

  class Refusal extends Error {}

  const address = () => location.pathname + location.search;
  let shown = address();

  const remember = (url) => {
    history.pushState(null, "", url);
    shown = address();
  };

  class VisualSearch {
    constructor(root) {
      this.root = root;
      this.texts = root.dataset;
      this.form = this.find("form");
      this.input = this.find("input[type=file]");
      this.drop = this.find("[data-visual-search-drop]");
      this.error = this.find("[data-visual-search-error]");
      this.status = this.find("[data-visual-search-status]");
      this.progress = this.find("[data-visual-search-progress]");
      this.cancel = this.find("[data-visual-search-cancel]");
      this.edges = Object.fromEntries(Object.keys(WHOLE).map((name) => [name, this.find(`input[name=${name}]`)]));
      this.isPage = "visualSearchPage" in root.dataset;
      this.photo = null;
      this.bitmap = null;
      this.controller = null;
      // Whether the shopper has said what to search with; until then the server chooses the largest object.
      this.chosen = false;
      this.prepare();
    }

    find(selector) {
      return this.root.querySelector(selector);
    }

    prepare() {
      // What only works with a script is not shown without one. Where the style sheet can tell, it is shown before.
      this.root.classList.add("visual-search--scripted");
      // A template of the shop's own may still keep it in a template.
      const extras = this.find("[data-visual-search-extras]");
      extras?.replaceWith(extras.content.cloneNode(true));
      const camera = this.find("[data-visual-search-camera]");
      if (camera && matchMedia("(pointer: coarse)").matches) this.addCamera(camera);
      else camera?.remove();
      // A sentence above the form would push it down; below it, its space is kept.
      if (this.error.hidden) this.find("[data-visual-search-notices]")?.append(this.error);
      this.results = this.isPage ? document.querySelector("[data-visual-search-results]") : null;
      if (!this.results) {
        this.results = document.createElement("div");
        this.results.className = "visual-search__results";
        this.results.dataset.visualSearchResults = "";
        this.root.after(this.results);
      }
      // A photo that was dropped is not in the field, which the browser would call empty.
      this.form.noValidate = true;
      this.form.addEventListener("submit", (event) => {
        event.preventDefault();
        this.search();
      });
      this.input.addEventListener("change", () => this.take(this.input.files[0]));
      this.cancel.addEventListener("click", () => this.controller?.abort());
      for (const [name, edge] of Object.entries(this.edges)) {
        edge.addEventListener("input", () => {
          this.chosen = true;
          this.moveEdge(name, Number(edge.value));
        });
      }
      this.results.addEventListener("click", (event) => this.followLink(event));
      this.results.addEventListener("submit", (event) => this.filter(event));
      this.acceptDrops();
      if (this.isPage) this.acceptPastes();
      this.setEdges(WHOLE);
      const shown = this.results.querySelector("[data-visual-search-state=waiting]");
      if (shown) this.run((signal) => this.show(shown.dataset.visualSearchUrl, signal));
    }

    addCamera(button) {
      const camera = document.createElement("input");
      camera.type = "file";
      camera.accept = "image/*";
      camera.setAttribute("capture", "environment");
      camera.hidden = true;
      camera.addEventListener("change", () => {
        this.take(camera.files[0]);
        camera.value = "";
      });
      button.before(camera);
      button.addEventListener("click", () => camera.click());
    }

    acceptDrops() {
      let depth = 0;
      const mark = (on) => this.root.classList.toggle("visual-search--over", on);
      const hasFile = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
      this.root.addEventListener("dragenter", (event) => {
        if (hasFile(event)) mark(++depth > 0);
      });
      this.root.addEventListener("dragleave", (event) => {
        if (hasFile(event)) mark(--depth > 0);
      });
      this.root.addEventListener("dragover", (event) => {
        if (!hasFile(event)) return;
        event.preventDefault();
        event.dataTransfer.dropEffect = "copy";
      });
      this.root.addEventListener("drop", (event) => {
        if (!hasFile(event)) return;
        event.preventDefault();
        depth = 0;
        mark(false);
        this.take(event.dataTransfer.files[0]);
      });
    }

    acceptPastes() {
      document.addEventListener("paste", (event) => {
        const photo = [...(event.clipboardData?.files ?? [])].find((file) => file.type.startsWith("image/"));
        if (!photo) return;
        event.preventDefault();
        this.take(photo);
      });
    }

    async take(file) {
      if (!file) return;
      this.controller?.abort();
      this.complain("");
      this.photo = null;
      this.bitmap?.close?.();
      this.bitmap = null;
      if (file.type && !file.type.startsWith("image/")) {
        this.hidePreview();
        this.complain(this.texts.textNoPhoto);
        return;
      }
      this.photo = file;
      this.chosen = false;
      // The box of the photo before goes with it, and does not move.
      this.box = null;
      this.setEdges(WHOLE);
      try {
        this.bitmap = await createImageBitmap(file);
      } catch {
        // The server may know a format that this browser does not.
        this.bitmap = null;
      }
      if (this.photo !== file) return;
      if (this.bitmap) this.showPreview();
      else this.hidePreview();
      this.search();
    }

    // The preview is painted: an address of the photo (blob:) would need an exception from a shop's content policy.
    showPreview() {
      // New elements for each photo: those of the one before would move, for no two are of one shape. At the end of
      // the form, where they push nothing of it.
      this.preview?.remove();
      this.form.append(this.find("[data-visual-search-preview]").content.cloneNode(true));
      this.preview = this.form.lastElementChild;
      this.frame = this.preview.querySelector("[data-visual-search-frame]");
      this.box = this.preview.querySelector("[data-visual-search-box]");
      this.canvas = this.preview.querySelector("canvas");
      this.objects = this.preview.querySelector("[data-visual-search-objects]");
      this.acceptDrags();
      const { width, height } = this.bitmap;
      const scale = Math.min(1, 720 / Math.max(width, height));
      this.canvas.width = Math.max(1, Math.round(width * scale));
      this.canvas.height = Math.max(1, Math.round(height * scale));
      this.canvas.getContext("2d").drawImage(this.bitmap, 0, 0, this.canvas.width, this.canvas.height);
      this.offer([]);
      this.paintBox();
    }

    hidePreview() {
      this.preview?.remove();
      this.preview = this.box = this.objects = null;
    }

    acceptDrags() {
      let drag = null;
      const place = (event) => {
        const area = this.frame.getBoundingClientRect();
        const part = (value) => Math.min(100, Math.max(0, value * 100));
        return { x: part((event.clientX - area.left) / area.width), y: part((event.clientY - area.top) / area.height) };
      };
      const corner = (event) => {
        const area = this.box.getBoundingClientRect();
        const near = (a, b) => Math.abs(a - b) <= NEAR_CORNER;
        const x = near(event.clientX, area.left) ? "left" : near(event.clientX, area.right) ? "right" : "";
        const y = near(event.clientY, area.top) ? "top" : near(event.clientY, area.bottom) ? "bottom" : "";
        return x && y ? [x, y] : null;
      };
      this.frame.addEventListener("pointerdown", (event) => {
        if (event.button) return;
        event.preventDefault();
        this.chosen = true;
        this.frame.setPointerCapture(event.pointerId);
        const start = place(event);
        const box = this.part();
        const grabbed = corner(event);
        const inside = start.x > box.left && start.x < box.right && start.y > box.top && start.y < box.bottom;
        if (grabbed) drag = { resize: grabbed };
        else if (inside && !this.isWhole()) drag = { move: box, start };
        else drag = { start };
      });
      this.frame.addEventListener("pointermove", (event) => {
        if (!drag) return;
        const { x, y } = place(event);
        if (drag.resize) {
          this.moveEdge(drag.resize[0], x);
          this.moveEdge(drag.resize[1], y);
        } else if (drag.move) {
          const { left, top, right, bottom } = drag.move;
          const dx = Math.min(100 - right, Math.max(-left, x - drag.start.x));
          const dy = Math.min(100 - bottom, Math.max(-top, y - drag.start.y));
          this.setEdges({ left: left + dx, top: top + dy, right: right + dx, bottom: bottom + dy });
        } else if (Math.abs(x - drag.start.x) >= SMALLEST_PART && Math.abs(y - drag.start.y) >= SMALLEST_PART) {
          drag.drawn = true;
          this.setEdges({
            left: Math.min(x, drag.start.x),
            top: Math.min(y, drag.start.y),
            right: Math.max(x, drag.start.x),
            bottom: Math.max(y, drag.start.y),
          });
        }
      });
      const end = (event) => {
        if (!drag) return;
        // A click beside the part takes it back.
        if (event.type === "pointerup" && !drag.resize && !drag.move && !drag.drawn) this.setEdges(WHOLE);
        drag = null;
      };
      this.frame.addEventListener("pointerup", end);
      this.frame.addEventListener("pointercancel", end);
    }

    // Buttons for the whole photo and for what was found on it. The first one is there before, so that nothing moves.
    offer(objects) {
      // A template of the shop's own may have no place for them.
      if (!this.objects) return;
      const whole = { name: this.texts.textWhole, part: [0, 0, 100, 100] };
      this.objects.replaceChildren(...[whole, ...objects].map(({ name, part }) => this.objectButton(name, part)));
      this.markObject();
    }

    objectButton(name, [left, top, right, bottom]) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "visual-search__object";
      button.visualSearchPart = { left, top, right, bottom };
      const picture = document.createElement("canvas");
      picture.setAttribute("aria-hidden", "true");
      picture.width = picture.height = 144;
      const { width, height } = this.bitmap;
      const [x, y] = [(left / 100) * width, (top / 100) * height];
      const [w, h] = [((right - left) / 100) * width, ((bottom - top) / 100) * height];
      const scale = 144 / Math.max(w, h);
      const at = [(144 - w * scale) / 2, (144 - h * scale) / 2];
      picture.getContext("2d").drawImage(this.bitmap, x, y, w, h, ...at, w * scale, h * scale);
      const words = document.createElement("span");
      words.textContent = name;
      button.append(picture, words);
      button.addEventListener("click", () => {
        this.chosen = true;
        this.setEdges(button.visualSearchPart);
        this.search();
      });
      return button;
    }

    markObject() {
      const part = this.part();
      for (const button of this.objects?.children ?? []) {
        const isCurrent = Object.entries(button.visualSearchPart).every(([name, value]) => part[name] === value);
        button.setAttribute("aria-pressed", String(isCurrent));
      }
    }

    // The box of the largest object, which the shopper may move, and buttons for the others.
    suggest(found) {
      const objects = JSON.parse(found.dataset.visualSearchRegions ?? "[]");
      if (this.chosen || !this.bitmap || !objects.length) return "";
      this.offer(objects);
      // A new element: one that moves by itself is a shift of the layout.
      const box = this.box.cloneNode(true);
      this.box.replaceWith(box);
      this.box = box;
      const [left, top, right, bottom] = objects[0].part;
      this.setEdges({ left, top, right, bottom });
      return this.texts.textSuggested ?? "";
    }

    part() {
      return Object.fromEntries(Object.entries(this.edges).map(([name, edge]) => [name, Number(edge.value)]));
    }

    isWhole() {
      const part = this.part();
      return Object.entries(WHOLE).every(([name, value]) => part[name] === value);
    }

    moveEdge(name, value) {
      const part = { ...this.part(), [name]: value };
      if (name === "left") part.left = Math.min(part.left, part.right - SMALLEST_PART);
      if (name === "right") part.right = Math.max(part.right, part.left + SMALLEST_PART);
      if (name === "top") part.top = Math.min(part.top, part.bottom - SMALLEST_PART);
      if (name === "bottom") part.bottom = Math.max(part.bottom, part.top + SMALLEST_PART);
      this.setEdges(part);
    }

    setEdges(part) {
      for (const [name, edge] of Object.entries(this.edges)) {
        edge.value = String(Math.round(part[name]));
        edge.setAttribute("aria-valuetext", `${edge.value} %`);
      }
      this.paintBox();
      this.markObject();
    }

    paintBox() {
      if (!this.box) return;
      const { left, top, right, bottom } = this.part();
      Object.assign(this.box.style, {
        left: `${left}%`,
        top: `${top}%`,
        width: `${right - left}%`,
        height: `${bottom - top}%`,
      });
    }

    // Sending

    async search() {
      if (!this.photo) {
        const chosen = this.input.files[0];
        if (chosen) await this.take(chosen);
        else {
          this.complain(this.texts.textNoPhoto);
          this.input.focus();
        }
        return;
      }
      await this.run(async (signal) => {
        const body = await this.body();
        this.say(this.texts.textUploading);
        const response = await fetch(this.form.action, {
          method: "POST",
          body,
          signal,
          headers: { Accept: "application/json" },
        });
        const answer = await response.json().catch(() => null);
        if (!response.ok) throw new Refusal(answer?.detail ?? this.texts.textFailed);
        await this.show(answer.url, signal);
        if (this.isPage) remember(answer.url);
      });
    }

    async body() {
      const body = new FormData();
      const token = this.find("input[name=csrfmiddlewaretoken]");
      if (token) body.append(token.name, token.value);
      const small = await this.smaller();
      if (!small && this.photo.size > Number(this.texts.maxBytes)) throw new Refusal(this.texts.textTooLarge);
      if (this.chosen && (small || this.isWhole())) body.append("whole", "on");
      else if (this.chosen) for (const [name, value] of Object.entries(this.part())) body.append(name, String(value));
      body.append("photo", small ?? this.photo, "photo");
      return body;
    }

    // The chosen part as a JPEG of moderate size, also of a format that only the browser reads (HEIC), or null where the file is to be sent as it is.
    async smaller() {
      if (!this.bitmap) return null;
      const { width, height } = this.bitmap;
      // A template of the shop's own may not say it.
      const isRead = !this.texts.types || this.texts.types.split(" ").includes(this.photo.type);
      if (isRead && this.photo.size <= SEND_AS_IT_IS && Math.max(width, height) <= 4 * LONGEST_SIDE) return null;
      const part = this.chosen ? this.part() : WHOLE;
      const [x, y] = [(part.left / 100) * width, (part.top / 100) * height];
      const [w, h] = [((part.right - part.left) / 100) * width, ((part.bottom - part.top) / 100) * height];
      const scale = Math.min(1, LONGEST_SIDE / Math.max(w, h));
      const canvas = document.createElement("canvas");
      canvas.width = Math.max(1, Math.round(w * scale));
      canvas.height = Math.max(1, Math.round(h * scale));
      const context = canvas.getContext("2d");
      // What is transparent would turn black in a JPEG.
      context.fillStyle = "#fff";
      context.fillRect(0, 0, canvas.width, canvas.height);
      context.imageSmoothingQuality = "high";
      context.drawImage(this.bitmap, x, y, w, h, 0, 0, canvas.width, canvas.height);
      return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", QUALITY));
    }

    // Runs one thing at a time, with a sign that it goes on and a way to stop it.
    async run(action) {
      this.controller?.abort();
      const controller = new AbortController();
      this.controller = controller;
      this.complain("");
      this.busy(true);
      try {
        await action(controller.signal);
      } catch (error) {
        if (this.controller !== controller) return;
        if (error.name === "AbortError") this.say(this.texts.textCancelled);
        else {
          this.say("");
          this.complain(error instanceof Refusal ? error.message : this.texts.textFailed);
        }
      } finally {
        if (this.controller === controller) {
          this.controller = null;
          this.busy(false);
        }
      }
    }

    async show(url, signal) {
      for (;;) {
        this.say(this.texts.textSearching);
        const response = await fetch(url, { signal, headers: { "X-Requested-With": "fetch", Accept: "text/html" } });
        const html = await response.text();
        const found = new DOMParser().parseFromString(html, "text/html").querySelector("[data-visual-search-state]");
        if (!found) throw new Refusal(this.texts.textFailed);
        // Found, or the sentence that says why nothing ever will be.
        if (found.dataset.visualSearchState !== "waiting") {
          this.results.replaceChildren(document.adoptNode(found));
          const summary = found.querySelector("[data-visual-search-summary]")?.textContent ?? "";
          this.say(`${summary} ${this.photo ? this.suggest(found) : ""}`.trim(), true);
          // First seen, then scrolled to: what follows the results would be taken for shifted by them.
          requestAnimationFrame(() => setTimeout(() => found.querySelector("h2")?.focus({ preventScroll: false })));
          this.root.dispatchEvent(new CustomEvent("visual-search:shown", { bubbles: true, detail: { url } }));
          return;
        }
        await new Promise((resolve, reject) => {
          const timer = setTimeout(resolve, LOOK_AGAIN_MS);
          signal?.addEventListener("abort", () => {
            clearTimeout(timer);
            reject(new DOMException("aborted", "AbortError"));
          });
        });
      }
    }

    // Filters and pages of results that stand in this page.

    followLink(event) {
      const link = event.target.closest("a[data-visual-search-link]");
      if (!link || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
      event.preventDefault();
      this.open(link.href);
    }

    filter(event) {
      if (!event.target.matches("[data-visual-search-filters]")) return;
      event.preventDefault();
      const url = new URL(event.target.action);
      for (const [name, value] of new FormData(event.target)) if (value) url.searchParams.append(name, value);
      this.open(url.href);
    }

    open(url) {
      this.run(async (signal) => {
        await this.show(url, signal);
        if (this.isPage) remember(url);
      });
    }

    // Words

    busy(on) {
      this.progress.hidden = !on;
      this.cancel.hidden = !on;
      this.results.setAttribute("aria-busy", String(on));
    }

    // What stands elsewhere on the page too is only spoken.
    say(text, isElsewhere = false) {
      this.status.classList.toggle("visual-search__status--spoken", isElsewhere);
      this.status.textContent = text;
    }

    complain(text) {
      this.error.hidden = !text;
      this.error.textContent = text;
    }
  }

  for (const root of document.querySelectorAll("[data-visual-search]")) new VisualSearch(root);

  // An address that the script has left behind is loaded anew. Links within the page go back and forth, too.
  addEventListener("popstate", () => {
    if (address() !== shown) location.reload();
  });
})();
