// The page's work: the key, questions and answers, documents. It talks to the server that it came from only.

import { GRADES, badge, checked, cited, make, moment, size, sourceItem } from "./view.js";

const KEY = "banip-key";
const PARTS = { chat: "대화 모델", embed: "임베딩", documents: "문서 저장소", users: "접속 키" };
const $ = (id) => document.getElementById(id);
const state = { me: null, model: null, turns: 0, asking: null };

class Refused extends Error {
  constructor(status, error) {
    super(error?.message ?? `서버가 요청을 처리하지 못했습니다 (${status}).`);
    this.status = status;
    this.details = error?.details;
  }
}

async function call(path, options = {}) {
  const headers = { "Accept-Language": "ko", ...options.headers };
  const key = sessionStorage.getItem(KEY);
  if (key) headers.Authorization = `Bearer ${key}`;
  let answer;
  try {
    answer = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, { message: "서버에 연결할 수 없습니다." });
  }
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  if (answer.status === 401 && state.me) leave("접속 키가 더 이상 유효하지 않습니다.");
  throw new Refused(answer.status, body.error);
}

const send = (path, value, more = {}) => call(path, {
  method: "POST", body: JSON.stringify(value), ...more, headers: { "Content-Type": "application/json" },
});

// --- Coming in and going out ------------------------------------------------------------------------------

async function enter() {
  state.me = await (await call("/v1/me")).json();
  state.model = (await (await call("/v1/models")).json()).data[0];
  $("me").replaceChildren(make("span", { class: "my-name" }, state.me.name), badge(state.me.grade));
  $("demo").hidden = !state.model.banip.demo;
  const admin = state.me.role === "admin";
  $("upload").hidden = $("action").hidden = !admin;
  const order = ["O", "S", "C"];
  const grades = order.slice(0, order.indexOf(state.me.grade) + 1).reverse();
  $("grade").replaceChildren(...grades.map((grade) => make("option", { value: grade }, `${grade} ${GRADES[grade]}`)));
  for (const id of ["views", "me", "leave"]) $(id).hidden = false;
  show("chat");
}

function leave(words = "") {
  state.asking?.abort();
  sessionStorage.removeItem(KEY);
  state.me = null;
  for (const id of ["views", "me", "leave"]) $(id).hidden = true;
  for (const id of ["turns", "rows", "uploads"]) $(id).replaceChildren();
  $("empty").hidden = false;
  show("login");
  $("login-error").textContent = words;
}

function show(view) {
  for (const id of ["login", "chat", "documents"]) $(id).hidden = id !== view;
  for (const button of $("views").children) {
    if (button.dataset.view === view) button.setAttribute("aria-current", "page");
    else button.removeAttribute("aria-current");
  }
  if (view === "login") $("key").focus();
  if (view === "chat") $("question").focus();
  if (view === "documents") list();
}

$("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  $("login-error").textContent = "";
  sessionStorage.setItem(KEY, $("key").value.trim());
  try {
    await enter();
    $("key").value = "";
  } catch (error) {
    sessionStorage.removeItem(KEY);
    state.me = null;
    $("login-error").textContent = error.status === 401 ? "접속 키가 맞지 않습니다." : error.message;
    $("key").select();
  }
});
$("leave").addEventListener("click", () => leave());
$("views").addEventListener("click", (event) => event.target.dataset.view && show(event.target.dataset.view));

// --- Questions and answers --------------------------------------------------------------------------------

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const question = $("question").value.trim();
  if (!question || state.asking) return;
  $("question").value = "";
  grow();
  ask(question);
});
$("question").addEventListener("keydown", (event) => {
  // isComposing: Enter that only ends a Hangul syllable must not send.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("ask").requestSubmit();
});
$("question").addEventListener("input", grow);
$("stop").addEventListener("click", () => state.asking?.abort());

function grow() {
  $("question").rows = Math.min(6, $("question").value.split("\n").length);
}

