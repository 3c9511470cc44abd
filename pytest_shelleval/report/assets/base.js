// Foreign text only ever reaches the page as text nodes: nothing here writes HTML.
const $ = (selector, root = document) => root.querySelector(selector);

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

// a bar as wide as share, 0 to 1
function bar(share) {
  const svg = (tag, attributes) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  };
  const root = svg("svg", { class: "bar", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" });
  root.append(svg("rect", { class: "track", width: 100, height: 10 }), svg("rect", { class: "fill", width: Math.max(100 * share, 0.4), height: 10 }));
  return root;
}

// what acts or hides: controls but newline and tab, direction marks, no width, half surrogates
const HIDDEN =
  /[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]|\p{Surrogate}/gu;

function written(character) {
  const code = character.codePointAt(0);
  const hex = code.toString(16);
  if (code < 0x100) return "\\x" + hex.padStart(2, "0");
  return code > 0xffff ? "\\U" + hex.padStart(8, "0") : "\\u" + hex.padStart(4, "0");
}

// text as nodes: what hides is written out and marked
function shown(text) {
  const nodes = [];
  let end = 0;
  for (const match of text.matchAll(HIDDEN)) {
    if (match.index > end) nodes.push(text.slice(end, match.index));
    nodes.push(el("span", { class: "ctl" }, written(match[0])));
    end = match.index + match[0].length;
  }
  nodes.push(text.slice(end));
  return nodes;
}

const plain = (text) => text.replace(HIDDEN, written);

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 0.9995) return Math.round(seconds * 1000) + " ms";
  if (seconds < 59.95) return seconds.toFixed(1) + " s";
  return Math.floor(Math.round(seconds) / 60) + " min " + (Math.round(seconds) % 60) + " s";
}

const DATA = JSON.parse($("#index").textContent);
const COLUMN = DATA.columns;
const NAMES = DATA.names;
const COUNT = COLUMN.id.length;
const STATUS = ["passed", "failed", "error"];
const GLYPH = ["✓", "✗", "!"];
const CHUNKS = new Map();

// the records of one chunk: base64, deflated, JSON; kept once unpacked
function chunk(number) {
  if (!CHUNKS.has(number)) {
    CHUNKS.set(number, (async () => {
      const bytes = Uint8Array.from(atob($("#chunk-" + number).textContent), (c) => c.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
      return JSON.parse(await new Response(stream).text());
    })());
  }
  return CHUNKS.get(number);
}

async function recordOf(row) {
  const records = await chunk(Math.floor(row / DATA.perChunk));
  return records[row % DATA.perChunk];
}

// -- theme ---------------------------------------------------------------------------------------

const THEMES = ["system", "light", "dark"];

function remember(theme) {
  try {
    localStorage.setItem("shelleval-theme", theme);
  } catch {
    // a browser that keeps nothing for files: the choice lasts as long as the page
  }
}

function remembered() {
  try {
    return localStorage.getItem("shelleval-theme");
  } catch {
    return null;
  }
}

function setTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  $("#theme").textContent = "Theme: " + theme;
}

let theme = THEMES.includes(remembered()) ? remembered() : "system";
setTheme(theme);
$("#theme").addEventListener("click", () => {
  theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  setTheme(theme);
  remember(theme);
});
$("#print").addEventListener("click", () => window.print());
