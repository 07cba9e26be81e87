// Small comforts. Every page works without this file.

// Sorting at once when the choice changes.
for (const form of document.querySelectorAll("form[data-autosubmit]")) {
  form.classList.add("sorting--live");
  form.addEventListener("change", () => form.requestSubmit());
}

// Galleries: the small pictures move the stage alone, not the page, and show which photo is in view.
for (const gallery of document.querySelectorAll(".gallery")) {
  const stage = gallery.querySelector(".gallery__stage");
  const links = [...gallery.querySelectorAll(".gallery__choice a")];
  const photos = links.map((link) => document.getElementById(link.hash.slice(1)));
  for (const [index, link] of links.entries()) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      stage.scrollTo({ left: photos[index].offsetLeft - photos[0].offsetLeft });
    });
  }
  if (!links.length || !("IntersectionObserver" in window)) continue;
  const watch = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        const shown = photos.indexOf(entry.target);
        links.forEach((link, index) => {
          if (index === shown) link.setAttribute("aria-current", "true");
          else link.removeAttribute("aria-current");
        });
      }
    },
    { root: stage, threshold: 0.6 },
  );
  photos.forEach((photo) => watch.observe(photo));
}
