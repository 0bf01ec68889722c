// The page of the host: what `/status` and `/artifacts` say, for people.
//
// Everything that is shown comes from vendors, connectors and operators, so nothing is ever taken as markup: texts become
// text nodes and nothing else, and the page's policy lets no other script run.
// Not guaranteed: that a status of another version has all that is looked for; what is not there is shown as if there were
// nothing to say.
"use strict";

const EVERY_MS = 5000;
const MOST_TILES = 300;
const MOST_RAW = 200000;
const MOST_SHORT = 300;
const ANSWERS_WITHIN_MS = 30000;
const TOLD_FOR_S = 86400;
const ORDER = ["failed", "degraded", "starting", "ok", "disabled"];

const at = (id) => document.getElementById(id);

/** An element of a class with children, which are elements or texts. */
function make(tag, kind, ...children) {
  const element = document.createElement(tag);
  if (kind) element.className = kind;
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

/** A span of seconds in its largest unit. */
function span(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 120) return `${whole} s`;
  if (whole < 7200) return `${Math.floor(whole / 60)} min`;
  if (whole < 172800) return `${Math.floor(whole / 3600)} h`;
  return `${Math.floor(whole / 86400)} d`;
}

/** A number of bytes in its largest unit. */
function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let [value, unit] = [Number(bytes), 0];
  while (value >= 1000 && unit < units.length - 1) [value, unit] = [value / 1000, unit + 1];
  return `${unit ? value.toFixed(1) : value} ${units[unit]}`;
}

/** Seconds from one time to another; NaN where one is not there. */
const between = (from, to) => (from && to ? (Date.parse(to) - Date.parse(from)) / 1000 : NaN);

const ago = (time, now) => {
  const seconds = between(time, now);
  return Number.isNaN(seconds) ? "never" : `${span(seconds)} ago`;
};

/** `message (HTTP 401, unauthorized). remedy`, as the log has it. */
function sentence(failure) {
  const http = failure.http_status ? `HTTP ${failure.http_status}, ` : "";
  const id = failure.correlation_id ? ` Correlation id: ${failure.correlation_id}.` : "";
  return `${failure.message} (${http}${failure.code}). ${failure.remedy ?? ""}${id}`;
}

// Asking. The token is in memory only.

let token = "";

/** Whole numbers that no number of JavaScript holds stay as they are written, where the browser can do that. */
function exact(key, value, context) {
  const isInexact = Number.isInteger(value) && !Number.isSafeInteger(value);
  return isInexact && context?.source && JSON.rawJSON ? JSON.rawJSON(context.source) : value;
}

async function ask(path) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  // A proxy in front may want credentials of its own; the host has none.
  const signal = AbortSignal.timeout(ANSWERS_WITHIN_MS);
  const answer = await fetch(path, { headers, cache: "no-store", credentials: "same-origin", signal });
  const body = JSON.parse(await answer.text(), exact);
  if (answer.ok) return body;
  const failure = new Error(body.error?.message ?? `HTTP ${answer.status}`);
  failure.status = answer.status;
  throw failure;
}

/** Shows why nothing can be shown, or that it can. */
function tell(failure) {
  const isLocked = failure?.status === 401;
  // Who does not answer says nothing of tokens.
  if (!failure || failure.status) at("sign-in").hidden = !isLocked;
  at("trouble").hidden = !failure || (isLocked && !token);
  if (!failure) return;
  if (isLocked) {
    at("content").hidden = true;
    at("trouble").textContent = "This token is not, or no longer, the right one.";
  } else if (failure.status) {
    at("trouble").textContent = `The host answers: ${failure.message}`;
  } else {
    at("trouble").textContent = "The host does not answer; what is shown is from before.";
  }
}

// The status.

function hostLine(status) {
  const { version, started, polls_running: running, parallel_polls: most, stopping, sink } = status.host;
  const delivered = sink?.target && sink.target !== "none" ? `; ${sink.delivered} artifacts delivered to ${sink.target}` : "";
  const end = stopping ? "; stopping" : "";
  return `host-harness ${version}, started ${ago(started, status.now)}; ${running} of ${most} polls running${delivered}${end}`;
}

function notices(status) {
  const { config, sink } = status.host;
  const leftOut = config?.left_out ?? [];
  const list = (status.host.broken ?? []).map((part) =>
    make("p", "notice failed", `Broken: ${part} has panicked; report this. The host ends itself, to be started again.`),
  );
  for (const problem of config?.problems ?? []) {
    const line = problem.line ? `:${problem.line}` : "";
    const standing = leftOut.length ? "Configuration" : "Configuration, not in effect";
    list.push(make("p", "notice failed", `${standing}: ${problem.file}${line}: ${problem.reason}; ${problem.help}`));
  }
  if (leftOut.length) {
    list.push(make("p", "notice failed", `Left out since the start, until that is corrected: ${leftOut.join(", ")}`));
  }
  if (config?.needs_restart?.length) {
    list.push(make("p", "notice degraded", `Counts from the next start on: ${config.needs_restart.join(", ")}`));
  }
  for (const route of status.host.routes ?? []) {
    list.push(make("p", "notice degraded", `A route of the configuration sends what is meant for a vendor elsewhere: ${route}`));
  }
  if (sink?.failure) list.push(make("p", "notice failed", `Output ${sink.target}: ${sentence(sink.failure)}`));
  return list;
}

