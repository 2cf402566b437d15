// What the pages do in the browser: keep themselves current, and tell times as people do.

const REST_MS = 700; // between two looks, however much happens

// --- times ------------------------------------------------------------------------------

const relative = new Intl.RelativeTimeFormat(document.documentElement.lang, { style: "narrow" });
const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

function tellTimes() {
  for (const time of document.querySelectorAll("time")) {
    const moment = new Date(time.dateTime);
    const seconds = (moment - Date.now()) / 1000;
    const [unit, size] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? UNITS.at(-1);
    const isNear = Math.abs(seconds) < 7 * 86400;
    time.textContent = isNear ? relative.format(Math.round(seconds / size), unit) : local.format(moment);
  }
}

// --- live -------------------------------------------------------------------------------

const busy = () => document.hidden || document.querySelector("details.action[open], #live :focus-visible:is(input, textarea, select)");
const unfolded = new Set();

document.addEventListener("htmx:beforeRequest", (event) => {
  if (event.target.id === "live" && busy()) event.preventDefault();
});
document.addEventListener("htmx:beforeSwap", (event) => {
  if (busy()) event.detail.shouldSwap = false;
  unfolded.clear();
  for (const details of document.querySelectorAll("#live details[id][open]")) unfolded.add(details.id);
});
document.addEventListener("htmx:afterSwap", () => {
  for (const id of unfolded) document.getElementById(id)?.setAttribute("open", "");
  tellTimes();
});

function follow(address) {
  let source, timer;
  const look = () => {
    timer ??= setTimeout(() => {
      timer = undefined;
      window.htmx.trigger("#live", "changed");
    }, REST_MS);
  };
  const open = () => {
    source = new EventSource(address);
    for (const kind of ["task.created", "task.state_changed", "task.finished", "step.state_changed"]) {
      source.addEventListener(kind, look);
    }
    source.addEventListener("stream.end", (event) => {
      if (JSON.parse(event.data).data.cause === "finished") source.close();
      look();
    });
  };
  // a browser has few connections for all its tabs: one that nobody sees needs none
  document.addEventListener("visibilitychange", () => {
    source.close();
    if (document.hidden) return;
    open();
    look();
  });
  open();
}

// --- forms ------------------------------------------------------------------------------

document.addEventListener("toggle", (event) => {
  if (event.target.matches("details.action[open]")) {
    event.target.querySelector("input:not([type=hidden]), textarea")?.focus();
  }
}, true);
document.addEventListener("keydown", (event) => {
  const open = document.querySelector("details.action[open]");
  if (event.key !== "Escape" || !open) return;
  open.removeAttribute("open");
  open.querySelector("summary").focus();
});
document.addEventListener("click", (event) => {
  for (const open of document.querySelectorAll("details.action[open]")) {
    if (!open.contains(event.target)) open.removeAttribute("open");
  }
});
function remember() {
  for (const field of document.querySelectorAll("[data-remember]")) {
    const key = `tasker.${field.dataset.remember}`;
    field.value ||= localStorage.getItem(key) ?? "";
    field.addEventListener("change", () => localStorage.setItem(key, field.value));
  }
}

// A link from another site brings no cookie along; who is logged in need not log in for it.
async function skipLogin(next) {
  const reply = await fetch(next, { redirect: "manual", headers: { Accept: "text/html" } });
  if (reply.ok) location.replace(next);
}

tellTimes();
setInterval(tellTimes, 10_000);
remember();
document.addEventListener("htmx:afterSwap", remember);
const { events } = document.getElementById("main").dataset;
if (events) follow(events);
const login = document.querySelector("[data-login]:not(:has(.wrong))");
if (login) skipLogin(login.dataset.login);
