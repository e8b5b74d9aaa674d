// What is shown: elements are made here, always from text, never from markup.

export const GRADES = { C: "기밀", S: "민감", O: "공개" };

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

export function badge(grade) {
  return make("span", { class: `badge grade-${grade}`, title: `${GRADES[grade]} 등급` }, `${grade} ${GRADES[grade]}`);
}

// The words of an answer, its [n] turned into links to the sources. A number that no source has is marked.
export function cited(words, known, anchor) {
  return words.split(/(\[\d{1,3}(?:\s*,\s*\d{1,3})*\])/).flatMap((part, place) => {
    if (place % 2 === 0) return part ? [part] : [];
    return part.match(/\d+/g).map(Number).map((number) => (known.has(number)
      ? make("a", { class: "cite", href: `#${anchor(number)}`, "aria-label": `근거 ${number} 보기` }, String(number))
      : make("span", { class: "cite unknown", title: "이 번호의 근거는 없습니다" }, `${number}?`)));
  });
}

export function sourceItem(source, id) {
  const cut = source.given < source.text.length
    ? make("p", { class: "hint" }, `모델에는 앞 ${source.given}자만 전달되었습니다.`) : null;
  const summary = make("summary", {},
    make("span", { class: "index" }, String(source.number)),
    make("span", { class: "what" }, make("span", { class: "name" }, source.name), make("span", { class: "place" }, source.place)),
    badge(source.grade));
  return make("li", { id, "data-number": source.number },
    make("details", { open: source.number === 1 }, summary, make("blockquote", {}, source.text), cut));
}

export function checked(citations) {
  const { valid, invalid, supported } = citations;
  const lines = [];
  if (!valid.length && !invalid.length) lines.push("답에 근거 번호가 없습니다. 근거 원문을 직접 확인하십시오.");
  if (supported.length) lines.push(`근거와 표현이 맞는 번호: ${supported.join(", ")}`);
  const apart = valid.filter((number) => !supported.includes(number));
  if (apart.length) lines.push(`근거와 표현이 다른 번호: ${apart.join(", ")} — 원문을 확인하십시오.`);
  if (invalid.length) lines.push(`없는 근거를 가리킨 번호: ${invalid.join(", ")}`);
  const sound = supported.length && !apart.length && !invalid.length;
  return make("p", { class: sound ? "checked sound" : "checked doubtful" }, lines.join(" · "));
}

export function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  return bytes < 1024 ** 2 ? `${Math.round(bytes / 1024)} KB` : `${(bytes / 1024 ** 2).toFixed(1)} MB`;
}

export function moment(iso) {
  const when = new Date(iso);
  return Number.isNaN(when.getTime()) ? iso : when.toLocaleString("ko-KR", { dateStyle: "medium", timeStyle: "short" });
}
