// The browser of clips. All text reaches the page as text nodes; nothing here parses markup.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { labels, runs, videos } = data;
  const PAGE = 24;
  const MANY = 8; // answers of a clip; above it, a card that is not open has a row an arm
  const arms = [...new Set(runs.map((run) => run.arm))];
  const by = (id) => document.getElementById(id);
  const list = by("list");
  const PLAIN = { q: "", split: data.scored, class: "", a: String(runs.length - 1), b: "", change: "", sort: "" };
  let state, found = [], page = 0, cursor = -1;

  const make = (tag, className, ...children) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    element.append(...children.filter((child) => child !== null));
    return element;
  };
  const nameOf = (label) => (label < 0 ? "(no label)" : labels[label]);
  const splits = [...new Set(videos.map((video) => video.split))];
  const reach = (run) => (run === "" ? null : Number(run));

  // What a video is to a run: right, wrong or silent; null where the run has no answer to it (training videos).
  const outcome = (video, run) => {
    if (run === null || !video.answers.length) return null;
    const prediction = video.answers[run][0];
    return prediction < 0 ? "silent" : prediction === video.label ? "right" : "wrong";
  };
  const sure = (video, run) => {
    const answer = run === null ? null : video.answers[run];
    if (!answer || !answer[2].length) return null;
    const own = answer[2].find(([label]) => label === answer[0]);
    return own ? own[1] : answer[2][0][1];
  };
  const wrongs = (video) => video.answers.filter((answer) => answer[0] !== video.label).length;

  const CHANGES = {
    fixed: [(a, b) => a === "right" && b !== "right", "fixed: {a} right, {b} not", true],
    broken: [(a, b) => a !== "right" && b === "right", "broken: {b} right, {a} not", true],
    both: [(a, b) => a === "right" && b === "right", "both right", true],
    neither: [(a, b) => a !== "right" && b !== "right", "neither right", true],
    right: [(a) => a === "right", "{a} right", false],
    wrong: [(a) => a !== "right", "{a} not right", false],
    silent: [(a) => a === "silent", "{a}: no answer", false],
  };
  const SORTS = {
    id: ["id", (x, y) => x.id.localeCompare(y.id, undefined, { numeric: true })],
    class: ["class", (x, y) => x.label - y.label],
    hard: ["most models wrong first", (x, y) => wrongs(y) - wrongs(x)],
    unsure: ["least sure first", (x, y) => (sure(x, reach(state.a)) ?? 2) - (sure(y, reach(state.a)) ?? 2)],
    sure: ["most sure first", (x, y) => (sure(y, reach(state.a)) ?? -1) - (sure(x, reach(state.a)) ?? -1)],
  };
  const haystacks = new Map();
  const haystack = (video) => {
    if (!haystacks.has(video)) {
      const parts = [video.id, video.source, nameOf(video.label), video.rationale ?? ""];
      for (const answer of video.answers) parts.push(nameOf(answer[0]), answer[1]);
      haystacks.set(video, parts.join("\n").toLowerCase());
    }
    return haystacks.get(video);
  };

  const select = () => {
    const [a, b] = [reach(state.a), reach(state.b)];
    const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
    const change = CHANGES[state.change];
    found = videos.filter((video) => {
      if (state.split && video.split !== state.split) return false;
      if (state.class !== "" && video.label !== Number(state.class)) return false;
      if (state.change === "any-silent" && !video.answers.some((answer) => answer[0] < 0)) return false;
      if (state.change === "differ" && new Set(video.answers.map((answer) => answer[0])).size < 2) return false;
      if (change) {
        const [ours, theirs] = [outcome(video, a), outcome(video, b)];
        if (ours === null || (change[2] && theirs === null) || !change[0](ours, theirs)) return false;
      }
      return words.every((word) => haystack(video).includes(word));
    });
    if (SORTS[state.sort]) found.sort(SORTS[state.sort][1]);
  };

  const answerRow = (video, answer, run) => {
    const kind = outcome(video, run);
    const mark = make("span", "mark", { right: "✓", wrong: "✗", silent: "–" }[kind]);
    mark.title = { right: "right", wrong: "wrong", silent: "no answer" }[kind];
    mark.setAttribute("role", "img");
    mark.setAttribute("aria-label", mark.title);
    const said = make("span", "said", make("b", "", answer[0] < 0 ? "no answer" : labels[answer[0]]));
    const p = sure(video, run);
    if (p !== null) said.append(make("span", "p", ` ${(100 * p).toFixed(p > 0.999 || p < 0.1 ? 1 : 0)} %`));
    const raw = answer[1].trim();
    if (raw !== labels[answer[0]]) said.append(make("span", "raw", raw ? `“${raw}”` : "(empty)"));
    if (answer[2].length) {
      const top = answer[2].map(([label, value]) => `${labels[label]} ${(100 * value).toFixed(1)} %`);
      said.append(make("span", "more", `most probable: ${top.join(", ")}`));
    }
    return make("li", kind, mark, make("span", "run", runs[run].name), said);
  };

  // An arm's seeds in one row, for cards that would be too long.
  const armRow = (video, arm) => {
    const own = runs.map((_, run) => run).filter((run) => runs[run].arm === arm);
    const right = own.filter((run) => outcome(video, run) === "right").length;
    const said = new Map();
    for (const run of own) {
      const name = video.answers[run][0] < 0 ? "no answer" : labels[video.answers[run][0]];
      said.set(name, (said.get(name) ?? 0) + 1);
    }
    const most = [...said].sort((x, y) => y[1] - x[1]);
    const text = own.length > 1 ? most.map(([name, n]) => `${name} × ${n}`).join(", ") : most[0][0];
    const kind = right === own.length ? "right" : right ? "" : "wrong";
    const mark = make("span", "mark", right === own.length ? "✓" : right ? "±" : "✗");
    mark.setAttribute("role", "img");
    mark.setAttribute("aria-label", `right: ${right} of ${own.length}`);
    mark.title = `right: ${right} of ${own.length}`;
    return make("li", kind, mark, make("span", "run", arm), make("span", "said", make("b", "", text)));
  };

  const card = (video, place) => {
    const head = make("div", "head", make("h3", "", video.id));
    head.append(make("span", "target", video.split === data.scored ? "target " : "label ", make("b", "", nameOf(video.label))));
    const body = make("div", "body", head);
    if (video.answers.length) {
      if (runs.length > MANY) body.append(make("ul", "answers brief", ...arms.map((arm) => armRow(video, arm))));
      body.append(make("ul", "answers", ...video.answers.map((answer, run) => answerRow(video, answer, run))));
    }
    if (video.rationale !== null) body.append(make("p", "rationale", video.rationale));
    const seconds = video.seconds === null ? "" : ` · ${video.seconds.toFixed(1)} s`;
    body.append(make("p", "more", `${video.split} · ${video.source || "source not known"}${seconds}`));
    let picture = make("p", "blank", "no frames");
    if (video.strip) {
      picture = make("img");
      picture.src = `data:image/jpeg;base64,${video.strip}`;
      picture.alt = `frames of ${video.id}, in order`;
    }
    const article = make("article", "clip", picture, body);
    article.tabIndex = -1;
    article.setAttribute("role", "listitem");
    article.dataset.place = String(place);
    article.setAttribute("aria-label", `${video.id}, ${nameOf(video.label)}`);
    return article;
  };

  const pages = () => Math.max(1, Math.ceil(found.length / PAGE));
  const draw = () => {
    page = Math.min(Math.max(page, 0), pages() - 1);
    cursor = -1;
    const from = page * PAGE;
    const shown = found.slice(from, from + PAGE);
    list.replaceChildren(...shown.map((video, place) => card(video, place)));
    if (!shown.length) list.append(make("p", "empty", "No clip is like that. Clear some filters."));
    const all = videos.filter((video) => !state.split || video.split === state.split).length;
    by("count").textContent = `${found.length} of ${all} ${state.split || "all"} clips`;
    for (const where of document.querySelectorAll(".where")) {
      where.textContent = shown.length ? `${from + 1} to ${from + shown.length}` : "";
    }
    for (const button of document.querySelectorAll(".prev")) button.disabled = page === 0;
    for (const button of document.querySelectorAll(".next")) button.disabled = page >= pages() - 1;
  };
  const update = () => {
    select();
    page = 0;
    draw();
  };

  const options = (id, pairs) => {
    by(id).replaceChildren(
      ...pairs.map(([value, text]) => Object.assign(make("option", "", text), { value })),
    );
    by(id).value = state[id];
  };
  const fill = () => {
    const names = { a: runs[reach(state.a)]?.name ?? "", b: runs[reach(state.b)]?.name ?? "" };
    const text = (template) => template.replace(/\{(.)\}/g, (_, key) => names[key]);
    const numbered = runs.map((run, place) => [String(place), run.name]);
    options("split", [...splits.map((split) => [split, split]), ["", "all"]]);
    options("class", [["", "all"], ...labels.map((label, place) => [String(place), label])]);
    options("a", numbered);
    options("b", numbered.filter(([place]) => place !== state.a));
    const changes = Object.entries(CHANGES).filter(([, change]) => runs.length > 1 || !change[2]);
    const further = runs.length > 1 ? [["any-silent", "no answer from any"], ["differ", "answers differ"]] : [];
    options("change", [["", "all"], ...changes.map(([key, change]) => [key, text(change[1])]), ...further]);
    const measured = videos.some((video) => video.answers.some((answer) => answer[2].length));
    const sorts = Object.entries(SORTS).filter(([key]) => measured || !key.endsWith("sure"));
    options("sort", [["", "as in the split"], ...sorts.map(([key, [title]]) => [key, title])]);
    by("b-field").hidden = runs.length < 2;
    const long = runs.some((run) => run.name.length > 14);
    for (const id of ["a", "b"]) by(id).parentElement.classList.toggle("wide", long);
    by("q").value = state.q;
  };
  const set = (changes) => {
    Object.assign(state, changes);
    if (state.a === state.b || (state.b === "" && runs.length > 1)) {
      // Of the models before it, else after it, the nearest one with the same seed.
      const order = runs.map((_, place) => place).filter((place) => String(place) !== state.a);
      const a = Number(state.a);
      const cost = (place) => Math.abs(a - place) + (place > a ? runs.length : 0) + (runs[place].arm === runs[a].arm ? 99 : 0)
        + (runs[place].seed === runs[a].seed ? 0 : 9);
      state.b = String(order.sort((x, y) => cost(x) - cost(y))[0]);
    }
    fill();
    update();
  };

  const go = (step) => {
    const before = page;
    page += step;
    draw();
    if (page !== before) by("tools").scrollIntoView({ block: "start" });
  };
  const focus = (place) => {
    const cards = list.querySelectorAll(".clip");
    if (!cards.length) return;
    if (place >= cards.length && page < pages() - 1) {
      page += 1;
      draw();
      return focus(0);
    }
    if (place < 0 && page > 0) {
      page -= 1;
      draw();
      return focus(PAGE - 1);
    }
    cursor = Math.min(Math.max(place, 0), cards.length - 1);
    const target = list.querySelectorAll(".clip")[cursor];
    target.focus({ preventScroll: true });
    target.scrollIntoView({ block: "nearest" });
  };
  const toggle = (article) => article && article.classList.toggle("open");

  const keys = {
    j: () => focus(cursor + 1),
    k: () => focus(cursor < 0 ? 0 : cursor - 1),
    n: () => go(1),
    p: () => go(-1),
    "/": () => by("q").focus(),
    f: () => set({ change: runs.length > 1 ? "fixed" : "right", split: data.scored }),
    b: () => set({ change: runs.length > 1 ? "broken" : "wrong", split: data.scored }),
    u: () => set({ change: "silent", split: data.scored }),
    c: () => set({ ...PLAIN }),
    "?": () => by("keys").showModal(),
  };
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, select, textarea, dialog");
    if (event.key === "Escape" && typing && typing.tagName !== "DIALOG") return event.target.blur();
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Enter" && event.target.matches(".clip")) return toggle(event.target);
    const act = keys[event.key];
    if (act) {
      event.preventDefault();
      act();
    }
  });
  list.addEventListener("click", (event) => {
    const article = event.target.closest(".clip");
    if (!article || String(window.getSelection())) return; // somebody selects text
    toggle(article);
    cursor = Number(article.dataset.place);
  });
  by("tools").addEventListener("submit", (event) => event.preventDefault());
  for (const id of ["split", "class", "a", "b", "change", "sort"]) {
    by(id).addEventListener("change", () => set({ [id]: by(id).value }));
  }
  by("q").addEventListener("input", () => {
    state.q = by("q").value;
    update();
  });
  by("clear").addEventListener("click", keys.c);
  by("help").addEventListener("click", keys["?"]);
  for (const button of document.querySelectorAll(".prev")) button.addEventListener("click", () => go(-1));
  for (const button of document.querySelectorAll(".next")) button.addEventListener("click", () => go(1));
  for (const button of document.querySelectorAll(".show")) {
    button.addEventListener("click", () => {
      const { change, arm, seed, against, againstSeed } = button.dataset;
      const place = (name, number) => String(runs.findIndex((run) => run.arm === name && run.seed === Number(number)));
      if (change) set({ ...PLAIN, change, a: place(arm, seed), b: place(against, againstSeed) });
      else set({ ...PLAIN, class: button.dataset.class });
      by("clips").scrollIntoView();
    });
  }
  by("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
  addEventListener("beforeprint", () => {
    for (const one of document.querySelectorAll(".comparison details")) one.open = true;
  });
  state = { ...PLAIN };
  set({});
})();
