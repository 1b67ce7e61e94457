// The page of keys: what is in training stays fresh.
import { refresh } from "./parts.js";

setInterval(() => {
  if (!document.hidden && document.querySelector("[data-active]")) refresh(location.href);
}, 3000);
