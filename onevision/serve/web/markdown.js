// Markdown of an answer -> DOM nodes. Text becomes text nodes alone, so nothing in it is run.
//
// Read: paragraphs, # headings, - and 1. lists, | tables, ``` blocks, `code`, **bold**, *italic*, and
// links to http and https. All else is shown as it is written.

const INLINE = /`([^`\n]+)`|\*\*([^*\n]+)\*\*|\*([^*\s][^*\n]*)\*|\[([^\]\n]+)\]\((https?:\/\/[^\s()<>"']+)\)/;

function node(tag, ...children) {
  const made = document.createElement(tag);
  made.append(...children);
  return made;
}

function inline(text) {
  const found = INLINE.exec(text);
  if (!found) return [text];
  const [whole, code, bold, italic, label, url] = found;
  let made;
  if (code !== undefined) made = node("code", code);
  else if (bold !== undefined) made = node("strong", ...inline(bold));
  else if (italic !== undefined) made = node("em", ...inline(italic));
  else {
    made = node("a", label);
    made.href = url;
    made.target = "_blank";
    made.rel = "noopener noreferrer nofollow";
  }
  const rest = text.slice(found.index + whole.length);
  return [text.slice(0, found.index), made, ...inline(rest)].filter((part) => part !== "");
}

const KINDS = [[/^\s*[-*+] +(.*)/, "ul"], [/^\s*\d+[.)] +(.*)/, "ol"]];

const ROW = /^\s*\|(.*)\|\s*$/, RULE = /^\s*\|(\s*:?-+:?\s*\|)+\s*$/;

const isTable = (lines, at) => ROW.test(lines[at]) && RULE.test(lines[at + 1] ?? "");

function table(lines, at) {
  const row = (line, tag) => node("tr", ...ROW.exec(line)[1].split("|").map((cell) => node(tag, ...inline(cell.trim()))));
  let end = at + 2;
  while (end < lines.length && ROW.test(lines[end])) end++;
  return [node("table", row(lines[at], "th"), ...lines.slice(at + 2, end).map((line) => row(line, "td"))), end];
}

// A list; an indented line continues the item before it.
function list(lines, at, mark, tag) {
  const items = [];
  let end = at;
  for (; end < lines.length; end++) {
    const found = mark.exec(lines[end]);
    if (found) items.push(found[1]);
    else if (items.length && /^\s+\S/.test(lines[end]) && !begins(lines, end)) items.push(`${items.pop()} ${lines[end].trim()}`);
    else break;
  }
  return items.length ? [node(tag, ...items.map((item) => node("li", ...inline(item)))), end] : null;
}

const begins = (lines, at) => !lines[at].trim() || /^\s*```|^#{1,6} /.test(lines[at]) || isTable(lines, at)
  || KINDS.some(([mark]) => mark.test(lines[at]));

// Returns the block that begins at a line, and the line after it.
function block(lines, at) {
  const fence = /^\s*```/.test(lines[at]);
  if (fence) {
    let end = at + 1;
    while (end < lines.length && !/^\s*```\s*$/.test(lines[end])) end++;
    return [node("pre", node("code", lines.slice(at + 1, end).join("\n"))), end + 1];
  }
  const heading = /^(#{1,6}) +(.*)/.exec(lines[at]);
  if (heading) return [node("h3", ...inline(heading[2])), at + 1];
  if (isTable(lines, at)) return table(lines, at);
  for (const [mark, tag] of KINDS) {
    const made = list(lines, at, mark, tag);
    if (made) return made;
  }
  let end = at + 1;
  while (end < lines.length && !begins(lines, end)) end++;
  return [node("p", ...inline(lines.slice(at, end).join("\n"))), end];
}

export function render(text) {
  const lines = text.split("\n"), blocks = [];
  for (let at = 0; at < lines.length; ) {
    if (!lines[at].trim()) { at++; continue; }
    const [made, next] = block(lines, at);
    blocks.push(made);
    at = next;
  }
  return blocks;
}
