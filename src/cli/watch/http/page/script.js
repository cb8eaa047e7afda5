"use strict";

const at = (id) => document.getElementById(id);
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const MOST_EVENTS = 200;

/** An element with text and children; text never becomes markup. */
function make(tag, className, ...content) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...content);
  return element;
}

/** Changes text only where it differs: a live region speaks when it is touched. */
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const percent = (score) => `${Math.round(score * 100)} %`;
const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

/** The answer as JSON, or an error that says what the server said. */
async function ask(address, options) {
  let response;
  try {
    response = await fetch(address, options);
  } catch {
    throw new Error("The camera cannot be reached.");
  }
  if (response.status === 401) location.reload();
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error || `The camera answered ${response.status}.`);
  return answer;
}

// --- State: labels with their scores, and how the watch is doing.

let state = null;

function showState(now) {
  const relabelled = !state || state.version !== now.version;
  state = now;
  say(at("source"), now.source);
  if (relabelled) newLabels();
  now.regions.forEach(showScores);
  showHere();
  if (now.ended) status("the watch has ended", "bad");
  else if (now.silence === null) status("waiting for the first frame", "");
  else if (now.silence > 10) status("no frames are coming", "bad");
  else status("live", "live");
  say(at("rate"), `${now.fps.toFixed(1)} frames/s`);
  showCounts(now);
}

function status(text, className) {
  say(at("status"), text);
  at("status").className = className;
}

/** Builds the lists anew: the labels are others. */
function newLabels() {
  const shown = state.regions.map((region) => {
    const list = make("ul");
    list.append(...state.labels.map((label) => {
      const bar = make("div", "bar", make("i"));
      bar.ariaHidden = "true";
      const tick = make("b");
      tick.style.left = `calc(${state.enter * 100}% - 1px)`;
      bar.append(tick);
      const line = make("div", "line", make("span", "name", label.name), make("span", "state"), make("span", "value"));
      const item = make("li", "score", line, bar);
      item.hidden = label.negative;
      return item;
    }));
    const unknown = make("p", "quiet", "Nothing of this, it seems.");
    unknown.hidden = true;
    const title = region.name === null ? [] : [make("h3", "", region.name)];
    return make("div", "", ...title, list, unknown);
  });
  at("regions").replaceChildren(...shown);
  if (document.activeElement !== at("typed") && !edited()) fillTyped();
}

function showScores(region, number) {
  const group = at("regions").children[number];
  const items = group.querySelectorAll("li");
  region.scores.forEach(([score, here], label) => {
    const item = items[label];
    item.classList.toggle("is-here", here);
    say(item.querySelector(".state"), here ? "● here" : "");
    say(item.querySelector(".value"), percent(score));
    item.querySelector("i").style.transform = `scaleX(${score})`;
  });
  group.querySelector("p").hidden = !region.unknown;
}

/** The labels that are there, on the picture itself. */
function showHere() {
  const names = [];
  for (const region of state.regions) {
    region.scores.forEach(([, here], label) => {
      if (!here) return;
      const name = state.labels[label].name;
      names.push(region.name === null ? name : `${region.name}: ${name}`);
    });
  }
  const list = at("here");
  if ([...list.children].map((item) => item.textContent).join("\n") !== names.join("\n")) {
    list.replaceChildren(...names.map((name) => make("li", "", name)));
    at("picture").alt = names.length ? `Live picture: ${names.join(", ")}` : "Live picture: none of the labels";
  }
}

function showCounts({ counts, memory }) {
  const parts = [`${counts.frames.toLocaleString()} frames`, `${counts.encoded.toLocaleString()} looked at`];
  const more = { still: "still", dropped: "dropped", damaged: "damaged", reconnects: "reconnects" };
  for (const [key, name] of Object.entries(more)) {
    if (counts[key]) parts.push(`${counts[key].toLocaleString()} ${name}`);
  }
  parts.push(`${Math.round(memory / 1e6)} MB`);
  say(at("counts"), parts.join(" · "));
}

// --- Labels that are typed.

const written = (label) => (label.negative ? "!" : "") + label.name;
let filled = "";

const edited = () => at("typed").value !== filled;

function fillTyped() {
  filled = state.labels.map(written).join("\n");
  at("typed").value = filled;
  at("typed").rows = Math.min(10, Math.max(3, state.labels.length + 1));
  at("undo").disabled = true;
}

function typedLabels() {
  const lines = at("typed").value.split("\n").map((line) => line.trim()).filter(Boolean);
  const known = state ? state.labels.map(written) : [];
  const single = lines.length === 1 && !known.includes(lines[0]);
  return single ? lines[0].split(",").map((name) => name.trim()).filter(Boolean) : lines;
}

at("typed").addEventListener("input", () => {
  at("undo").disabled = !edited();
  say(at("typed-done"), "");
});
at("typed").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("relabel").requestSubmit();
});
at("undo").addEventListener("click", () => {
  fillTyped();
  say(at("typed-error"), "");
  at("typed").removeAttribute("aria-invalid");
  at("typed").focus();
});
at("relabel").addEventListener("submit", async (event) => {
  event.preventDefault();
  say(at("typed-error"), "");
  say(at("typed-done"), "reading the labels…");
  try {
    const answer = await ask("/api/labels", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ labels: typedLabels() }),
    });
    filled = answer.labels.join("\n");
    at("typed").value = filled;
    at("undo").disabled = true;
    at("typed").removeAttribute("aria-invalid");
    const count = answer.labels.length;
    say(at("typed-done"), count === 1 ? "watching for 1 label" : `watching for ${count} labels`);
  } catch (error) {
    say(at("typed-done"), "");
    say(at("typed-error"), error.message);
    at("typed").setAttribute("aria-invalid", "true");
    at("typed").focus();
  }
});