function nextPoll(one, now) {
  if (one.polling) return "being polled";
  if (!one.next_poll) return "";
  const seconds = between(now, one.next_poll);
  const when = seconds > 0 ? `next in ${span(seconds)}` : "due";
  if (!one.back_off) return when;
  const { failures } = one.back_off;
  return `${when} (backing off after ${failures === 1 ? "a failure" : `${failures} failures in a row`})`;
}

function streamLine(stream) {
  const counts = `${stream.last} ${stream.noun} in the last poll, ${stream.total} in all`;
  if (!stream.failure) return make("li", "", counts);
  return make("li", "", `${counts}; ${stream.state}: ${sentence(stream.failure)}`);
}

/** What it came to today. Days are those of UTC, as the times of a status are. */
function today(one, now) {
  const day = (one.days ?? []).find((known) => known.day === now.slice(0, 10));
  if (!day) return "";
  const parts = [
    `${day.requests} ${day.requests === 1 ? "request" : "requests"}`,
    `${size(day.bytes_received)} received`,
    `${day.artifacts_new} new artifacts (${size(day.artifact_bytes)})`,
  ];
  return `today ${parts.join(", ")}`;
}

/** That a source has fallen silent. */
function silence(one, now) {
  const seconds = one.last_new ? between(one.last_new, now) : 0;
  return one.state === "ok" && seconds > TOLD_FOR_S ? `nothing new for ${span(seconds)}` : "";
}

/** That there is more, and how long the vendor wants peace. */
function pace(one, now) {
  const left = between(now, one.not_before);
  const pause = left > 0 ? `not to be called for another ${span(left)}` : "";
  if (one.behind_since) {
    const limit = pause ? `; it asks ${pause}` : "";
    return `behind since ${ago(one.behind_since, now)}: the vendor has more, which is collected turn by turn${limit}`;
  }
  return pause ? `the vendor asks ${pause}` : "";
}

/** What is wrong, or was within the last day, but for what a stream says: nothing is said twice. */
function trouble(one, now) {
  const failure = one.failure ?? one.last_failure;
  if (!failure || (one.streams ?? []).some((stream) => stream.failure && sentence(stream.failure) === sentence(failure))) return "";
  if (one.failure) return sentence(failure);
  return between(failure.at, now) < TOLD_FOR_S ? `was wrong ${ago(failure.at, now)}: ${sentence(failure)}` : "";
}

/** Whether it needs somebody: something is wrong with it, or nothing serves it at this moment. */
const needsSomebody = (one) => one.state === "failed" || one.state === "degraded" || one.unserved === true;

/** What its last poll came to may be a day old; when it says so itself that is enough. */
function unserved(one) {
  if (!one.unserved || one.failure?.code === "connector-missing") return "";
  return `nothing serves ${one.integration_type} at this moment: see below, or host-harness connectors list`;
}

function tile(one, now) {
  const times = [`last poll ${ago(one.last_poll, now)}`, nextPoll(one, now)].filter(Boolean).join(", ");
  const streams = one.streams ?? [];
  const [missing, wrong, slow] = [unserved(one), trouble(one, now), pace(one, now)];
  const [work, silent] = [today(one, now), silence(one, now)];
  const kind = one.unserved ? "failed" : ORDER.find((state) => state === one.state) ?? "";
  const element = make(
    "article",
    `tile ${kind}`,
    make("h3", "", make("span", "", one.name), make("span", "state", one.state)),
    make("p", "quiet", `${[one.integration_type, one.connector?.version].filter(Boolean).join(" ")}, every ${one.interval_minutes} min`),
    make("p", "", times),
    missing ? make("p", "", missing) : null,
    wrong ? make("p", "", wrong) : null,
    streams.length ? make("ul", "", ...streams.map(streamLine)) : null,
    slow ? make("p", "", slow) : null,
    silent ? make("p", "", silent) : null,
    work ? make("p", "quiet", work) : null,
    one.hint ? make("p", "", one.hint) : null,
  );
  for (const route of one.routes ?? []) element.append(make("p", "quiet", `routed: ${route}`));
  return element;
}

function connectorRow(connector) {
  const digest = make("td", "", make("code", "", (connector.digest ?? "").slice(0, 12)));
  digest.title = connector.digest ?? "";
  return make(
    "tr",
    "",
    make("td", "", connector.integration_type ?? ""),
    make("td", "", connector.version ?? ""),
    make("td", connector.state, connector.state),
    make("td", "", connector.file ?? ""),
    digest,
    make("td", "", connector.reason ?? ""),
  );
}

/** Those that need somebody come first. */
function sorted(instances) {
  const rank = (one) => (one.unserved ? 0 : ORDER.indexOf(one.state));
  return [...instances].sort((a, b) => rank(a) - rank(b) || a.name.localeCompare(b.name));
}

