// A chat with the server of this page, using only its public API.

import { keep, kept } from "/kept.js";
import { render } from "/markdown.js";
import { drawMarks, findMarks } from "/marks.js";

const $ = (id) => document.getElementById(id);
const CHAT = "/v1/chat/completions";
const EXAMPLES = [
  { title: "Describe a picture", files: ["single.png"], text: "Describe the picture." },
  { title: "Look at two pictures", files: ["pair-1.png", "pair-2.png"], text: "What do the pictures show?" },
  { title: "Watch a clip", files: ["clip.mp4"], text: "What happens in the video?" },
];

const talk = []; // {role, text, media: [{kind, url, type}]}
let media = []; // of the question being written
let model = "";
let coordinates = "unit"; // how the model writes boxes and points
let running = null; // AbortController of the answer being written
let numbers = 0;

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// Building requests.

function options() {
  const form = new FormData($("settings"));
  const number = (name) => (form.get(name) === "" ? undefined : Number(form.get(name)));
  return {
    temperature: number("temperature"), top_p: number("top_p"), seed: number("seed"),
    max_tokens: number("max_tokens"), keep: number("keep") < 1 ? number("keep") : undefined,
  };
}

function part(medium) {
  const form = new FormData($("settings"));
  if (medium.kind === "image") {
    return { type: "image_url", image_url: { url: medium.url, detail: form.get("detail") } };
  }
  const fps = form.get("fps") ? { fps: Number(form.get("fps")) } : {};
  return { type: "video_url", video_url: { url: medium.url }, num_frames: Number(form.get("num_frames")), ...fps };
}

function messageOf(turn) {
  if (turn.role === "assistant") return { role: "assistant", content: turn.text };
  const words = turn.text ? [{ type: "text", text: turn.text }] : [];
  return { role: "user", content: [...turn.media.map(part), ...words] };
}

function request(turns) {
  const system = new FormData($("settings")).get("system").trim();
  const first = system ? [{ role: "system", content: system }] : [];
  return { model, messages: [...first, ...turns.map(messageOf)], ...options() };
}

async function post(path, body, signal) {
  const answer = await fetch(path, {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), signal,
  });
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

async function refusal(answer) {
  const told = await answer.json().catch(() => null);
  const error = new Error(told?.error?.message ?? `the server responded with ${answer.status}`);
  error.param = told?.error?.param ?? "";
  return error;
}

// Images and videos of the question.

async function add(files) {
  for (const file of files) {
    const kind = file.type.startsWith("image/") ? "image" : "video";
    media.push({ kind, url: await dataUrl(file), type: file.type, name: file.name, number: numbers++ });
  }
  drawMedia();
}

function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

function picture(medium, className = "") {
  if (medium.kind === "image") return element("img", { src: medium.url, alt: medium.name ?? "image", className });
  return element("video", { src: medium.url, muted: true, loop: true, controls: !className, playsInline: true, className });
}

function drawMedia() {
  $("media").replaceChildren(...media.map((medium, place) => {
    const button = (label, text, act) => element("button", { type: "button", title: label, ariaLabel: `${label}: ${medium.name}`, textContent: text, onclick: act });
    const item = element("li", { draggable: true, className: medium.problem ? "bad" : "" },
      element("button", { type: "button", className: "look", title: "Look closer", ariaLabel: `Look closer: ${medium.name}`, onclick: () => look(medium) }, picture(medium, "thumb")),
      element("div", { className: "tools" },
        ...(place ? [button("Move forward", "‹", () => move(place, place - 1))] : []),
        button("Remove", "×", () => { media.splice(place, 1); drawMedia(); })),
      element("div", { className: "caption", textContent: medium.problem ?? medium.cost ?? medium.name, title: medium.problem ?? medium.name }));
    item.ondragstart = (event) => event.dataTransfer.setData("text/x-place", place);
    item.ondragover = (event) => { event.preventDefault(); item.classList.add("over"); };
    item.ondragleave = () => item.classList.remove("over");
    item.ondrop = (event) => {
      const from = event.dataTransfer.getData("text/x-place");
      if (from !== "") { event.preventDefault(); event.stopPropagation(); move(Number(from), place); }
    };
    return item;
  }));
  countSoon();
}