// --- Events.

const CHANGES = { enter: "came", leave: "left" };

function clock(time) {
  if (typeof time === "number") return `${time.toFixed(1)} s`;
  const date = new Date(time);
  const today = date.toDateString() === new Date().toDateString();
  const day = today ? {} : { month: "short", day: "numeric" };
  return date.toLocaleString([], { ...day, hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

function showEvent(event) {
  const time = make("time", "", clock(event.time));
  if (typeof event.time === "string") time.dateTime = event.time;
  const what = make("span", "what", event.label, " ", make("b", "", CHANGES[event.event] || event.event));
  if (event.region) what.append(` (${event.region})`);
  const list = at("events");
  list.prepend(make("li", event.event, time, what, make("span", "value", percent(event.score))));
  while (list.children.length > MOST_EVENTS) list.lastChild.remove();
  at("no-events").hidden = true;
}

let source = null;
let last = 0;

function listen() {
  source = new EventSource(`/api/events?after=${last}`);
  source.addEventListener("state", (message) => {
    showState(JSON.parse(message.data));
    // What happened before this page was opened is shown, not spoken.
    at("log").ariaLive = "polite";
  });
  source.addEventListener("happening", (message) => {
    last = Math.max(last, Number(message.lastEventId));
    showEvent(JSON.parse(message.data));
  });
  source.addEventListener("error", () => {
    if (!state || !state.ended) status("no connection; trying again", "bad");
    source.close();
    setTimeout(async () => {
      await ask("/api/state").catch(() => {});
      listen();
    }, 3000);
  });
}

// --- The live picture.

let paused = false;
let shownPicture = null;

async function showPictures() {
  let serial = "";
  for (;;) {
    if (paused || document.hidden) {
      await wait(200);
      continue;
    }
    const begun = performance.now();
    try {
      const response = await fetch(`/picture.jpg${serial && `?after=${serial}`}`);
      if (!response.ok) throw new Error();
      serial = response.headers.get("X-Picture");
      await showPicture(await response.blob());
    } catch {
      serial = "";
      await wait(1500);
    }
    const step = calm.matches ? 1000 : 100;
    await wait(Math.max(0, step - (performance.now() - begun)));
  }
}

async function showPicture(blob) {
  const address = URL.createObjectURL(blob);
  const image = at("picture");
  image.src = address;
  await image.decode().catch(() => {});
  if (image.hidden) {
    image.hidden = false;
    at("no-picture").hidden = true;
    at("frame").style.aspectRatio = `${image.naturalWidth} / ${image.naturalHeight}`;
  }
  if (shownPicture) URL.revokeObjectURL(shownPicture);
  shownPicture = address;
}

at("pause").addEventListener("click", () => {
  paused = !paused;
  at("pause").setAttribute("aria-pressed", String(paused));
});
at("full").addEventListener("click", () => {
  if (document.fullscreenElement) document.exitFullscreen();
  else at("frame").requestFullscreen().catch(() => {});
});
at("full").hidden = !document.fullscreenEnabled;

// --- Search.

async function search(parameters, what) {
  const since = at("since").value;
  if (since) parameters.set("since", String(Date.now() - Number(since) * 1000));
  say(at("find-error"), "");
  say(at("found-count"), "searching…");
  try {
    const { found, rows } = await ask(`/api/search?${parameters}`);
    at("found").replaceChildren(...found.map(card));
    say(at("found-count"), `${found.length} of ${rows.toLocaleString()} kept frames for ${what}`);
  } catch (error) {
    say(at("found-count"), "");
    say(at("find-error"), error.message);
  }
}

function card(row) {
  const when = row.time === null ? row.key : new Date(row.time).toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });
  const shot = make("div", "shot");
  if (row.thumbnail) {
    const image = make("img");
    image.src = `/thumbnail.jpg?key=${encodeURIComponent(row.key)}`;
    image.alt = `Seen ${when}`;
    image.loading = "lazy";
    shot.append(image);
  } else {
    shot.append(make("span", "quiet", "no picture kept"));
  }
  const score = row.score === null ? row.similarity.toFixed(3) : percent(row.score);
  const line = make("div", "line", make("span", "", score), make("span", "quiet", `nº ${row.rank}`));
  const like = make("button", "", "More like this");
  like.type = "button";
  like.ariaLabel = `More like this: number ${row.rank}, seen ${when}`;
  like.addEventListener("click", () => search(new URLSearchParams({ like: row.key }), `more like nº ${row.rank}`));
  const item = make("li", "", shot, make("div", "text", line, make("span", "quiet", when), like));
  item.title = row.key;
  return item;
}

at("find").addEventListener("submit", (event) => {
  event.preventDefault();
  const query = at("query").value.trim();
  search(new URLSearchParams({ q: query }), `“${query}”`);
});

ask("/api/state").then((now) => { at("search").hidden = !now.searchable; }).catch(() => {});
listen();
showPictures();
