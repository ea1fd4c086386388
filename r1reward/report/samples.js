"use strict";
// The browser of samples. Every text of a model or of the data becomes a text node, never markup.
const CHUNK = 60;

// Control characters, those that reorder text among them, are named: unseen they explain nothing.
function visible(text) {
  return text.replaceAll("\r\n", "\n").replace(
    /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g,
    (c) => `[U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}]`);
}

function el(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  for (const child of children) {
    if (child !== null && child !== undefined) made.append(child);
  }
  return made;
}

function prose(tag, className, text) {
  const made = el(tag, className, visible(text));
  made.dir = "auto";
  return made;
}

const number = (value, digits) => (value === null || value === undefined ? "–" : value.toFixed(digits));

// A server gave no answer to this sample; its row is not counted.
const isMissing = (vote) => vote.status === "refused" || vote.status === "failed";

function outcome(vote) {
  if (isMissing(vote)) return ["missing", "–"];
  if (vote.choice === null) return ["unreadable", "?"];
  return vote.right ? ["right", "✓"] : ["wrong", "✗"];
}

// One sample: a line of what it voted for and earned, and its trace once opened.
function voteCard(vote, heading) {
  const [name, mark] = outcome(vote);
  const sign = el("span", `mark ${name}`, mark);
  sign.setAttribute("role", "img");
  sign.setAttribute("aria-label", name);
  const slot = vote.choice === null ? name : `slot ${vote.choice}`;
  const said = [
    heading,
    vote.response ? `${slot} → response ${vote.response}` : slot,
    vote.reason ? `${visible(vote.status.replace("_", " "))}: ${visible(vote.reason)}` : null,
    vote.truncated ? "truncated" : null,
    vote.choice !== null && !vote.well_formed ? "malformed" : null,
  ].filter(Boolean).join(", ");
  const judge = vote.judge_word === "skipped" ? "–" : vote.judge_word;
  const card = el("details", "vote", el("summary", "columns",
    sign,
    el("span", "said", said),
    el("span", "", number(vote.confidence, 2)),
    el("span", judge, judge),
    el("span", "", number(vote.reward, 2))));
  card.addEventListener("toggle", () => {
    if (card.open && card.childElementCount === 1) card.append(...voteBody(vote));
  });
  return card;
}

function voteHeads() {
  const heads = ["", "voted for", "confidence", "judge", "reward"].map((text) => el("span", "", text));
  return el("div", "columns heads", ...heads);
}

function voteBody(vote) {
  const parts = el("p", "parts", [
    `reward ${number(vote.reward, 3)}`,
    `result ${vote.right ? 1 : 0}`,
    `consistency ${number(vote.consistency, 2)}`,
    `well-formed ${vote.well_formed ? "yes" : "no"}`,
    `judge ${vote.judge_word}`,
    vote.num_tokens != null ? `${vote.num_tokens} tokens` : null,
    `sample ${vote.sample_index}, seed ${vote.seed}`,
  ].filter(Boolean).join("  ·  "));
  const body = [prose("pre", "trace", vote.text || "(empty)"), parts];
  if (vote.prompt) {
    body.push(el("details", "fold", el("summary", "", "The prompt"), prose("pre", "trace", vote.prompt)));
  }
  return body;
}

function voteBar(votes) {
  const bar = el("span", "votebar");
  for (const name of ["right", "wrong", "unreadable", "missing"]) {
    const part = el("i", name);
    part.style.flexGrow = votes.filter((vote) => outcome(vote)[0] === name).length;
    bar.append(part);
  }
  return bar;
}