// Show a medium enlarged: a video above its sampled frames, a picture with the crops that are
// cut beside the base crop.
function look(medium) {
  const line = (side, share) => {
    const made = element("i", { className: side });
    made.style[side] = `${100 * share}%`;
    return made;
  };
  $("looked").replaceChildren(picture(medium),
    ...(medium.across ?? []).map((share) => line("left", share)),
    ...(medium.down ?? []).map((share) => line("top", share)));
  const crops = medium.across?.length || medium.down?.length ? " (one of the whole, and those between the lines)" : "";
  $("looked-caption").textContent = medium.problem ?? [medium.name, medium.cost && medium.cost + crops].filter(Boolean).join(": ");
  $("look").showModal();
  showFrames(medium);
}

// Draw the frames of a video that the model sees; if the browser cannot decode them, show only their times.
async function showFrames({ url, seconds = [] }) {
  const frames = seconds.map((time) => {
    const told = `${time.toFixed(2)} s`;
    return element("li", {}, element("canvas", { width: 0, height: 0, role: "img", ariaLabel: `Frame at ${told}` }), element("span", { textContent: told }));
  });
  $("frames").replaceChildren(...frames);
  $("frames").hidden = !frames.length;
  const video = element("video", { muted: true, preload: "auto" });
  const heard = (name) => new Promise((resolve, reject) => {
    video.addEventListener(name, resolve, { once: true });
    video.addEventListener("error", () => reject(video.error), { once: true });
  });
  try {
    const begun = heard("loadeddata");
    if (frames.length) video.src = url;
    for (const [place, item] of frames.entries()) {
      await begun;
      const sought = heard("seeked");
      video.currentTime = seconds[place] + 0.001;
      await sought;
      if (!item.isConnected) return; // another medium is being viewed
      const canvas = item.firstChild;
      [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
      canvas.getContext("2d").drawImage(video, 0, 0);
    }
  } catch { /* a format that the browser does not play: the times stay */ }
}

function move(from, to) {
  media.splice(to, 0, ...media.splice(from, 1));
  drawMedia();
}

// The token count of a question before it is sent.

let counting = 0;
const countSoon = () => { clearTimeout(counting); counting = setTimeout(count, 350); };

async function count() {
  const text = $("text").value.trim();
  if ((!text && !media.length) || running || !model) { $("cost").textContent = ""; return; }
  const asked = [...media];
  try {
    const told = await (await post("/v1/tokenize", request([...talk, { role: "user", text, media: asked }]))).json();
    const own = told.media.slice(told.media.length - asked.length);
    asked.forEach((medium, place) => {
      medium.problem = undefined;
      [medium.across, medium.down, medium.seconds] = [own[place].cuts_across, own[place].cuts_down, own[place].seconds];
      const unit = medium.kind === "image" ? "crop" : "frame";
      const dropped = own[place].dropped ? ` of ${own[place].tokens + own[place].dropped}` : "";
      medium.cost = `${own[place].tokens}${dropped} tokens · ${own[place].crops} ${unit}${own[place].crops > 1 ? "s" : ""}`;
    });
    $("cost").textContent = `${told.prompt_tokens} tokens: ${split(told)}`;
    complain();
  } catch (error) {
    $("cost").textContent = "";
    complain(error);
  }
  $("media").querySelectorAll("li").forEach((item, place) => {
    item.classList.toggle("bad", Boolean(media[place].problem));
    item.querySelector(".caption").textContent = media[place].problem ?? media[place].cost ?? media[place].name;
  });
}

function split(counts) {
  return ["text", "image", "video"].filter((kind) => counts[`${kind}_tokens`])
    .map((kind) => `${counts[`${kind}_tokens`]} ${kind}`).join(" + ");
}

// Show the problem, and mark the medium at fault.
function complain(error) {
  $("problem").hidden = !error;
  const place = error?.param?.match(/content\[(\d+)\]/)?.[1];
  const name = media[place] ? `${media[place].name}: ` : "";
  $("problem").textContent = error ? name + error.message.replace(/^messages\S* ?:? ?/, "").replace(/^[\d,]+ bytes: /, "") : "";
  if (place !== undefined && media[place]) {
    media[place].problem = "cannot be used";
    $("media").children[place]?.classList.add("bad");
  }
}

// The chat.

function draw() {
  $("welcome").hidden = talk.length > 0;
  $("talk").querySelectorAll("article").forEach((article) => article.remove());
  talk.forEach((turn, place) => $("talk").append(article(turn, place)));
  scrollTo(0, document.body.scrollHeight);
}

function article(turn, place) {
  const made = element("article", { className: turn.role });
  if (turn.media?.length) made.append(element("div", { className: "shown" }, ...turn.media.map((m) => marked(m, turn, talk[place + 1]))));
  if (turn.role === "assistant") made.append(element("div", { className: "said" }, ...render(turn.text)));
  else if (turn.text) made.append(element("p", { className: "said", textContent: turn.text }));
  const quiet = (text, act) => element("button", { type: "button", className: "quiet", textContent: text, disabled: Boolean(running), onclick: act });
  const below = element("div", { className: "below" });
  if (turn.role === "user") {
    below.append(quiet("Edit", () => edit(place)));
  } else {
    if (place === talk.length - 1) below.append(quiet("Retry", () => { talk.pop(); answer(); }));
    below.append(quiet("Copy", () => navigator.clipboard.writeText(turn.text)));
    below.append(element("span", { className: "faint", textContent: turn.note ?? "" }));
  }
  made.append(below);
  return made;
}

// A picture of a question, with the boxes and points of its answer if it is the only one.
function marked(medium, turn, reply) {
  const alone = turn.media.length === 1 && medium.kind === "image" && reply;
  const marks = alone ? findMarks(reply.text, coordinates) : [];
  return marks.length ? drawMarks(picture(medium), marks) : picture(medium);
}

function edit(place) {
  const turn = talk[place];
  talk.length = place;
  media = turn.media.map((medium) => ({ ...medium }));
  $("text").value = turn.text;
  draw();
  drawMedia();
  grow();
  remember();
  keepTalk();
  $("text").focus();
}

async function answer() {
  const turn = { role: "assistant", text: "", note: "", unfinished: true };
  const body = { ...request(talk), stream: true, stream_options: { include_usage: true } };
  talk.push(turn);
  running = new AbortController();
  draw();
  keepTalk().then(remember); // the draft goes when its turn is kept
  const shown = $("talk").lastElementChild;
  shown.classList.add("running");
  $("send").textContent = "Stop";
  const began = performance.now();
  let first = 0;
  try {
    const stream = await post(CHAT, body, running.signal);
    for await (const event of events(stream.body)) {
      if (event.error) throw new Error(event.error.message);
      const added = event.choices[0]?.delta.content;
      if (added) {
        first ||= performance.now();
        turn.text += added;
        shown.querySelector(".said").replaceChildren(...render(turn.text));
        scrollTo(0, document.body.scrollHeight);
      }
      if (event.usage) turn.note = noteOf(event.usage, began, first);
    }
  } catch (error) {
    if (error.name !== "AbortError") refuse(error, turn);
    else turn.note = "stopped";
  }
  running = null;
  delete turn.unfinished;
  $("send").textContent = "Ask";
  draw();
  keepTalk();
  countSoon();
}

// Put a refused question back into the form, so that it can be corrected.
function refuse(error, turn) {
  if (turn.text) { turn.note = `interrupted: ${error.message}`; return; }
  talk.pop();
  edit(talk.length - 1);
  complain(error);
}

function noteOf(usage, began, first) {
  const details = usage.prompt_tokens_details;
  const now = performance.now();
  // Of few tokens, or within a moment, it would say nothing of the model.
  const measurable = usage.completion_tokens >= 10 && now - first >= 250;
  const rate = measurable ? (usage.completion_tokens - 1) / ((now - first) / 1000) : 0;
  return [
    `${split(details)} tokens in`, details.dropped_tokens ? `${details.dropped_tokens} dropped` : "",
    details.cached_tokens ? `${details.cached_tokens} cached` : "",
    `${usage.completion_tokens} out`, `first token after ${((first - began) / 1000).toFixed(2)} s`,
    rate ? `${rate.toFixed(1)} tokens/s` : "",
  ].filter(Boolean).join(" · ");
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.startsWith("data: ") ? block.slice(6) : "[DONE]";
      if (data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

function ask() {
  if (running) { running.abort(); return; }
  const text = $("text").value.trim();
  if (!text && !media.length) return;
  talk.push({ role: "user", text, media });
  media = [];
  $("text").value = "";
  complain();
  drawMedia();
  grow();
  answer();
}

// Small helpers.

function grow() {
  $("text").style.height = "auto";
  $("text").style.height = `${$("text").scrollHeight}px`;
}

async function keepTalk() {
  if (!(await keep(talk)) && talk.length) complain(new Error("this chat is too large for the browser to keep: a reload would lose it"));
}

// After a reload: what had arrived of an answer that was being written.
function restoreAnswer() {
  const turn = talk.at(-1);
  if (turn?.unfinished) {
    delete turn.unfinished;
    Object.assign(turn, { text: sessionStorage.getItem("arrived") ?? "", note: "interrupted by a reload" });
    keepTalk();
  }
  sessionStorage.removeItem("arrived");
}

const remember = () => sessionStorage.setItem("draft", $("text").value);

function showValues() {
  for (const input of $("settings").querySelectorAll("input[type=range]")) {
    input.parentElement.querySelector("output").textContent = input.value;
  }
}

async function copy(button, text) {
  await navigator.clipboard.writeText(text);
  const label = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = label; }, 1200);
}

function current() {
  const text = $("text").value.trim();
  return text || media.length ? [...talk, { role: "user", text, media }] : talk.filter((t, n) => t.role === "user" || n < talk.length - 1);
}

function asCurl() {
  const body = JSON.stringify(request(current()), null, 2).replaceAll("'", "'\\''");
  return `curl ${location.origin}${CHAT} -H 'content-type: application/json' -H "authorization: Bearer $ONEVISION_API_KEY" -d '${body}'`;
}

function asPython() {
  const body = JSON.stringify(JSON.stringify(request(current())));
  return `import json, os\nfrom openai import OpenAI\n\nclient = OpenAI(base_url="${location.origin}/v1", api_key=os.environ.get("ONEVISION_API_KEY", "none"))\nanswer = client.chat.completions.create(**json.loads(${body}))\nprint(answer.choices[0].message.content)\n`;
}

function download() {
  const body = JSON.stringify(request(talk), null, 2);
  const link = element("a", { href: URL.createObjectURL(new Blob([body])), download: "talk.json" });
  link.click();
  URL.revokeObjectURL(link.href);
}

function drawExamples() {
  $("examples").replaceChildren(...EXAMPLES.map(({ title, files, text }) => {
    const shown = files.map((name) => picture({ kind: name.endsWith("mp4") ? "video" : "image", url: `/examples/${name}`, name }, "thumb"));
    return element("button", { type: "button", onclick: () => tryExample(files, text) },
      element("span", { className: "pictures" }, ...shown), element("span", { textContent: title }));
  }));
}

async function tryExample(files, text) {
  const blobs = await Promise.all(files.map(async (name) => {
    const blob = await (await fetch(`/examples/${name}`)).blob();
    return new File([blob], name, { type: blob.type });
  }));
  media = [];
  await add(blobs);
  $("text").value = text;
  ask();
}

async function begin() {
  drawExamples();
  showValues();
  $("text").value = sessionStorage.getItem("draft") ?? "";
  grow();
  const card = (await (await fetch("/v1/models")).json()).data[0];
  coordinates = card.coordinates;
  talk.push(...await kept());
  restoreAnswer();
  if (talk.length) draw();
  model = card.id;
  const window = element("span", { id: "window", textContent: ` · ${card.max_model_len.toLocaleString("en")} tokens` });
  $("model").replaceChildren(card.id, window);
  $("settings").elements.num_frames.max = card.limits.frames;
  $("settings").elements.max_tokens.max = card.limits.tokens;
  $("settings").elements.temperature.value = card.temperature;
  showValues();
  countSoon();
}

$("ask").onsubmit = (event) => { event.preventDefault(); ask(); };
$("text").oninput = () => { grow(); remember(); countSoon(); };
$("text").onkeydown = (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); if (!running) ask(); }
};
$("add").onclick = () => $("files").click();
$("files").onchange = async () => { await add($("files").files); $("files").value = ""; };
$("clear").onclick = () => { running?.abort(); talk.length = 0; media = []; draw(); drawMedia(); complain(); keepTalk(); };
$("open-settings").onclick = () => {
  $("settings").hidden = !$("settings").hidden;
  $("open-settings").ariaExpanded = String(!$("settings").hidden);
};
$("settings").oninput = () => { showValues(); countSoon(); };
$("settings").onsubmit = (event) => event.preventDefault();
$("copy-curl").onclick = () => copy($("copy-curl"), asCurl());
$("copy-python").onclick = () => copy($("copy-python"), asPython());
$("download").onclick = download;
$("close-look").onclick = () => $("look").close();
onpagehide = () => { if (running) sessionStorage.setItem("arrived", talk.at(-1).text); };
document.onpaste = (event) => { if (event.clipboardData.files.length) { event.preventDefault(); add(event.clipboardData.files); } };
document.ondragover = (event) => { event.preventDefault(); document.body.classList.toggle("dropping", event.dataTransfer.types.includes("Files")); };
document.ondragleave = (event) => { if (!event.relatedTarget) document.body.classList.remove("dropping"); };
document.ondrop = (event) => { event.preventDefault(); document.body.classList.remove("dropping"); add(event.dataTransfer.files); };
document.onkeydown = (event) => { if (event.key === "Escape") running?.abort(); };
begin();