function newTurn(question) {
  const number = (state.turns += 1);
  const words = make("div", { class: "words", "aria-busy": "true" });
  const after = make("div", { class: "after" });
  const sources = make("ol", { class: "source-list" });
  const note = make("p", { class: "hint" }, "근거를 찾는 중입니다.");
  const article = make("article", { class: "turn", "aria-label": `질문 ${number}` },
    make("h2", { class: "question" }, question),
    make("div", { class: "answer card" }, words, after),
    make("aside", { class: "sources card", "aria-label": "근거" }, make("h3", {}, "근거"), note, sources));
  $("turns").append(article);
  const anchor = (source) => `s${number}-${source}`;
  return { article, words, after, sources, note, anchor, id: null, text: "", known: new Set(), citations: null };
}

async function ask(question) {
  $("empty").hidden = true;
  const turn = newTurn(question);
  busy(new AbortController());
  turn.article.scrollIntoView({ block: "start" });
  try {
    const body = { messages: [{ role: "user", content: question }], stream: true, model: state.model.id };
    const answer = await send("/v1/chat/completions", body, { signal: state.asking.signal });
    for await (const event of events(answer.body)) take(turn, event);
    if (!turn.citations) throw new Refused(0, { message: "답변이 도중에 끊겼습니다." });
    finish(turn);
  } catch (error) {
    const words = error.name === "AbortError" ? "답변을 멈췄습니다." : error.message;
    if (!turn.known.size) turn.note.textContent = "";
    turn.after.append(make("p", { class: "error", role: "alert" }, words));
  } finally {
    turn.words.setAttribute("aria-busy", "false");
    busy(null);
  }
}

function busy(asking) {
  state.asking = asking;
  $("send").hidden = Boolean(asking);
  $("stop").hidden = !asking;
  $("progress").textContent = asking ? "답변을 만들고 있습니다." : "답변이 끝났습니다.";
  if (!asking) $("question").focus({ preventScroll: true });
}

async function* events(stream) {
  const decoder = new TextDecoder();
  const reader = stream.getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += decoder.decode(value, { stream: true });
    const parts = rest.split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const data = part.replace(/^data: ?/, "");
      if (data === "[DONE]") return;
      yield JSON.parse(data);
    }
  }
}

function take(turn, event) {
  if (event.error) throw new Refused(502, event.error);
  turn.id = event.id;
  const piece = event.choices?.[0]?.delta?.content;
  if (event.banip && !turn.known.size) {
    turn.known = new Set(event.banip.sources.map((source) => source.number));
    turn.sources.replaceChildren(...event.banip.sources.map((source) => sourceItem(source, turn.anchor(source.number))));
    turn.note.textContent = turn.known.size ? "검색 순위 순서입니다." : "찾은 근거가 없습니다.";
  }
  if (event.banip?.citations) {
    turn.citations = event.banip.citations;
    mark(turn, event.banip.sources);
  }
  if (piece) {
    turn.text += piece;
    turn.words.replaceChildren(...cited(turn.text, turn.known, turn.anchor));
  }
}

function mark(turn, sources) {
  for (const source of sources.filter((each) => each.cited)) {
    $(turn.anchor(source.number))?.querySelector(".what").append(make("span", { class: "mark" }, "답에서 인용"));
  }
}

function finish(turn) {
  if (!turn.text.trim()) turn.words.replaceChildren(make("span", { class: "hint" }, "모델이 빈 답을 돌려주었습니다."));
  if (turn.known.size) turn.after.append(checked(turn.citations));
  turn.after.append(opinionForm(turn));
}

// A citation opens its source and leads the eye to it.
$("turns").addEventListener("click", (event) => {
  const link = event.target.closest("a.cite");
  if (!link) return;
  event.preventDefault();
  const item = $(link.getAttribute("href").slice(1));
  item.querySelector("details").open = true;
  item.querySelector("summary").focus({ preventScroll: true });
  item.scrollIntoView({ block: "nearest" });
  for (const other of document.querySelectorAll(".source-list .shown")) other.classList.remove("shown");
  item.classList.add("shown");
});

