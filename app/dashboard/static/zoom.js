// The cell page: a triple of pictures as large as the window takes, every pixel a square.
const dialog = document.getElementById("zoom");
const triples = [...document.querySelectorAll("[data-zoom]")];
const pictures = document.getElementById("zoom-pictures");
let shown = 0;

function show(index) {
  shown = (index + triples.length) % triples.length;
  document.getElementById("zoom-caption").textContent = triples[shown].dataset.caption;
  pictures.replaceChildren(
    ...[...triples[shown].children].map((each) => {
      const figure = document.createElement("figure");
      const image = each.querySelector("img").cloneNode();
      image.loading = "eager";
      const caption = document.createElement("figcaption");
      caption.textContent = each.querySelector("small").textContent;
      figure.append(image, caption);
      return figure;
    }),
  );
}

triples.forEach((triple, index) =>
  triple.addEventListener("click", (event) => {
    event.preventDefault();
    show(index);
    dialog.showModal();
  }),
);

if (dialog) {
  document.getElementById("zoom-close").addEventListener("click", () => dialog.close());
  document.getElementById("zoom-before").addEventListener("click", () => show(shown - 1));
  document.getElementById("zoom-after").addEventListener("click", () => show(shown + 1));
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) show(shown + step);
  });
  dialog.addEventListener("close", () => triples[shown].focus());
}