function rowDetail(row) {
  const heading = el("header", "",
    prose("h3", "", row.row_id || row.key),
    row.category ? prose("span", "tag", row.category) : null,
    ...row.flags.map((flag) => el("span", `tag ${flag}`, flag)),
    row.group ? prose("span", "group", `group ${row.group}`) : null);
  const pictures = el("div", "pictures", ...row.images.map((number, i) => {
    const picture = el("img");
    picture.src = report.samples.images[number];
    picture.alt = `Image ${i + 1} of the question`;
    return picture;
  }));
  const responses = el("div", "two", ...[row.response_1, row.response_2].map((text, i) => {
    const votes = row.votes.filter((vote) => vote.response === i + 1).length;
    const isBest = row.preferred === i + 1;
    const box = prose("div", "text", text);
    box.tabIndex = 0;
    return el("section", isBest ? "response preferred" : "response",
      el("h4", "", `Response ${i + 1}`, isBest ? el("span", "badge", "preferred by people") : null,
        el("span", "count", `${votes} of ${row.votes.length} votes`)),
      box);
  }));
  const orders = ["stored", "swapped"].map((order) => {
    const votes = row.votes.filter((vote) => vote.order === order);
    if (!votes.length) return null;
    const cards = votes.map((vote) => voteCard(vote));
    cards[0].open = true;
    const first = order === "stored" ? 1 : 2;
    return el("section", "votes",
      el("h4", "", `${order === "stored" ? "Stored" : "Swapped"} order`,
        el("span", "count", `slot 1 shows response ${first}`)),
      voteHeads(), ...cards);
  }).filter(Boolean);
  const question = prose("p", "question", row.question);
  question.tabIndex = 0;
  return [heading, question, row.images.length ? pictures : null, responses,
    el("div", "two", ...orders)].filter(Boolean);
}

function rowButton(row) {
  const right = row.votes.filter((vote) => vote.right).length;
  const button = el("button", "",
    prose("span", "title", row.question.slice(0, 140)),
    el("span", "meta", prose("span", "cat", [row.row_id, row.category].filter(Boolean).join(" · ").slice(0, 80)),
      el("span", "num", `${right}/${row.votes.length} right`)),
    voteBar(row.votes));
  button.type = "button";
  return button;
}

function startBrowser(rows) {
  const list = document.getElementById("rows");
  const detail = document.getElementById("row");
  const search = document.getElementById("search");
  const category = document.getElementById("category");
  const texts = new Map();
  let shown = [];
  let buttons = [];
  let chosen = null;

  const names = [...new Set(rows.map((row) => row.category))].filter(Boolean).sort();
  category.append(new Option("all", ""), ...names.map((name) => new Option(visible(name), name)));
  category.closest("label").hidden = names.length < 2;

  function textOf(row) {
    if (!texts.has(row)) {
      const all = [row.row_id, row.key, row.question, row.response_1, row.response_2, ...row.votes.map((vote) => vote.text)];
      texts.set(row, all.join("\n").toLowerCase());
    }
    return texts.get(row);
  }

  const hasKind = (row, kind) => kind === "all" || row.flags.includes(kind);

  function filter() {
    const kind = document.querySelector("input[name=kind]:checked").value;
    const words = search.value.trim().toLowerCase();
    const inScope = rows.filter((row) => (!category.value || row.category === category.value)
      && (!words || textOf(row).includes(words)));
    for (const count of document.querySelectorAll("[data-count]")) {
      count.textContent = inScope.filter((row) => hasKind(row, count.dataset.count)).length;
    }
    shown = inScope.filter((row) => hasKind(row, kind));
    document.getElementById("found").textContent = `${shown.length} of ${rows.length} rows.`;
    buttons = [];
    list.replaceChildren();
    list.scrollTop = 0;
    more();
    choose(shown.includes(chosen) ? chosen : shown[0] ?? null, false);
  }

  // Rows are made as the list is scrolled, so thousands cost what sixty do.
  const sentinel = el("li", "sentinel");
  const watcher = new IntersectionObserver((seen) => {
    if (seen.some((entry) => entry.isIntersecting)) more();
  }, { root: list, rootMargin: "600px" });
  function more() {
    watcher.unobserve(sentinel);
    for (const row of shown.slice(buttons.length, buttons.length + CHUNK)) {
      const button = rowButton(row);
      button.addEventListener("click", () => choose(row, true));
      buttons.push(button);
      list.append(el("li", "", button));
    }
    if (buttons.length < shown.length) {
      list.append(sentinel);
      watcher.observe(sentinel);
    } else {
      sentinel.remove();
    }
  }

  function choose(row, byUser) {
    buttons[shown.indexOf(chosen)]?.removeAttribute("aria-current");
    for (const old of list.querySelectorAll("[aria-current]")) old.removeAttribute("aria-current");
    if (row !== chosen || !detail.childElementCount) {
      detail.replaceChildren(...(row ? rowDetail(row) : [el("p", "fine", "No row matches.")]));
    }
    chosen = row;
    if (!row) return;
    const index = shown.indexOf(row);
    while (buttons.length <= index) more();
    buttons[index].setAttribute("aria-current", "true");
    if (!byUser) return;
    keepInView(buttons[index]);
    history.replaceState(null, "", `#row=${encodeURIComponent(row.key)}`);
    if (detail.getBoundingClientRect().top > innerHeight * 0.6) detail.scrollIntoView();
  }

  // Scrolls the list only: the page stays where the reader is.
  function keepInView(button) {
    const [box, frame] = [button.getBoundingClientRect(), list.getBoundingClientRect()];
    if (box.top < frame.top) list.scrollTop -= frame.top - box.top;
    if (box.bottom > frame.bottom) list.scrollTop += box.bottom - frame.bottom;
  }

  function step(by) {
    const next = shown[shown.indexOf(chosen) + by];
    if (!next) return;
    const inList = list.contains(document.activeElement);
    choose(next, true);
    if (inList) buttons[shown.indexOf(next)].focus({ preventScroll: true });
  }

  function toggleTraces() {
    const cards = [...detail.querySelectorAll("details.vote")];
    const open = cards.some((card) => !card.open);
    for (const card of cards) card.open = open;
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target === search && event.key === "Escape") return search.blur();
    if (event.target.matches("input[type=search], select")) return;
    const arrows = list.contains(event.target) ? { ArrowDown: 1, ArrowUp: -1 } : {};
    const by = { j: 1, k: -1, ...arrows }[event.key];
    if (by) step(by);
    else if (event.key === "/") search.focus();
    else if (event.key === "e") toggleTraces();
    else return;
    event.preventDefault();
  });
  let waiting = 0;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(filter, 120);
  });
  category.addEventListener("change", filter);
  for (const input of document.querySelectorAll("input[name=kind]")) {
    input.addEventListener("change", filter);
  }
  const linked = location.hash.startsWith("#row=") && decodeURIComponent(location.hash.slice(5));
  chosen = rows.find((row) => row.key === linked) ?? null;
  filter();
  if (chosen && linked) {
    document.getElementById("samples").scrollIntoView();
    keepInView(buttons[shown.indexOf(chosen)]);
  }
}

