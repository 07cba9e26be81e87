// The element without a framework: `?api=ADDRESS&product=KEY&product=KEY`.
const asked = new URLSearchParams(location.search);
const products = asked.getAll("product");
const element = document.querySelector("similar-products");
const told = document.getElementById("told");
let place = 0;
const show = () => {
  element.setAttribute("product", products[place % products.length]);
};
element.setAttribute("api", asked.get("api"));
element.addEventListener("similar-loaded", (event) => {
  told.textContent = `${event.detail.results.length} loaded`;
});
element.addEventListener("similar-click", (event) => {
  event.preventDefault();
  told.textContent = `Opened ${event.detail.result.name}`;
});
document.getElementById("next").addEventListener("click", () => {
  place += 1;
  show();
});
show();