function opinionForm(turn) {
  const form = make("form", { class: "opinion" });
  const comment = make("textarea", { rows: "2", maxlength: "2000", "aria-label": "의견 (선택)", placeholder: "의견이 있으면 적어 주십시오. (선택)" });
  const more = make("div", { class: "more", hidden: true }, comment, make("button", { type: "submit" }, "의견 보내기"));
  const note = make("p", { class: "hint", role: "status" });
  let verdict = null;
  const choose = (value) => (event) => {
    verdict = value;
    for (const button of form.querySelectorAll("[aria-pressed]")) button.setAttribute("aria-pressed", button === event.currentTarget);
    more.hidden = false;
    comment.focus();
  };
  const button = (value, words) => make("button", { type: "button", class: "verdict", "aria-pressed": "false", onclick: choose(value) }, words);
  form.append(make("div", { class: "verdicts", role: "group", "aria-label": "이 답 평가" },
    button("good", "도움이 되었음"), button("bad", "잘못되었음")), more, note);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await send("/v1/feedback", { id: turn.id, verdict, comment: comment.value });
      form.replaceChildren(make("p", { class: "hint", role: "status" }, "의견을 저장했습니다. 고맙습니다."));
    } catch (error) {
      note.textContent = error.message;
    }
  });
  return form;
}

// --- Documents --------------------------------------------------------------------------------------------

async function list() {
  try {
    const { documents } = await (await call("/v1/documents")).json();
    $("documents-note").textContent = documents.length ? `열람할 수 있는 문서 ${documents.length}개` : "열람할 수 있는 문서가 없습니다.";
    $("rows").replaceChildren(...documents.map(row));
  } catch (error) {
    $("documents-note").textContent = error.message;
  }
}

function row(record) {
  const remove = state.me.role === "admin" ? make("td", { class: "last" }, make("button", {
    type: "button", class: "quiet danger", "aria-label": `${record.name} 삭제`, onclick: () => drop(record),
  }, "삭제")) : null;
  return make("tr", {},
    make("th", { scope: "row" }, record.name), make("td", { class: "graded" }, badge(record.grade)),
    make("td", { class: "number", "data-label": "구절" }, String(record.passages)), make("td", { class: "number" }, size(record.size_bytes)),
    make("td", { class: "when" }, moment(record.ingested_at)), remove);
}

async function drop(record) {
  if (!window.confirm(`'${record.name}' 문서를 삭제합니까? 되돌릴 수 없습니다.`)) return;
  try {
    await call(`/v1/documents/${record.document}`, { method: "DELETE" });
  } catch (error) {
    window.alert(error.message);
  }
  await list();
}

$("upload").addEventListener("submit", async (event) => {
  event.preventDefault();
  const submit = $("upload").querySelector("[type=submit]");
  submit.disabled = true;
  for (const file of $("files").files) await take_in(file, $("grade").value);
  submit.disabled = false;
  $("files").value = "";
  await list();
});

async function take_in(file, grade) {
  const told = make("span", { class: "hint" }, "처리 중");
  const item = make("li", {}, make("span", { class: "name" }, file.name), told);
  $("uploads").prepend(item);
  const form = new FormData();
  form.append("file", file);
  form.append("grade", grade);
  try {
    const done = await (await call("/v1/documents", { method: "POST", body: form })).json();
    told.textContent = done.already ? "이미 등록된 문서입니다" : `등록됨, 구절 ${done.passages}개`;
    item.className = "good";
  } catch (error) {
    told.textContent = [error.message, error.details].filter(Boolean).join(" ");
    item.className = "bad";
  }
}

// --- Health -----------------------------------------------------------------------------------------------

async function health() {
  const place = $("health");
  try {
    const told = await (await fetch("/health", { cache: "no-store" })).json();
    const unfit = Object.keys(told.unfit ?? {}).map((part) => PARTS[part] ?? part);
    place.textContent = told.status === "ok" ? "정상" : `이상: ${unfit.join(", ")}`;
    place.dataset.state = told.status;
    place.title = told.release;
  } catch {
    place.textContent = "서버 응답 없음";
    place.dataset.state = "unfit";
  }
}

health();
setInterval(health, 30_000);
if (sessionStorage.getItem(KEY)) enter().catch((error) => leave(error.status === 401 ? "" : error.message));
else $("key").focus();
