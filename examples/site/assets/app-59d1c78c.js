// Looks every second whether this page has another ETag by now, and if so shows the new one.
// The ETag is a function of the page's content, so only a change reloads.
const etag = async () => {
  const answer = await fetch(location.pathname, { method: "HEAD", cache: "no-store" });
  return answer.ok ? answer.headers.get("etag") : null;
};

const status = document.querySelector("#watching");
let shown = null;

const look = async () => {
  try {
    const now = await etag();
    if (now && shown && now !== shown) location.reload();
    shown ??= now;
    status.textContent = "This page reloads itself when another release goes live.";
  } catch {
    status.textContent = "Nobody answers. Is the demo still running?";
  }
};

look();
setInterval(look, 1000);