let last = null;

function show(status) {
  last = status;
  const instances = sorted(status.instances ?? []);
  const counts = ORDER.map((state) => [instances.filter((one) => one.state === state).length, state]).filter(([count]) => count);
  const needs = instances.filter(needsSomebody).length;
  document.title = needs ? `(${needs}) Signal Client` : "Signal Client";
  at("host").textContent = hostLine(status);
  at("notices").replaceChildren(...notices(status));
  at("counts").textContent = counts.map(([count, state]) => `${count} ${state}`).join(", ") || "There are none in the configuration.";
  const wanted = at("filter").value.trim().toLowerCase();
  const matches = (one) => [one.name, one.integration_type, one.state].some((text) => text.toLowerCase().includes(wanted));
  const shown = instances.filter(matches);
  const tiles = shown.slice(0, MOST_TILES).map((one) => tile(one, status.now));
  if (shown.length > MOST_TILES) tiles.push(make("p", "quiet", `and ${shown.length - MOST_TILES} more: say above which`));
  at("instances").replaceChildren(...tiles);
  at("connectors").replaceChildren(...(status.connectors ?? []).map(connectorRow));
  choices(instances.map((one) => one.name).sort((a, b) => a.localeCompare(b)));
}

/** Instances to search in; what is chosen stays. */
function choices(names) {
  const select = at("of");
  const there = [...select.options].slice(1).map((option) => option.value);
  if (names.length === there.length && names.every((name, index) => name === there[index])) return;
  const chosen = select.value;
  const options = names.map((name) => new Option(name, name, false, name === chosen));
  select.replaceChildren(select.options[0], ...options);
}

async function refresh() {
  try {
    show(await ask("status"));
    at("content").hidden = false;
    tell(null);
  } catch (failure) {
    tell(failure);
  }
}

// The search.

/** A value for a line: connectors may put anything anywhere. */
const short = (value) => (["string", "number", "boolean"].includes(typeof value) ? String(value).slice(0, MOST_SHORT) : "");

function hit(one) {
  const { startTimeUTC, severityLabel, messageType, ruleName, userName, clientHostname, clientIP } = one.artifact ?? {};
  const rest = [messageType, ruleName, userName, clientHostname, clientIP].map(short).filter(Boolean).join(" · ");
  const line = `${short(startTimeUTC) || one.stored} ${short(severityLabel)} ${rest}`;
  const raw = make("pre", "");
  const details = make("details", "", make("summary", "", line), make("p", "quiet", `${one.instance}, stored ${one.stored}, id ${one.id}`), raw);
  // Only what is opened is written out: an artifact can have megabytes.
  details.addEventListener("toggle", () => {
    if (!details.open || raw.textContent) return;
    const text = JSON.stringify(one.artifact, null, 2);
    raw.textContent = text.length > MOST_RAW ? `${text.slice(0, MOST_RAW)}\n… ${text.length - MOST_RAW} more characters` : text;
  });
  return make("li", "", details);
}

let searches = 0;
// What was searched for last, and where its next page begins.
let asked = null;
let next = null;

async function search(isNew) {
  searches += 1;
  const mine = searches;
  if (isNew) {
    asked = new URLSearchParams({ query: at("query").value, limit: "50" });
    if (at("of").value) asked.set("instance", at("of").value);
    if (at("when").value) asked.set("since", at("when").value);
  } else {
    asked.set("before", next);
  }
  at("more").hidden = true;
  at("notes").textContent = "Searching…";
  try {
    const page = await ask(`artifacts?${asked}`);
    // Somebody has asked for something else meanwhile.
    if (mine !== searches) return;
    const before = isNew ? 0 : at("found").children.length;
    const count = before + page.artifacts.length;
    next = page.next ?? null;
    const more = next === null ? "" : ", stored last; there may be more";
    at("notes").textContent = count ? `${count} artifacts${more}` : ["Nothing was found.", ...(page.notes ?? [])].join(" ");
    const found = page.artifacts.map(hit);
    if (isNew) at("found").replaceChildren(...found);
    else at("found").append(...found);
    at("more").hidden = next === null;
  } catch (failure) {
    if (mine !== searches) return;
    if (isNew) at("found").replaceChildren();
    // It can be asked for again.
    else at("more").hidden = false;
    at("notes").textContent = failure.message;
    if (failure.status === 401) tell(failure);
  }
}

at("search").addEventListener("submit", (event) => {
  event.preventDefault();
  search(true);
});
at("more").addEventListener("click", () => search(false));
at("filter").addEventListener("input", () => last && show(last));
at("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  // What is copied along with it: no token has it, and no header takes it.
  token = at("token").value.replace(/[^\x21-\x7e]/g, "");
  at("token").value = "";
  refresh();
});

/** Nobody is asked while nobody looks. */
async function keepUp() {
  if (document.visibilityState === "visible") await refresh();
  setTimeout(keepUp, EVERY_MS);
}
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && refresh());
keepUp();