if (document.getElementById("browser")) startBrowser(report.samples.rows);

const rolloutList = document.getElementById("rollout-list");
if (rolloutList) {
  rolloutList.append(voteHeads(), ...report.rollouts.map((rollout) =>
    voteCard(rollout, `step ${rollout.step}, ${rollout.order} order, label ${rollout.label}`)));
}

// A teacher's attempt: what it answered, whether people agree, and its text.
function attemptCard(attempt) {
  const [name, mark] = outcome({ choice: attempt.choice, right: attempt.agreed });
  const sign = el("span", `mark ${name}`, mark);
  sign.setAttribute("role", "img");
  sign.setAttribute("aria-label", name);
  const said = [
    `attempt ${attempt.number} of ${attempt.num_attempts}`,
    `${attempt.order} order`,
    attempt.choice === null ? "unreadable" : `slot ${attempt.choice}`,
    attempt.agreed ? "agreed with people" : "did not agree with people",
    attempt.failed ? "the pair failed" : null,
    attempt.truncated ? "truncated" : null,
    attempt.choice !== null && !attempt.well_formed ? "malformed" : null,
  ].filter(Boolean).join(", ");
  const card = el("details", "vote",
    el("summary", "columns", sign, el("span", "said", said), el("span", "", number(attempt.completion_tokens, 0))),
    prose("pre", "trace", attempt.text || "(empty)"),
    prose("p", "parts", `pair ${attempt.pair_id}  ·  seed ${attempt.seed}`));
  card.open = true;
  return card;
}

const attemptList = document.getElementById("attempt-list");
if (attemptList) {
  const heads = ["", "answered", "tokens"].map((text) => el("span", "", text));
  attemptList.append(el("div", "columns heads", ...heads), ...report.attempts.map(attemptCard));
}
