"use strict";
// Draws a graph of nodes within nested modules. What is folded is one box; layers are longest paths, so that laying out
// costs what is visible. Names of a model are only ever set as text.
(() => {
  const all = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const svg = byId("drawing"), detail = byId("detail"), hits = byId("hits");
  const SVG = "http://www.w3.org/2000/svg", W = 168, H = 34, GAPX = 20, GAPY = 26, FIRST = 48;
  let title = Object.keys(all)[0], open = new Set(), view = { x: 0, y: 0, k: 1 }, boxes = [], chosen = null;
  const make = (name, attributes, parent, text) => {
    const e = document.createElementNS(SVG, name);
    for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
    if (text !== undefined) e.textContent = text;
    if (parent) parent.append(e);
    return e;
  };
  const add = (name, parent, text) => { const e = document.createElement(name); if (text !== undefined) e.textContent = text; parent.append(e); return e; };

  // ---- modules ----
  const trees = {};
  function treeOf(name) {
    if (trees[name]) return trees[name];
    const root = { path: "", parts: new Map(), count: 0, parent: null }, paths = new Map([["", root]]);
    all[name].nodes.forEach((node, i) => {
      node.id = i;
      let at = root, path = "";
      for (const part of node.module ? node.module.split(".") : []) {
        path = path ? path + "." + part : part;
        if (!at.parts.has(part)) { const made = { path, parts: new Map(), count: 0, parent: at }; at.parts.set(part, made); paths.set(path, made); }
        at = at.parts.get(part);
      }
      node.home = at;
      for (let m = at; m; m = m.parent) m.count++;
    });
    return (trees[name] = { root, paths });
  }
  // The module that stands for a node: the outermost that is not open, none where all are.
  function standIn(node) {
    let found = null;
    for (let m = node.home; m && m.path; m = m.parent) if (!open.has(m.path) && m.count > 1) found = m;
    return found;
  }
  function openFirst() {
    open = new Set();
    const queue = [...treeOf(title).root.parts.values()];
    let shown = queue.length + all[title].nodes.filter((n) => !n.module).length;
    while (queue.length) {
      const m = queue.shift();
      const inside = m.parts.size + (m.count - [...m.parts.values()].reduce((s, c) => s + c.count, 0));
      if (shown + inside - 1 > FIRST && m.parent.parts.size !== 1) continue;
      shown += inside - 1; open.add(m.path); queue.push(...m.parts.values());
    }
  }

  // ---- layout ----
  function lay() {
    const nodes = all[title].nodes, of = new Map(), where = [];
    boxes = [];
    nodes.forEach((node) => {
      const m = standIn(node), key = m ? "m:" + m.path : "n:" + node.id;
      let box = of.get(key);
      if (!box) { box = { key, module: m, node: m ? null : node, members: [], from: new Set(), layer: 0 }; of.set(key, box); box.order = boxes.length; boxes.push(box); }
      box.members.push(node); where.push(box);
    });
    nodes.forEach((node, i) => node.from.forEach((f) => { if (where[f] !== where[i]) where[i].from.add(where[f]); }));
    const layers = [];
    for (const box of boxes) { // in order of the program; what comes back into a folded module is drawn, not counted
      for (const f of box.from) if (f.order < box.order) box.layer = Math.max(box.layer, f.layer + 1);
      (layers[box.layer] ||= []).push(box);
    }
    layers.forEach((layer, row) => {
      layer.forEach((box) => { const xs = [...box.from].filter((f) => f.order < box.order).map((f) => f.x); box.wish = xs.length ? xs.reduce((a, b) => a + b) / xs.length : 0; });
      layer.sort((a, b) => a.wish - b.wish);
      const middle = layer.reduce((s, b) => s + b.wish, 0) / layer.length, width = layer.length * (W + GAPX);
      layer.forEach((box, i) => { box.x = middle - width / 2 + (i + 0.5) * (W + GAPX); box.y = row * (H + GAPY); });
    });
  }

  // ---- colours ----
  const hue = (text) => { let h = 0; for (const c of text) h = (h * 31 + c.codePointAt(0)) % 360; return h; };
  const heat = (t) => `hsl(${Math.round(215 - 205 * t)} 80% ${Math.round(86 - 22 * t)}%)`;
  function shade(box, most) {
    const by = byId("colour").value;
    if (by === "error") {
      const errors = box.members.map((n) => n.error).filter((e) => e !== undefined);
      if (!errors.length) return "hsl(0 0% 82%)";
      const worst = errors.some((e) => typeof e === "string") ? 1 : Math.max(...errors);
      return heat(worst <= 0 ? 0 : Math.min(Math.max((Math.log10(worst) + 9) / 7, 0), 1));
    }
    if (by === "work") return heat(most ? box.members.reduce((s, n) => s + (n.work || 0), 0) / most : 0);
    return box.module ? `hsl(${hue(box.module.path.split(".").pop().replace(/\d+/g, ""))} 30% 84%)` : `hsl(${hue(box.node.op)} 62% 80%)`;
  }
  const LEGENDS = { origin: "One colour for each op, paler for modules.", error: "Blue: 1e-9 or less of the value's size; red: 1e-2 or more; grey: not known.", work: "Blue: few of the operations; red: most of them." };

  // ---- drawing ----
  function label(box) {
    if (box.module) return `${box.module.path.split(".").slice(-2).join(".")} (${box.members.length})`;
    const n = box.node;
    return n.op === "input" || n.op === "output" ? `${n.op} ${n.name}` : n.op;
  }
  const short = (text) => text.length > 24 ? text.slice(0, 23) + "…" : text;
  function draw() {
    lay();
    svg.replaceChildren();
    const g = make("g", { id: "world" }, svg), most = Math.max(0, ...boxes.map((b) => b.members.reduce((s, n) => s + (n.work || 0), 0)));
    const lines = make("g", {}, g);
    for (const box of boxes) for (const f of box.from) {
      const y1 = f.y + H, y2 = box.y, bend = Math.max(18, Math.abs(y2 - y1) / 2);
      make("path", { d: `M${f.x} ${y1}C${f.x} ${y1 + bend} ${box.x} ${y2 - bend} ${box.x} ${y2}` }, lines);
    }
    for (const box of boxes) {
      const e = make("g", { class: "box" + (box.module ? " folded" : ""), tabindex: 0, role: "button", transform: `translate(${box.x - W / 2} ${box.y})` }, g);
      e.setAttribute("aria-label", label(box) + (box.module ? ", folded module" : ""));
      e.dataset.key = box.key;
      if (box.key === chosen) e.classList.add("chosen");
      make("rect", { width: W, height: H, rx: box.module ? 3 : 8, fill: shade(box, most) }, e);
      make("text", { x: W / 2, y: H / 2 + 4, "text-anchor": "middle" }, e, short(label(box)));
      make("title", {}, e, label(box) + "\n" + (box.module ? box.module.path : box.node.type));
      box.element = e;
    }
    byId("legend").textContent = LEGENDS[byId("colour").value] + (all[title].left_out ? ` ${all[title].left_out} further nodes are not drawn.` : "");
    move();
  }
  function move() { byId("world")?.setAttribute("transform", `translate(${view.x} ${view.y}) scale(${view.k})`); }
  function fit() {
    const xs = boxes.map((b) => b.x), ys = boxes.map((b) => b.y), { width, height } = svg.getBoundingClientRect();
    if (!xs.length) return;
    const left = Math.min(...xs) - W / 2, w = Math.max(...xs) + W / 2 - left, h = Math.max(...ys) + H;
    view.k = Math.min(1.1, (width - 24) / w, (height - 24) / h);
    view.x = (width - w * view.k) / 2 - left * view.k; view.y = 12; move();
  }
  function centre(box) {
    const { width, height } = svg.getBoundingClientRect();
    view.k = Math.max(view.k, 0.8); view.x = width / 2 - box.x * view.k; view.y = height / 2 - box.y * view.k; move();
  }
  function zoom(by, x, y) {
    const k = Math.min(Math.max(view.k * by, 0.02), 4), r = svg.getBoundingClientRect();
    x ??= r.width / 2; y ??= r.height / 2;
    view.x = x - (x - view.x) * (k / view.k); view.y = y - (y - view.y) * (k / view.k); view.k = k; move();
  }

  // ---- choosing, folding, finding ----
  function rows(pairs) {
    const list = document.createElement("dl");
    for (const [k, v] of pairs) if (v !== "" && v !== undefined && v !== null) { add("dt", list, k); add("dd", list, String(v)); }
    return list;
  }
  const number = (x) => typeof x === "number" ? x.toExponential(2) : x;
  function show(box) {
    chosen = box.key;
    svg.querySelectorAll(".chosen").forEach((e) => e.classList.remove("chosen"));
    box.element?.classList.add("chosen");
    detail.replaceChildren();
    const members = box.members, node = box.node;
    if (node) detail.append(rows([["op", node.op], ["name", node.name], ["type", node.type], ["module", node.module], ["from", node.origin], ["line", node.line], ["weights", (node.weights || []).join("\n")], ["operations", node.work ? number(node.work) : ""], ["error", number(node.error)]]));
    else {
      const count = {};
      members.forEach((n) => (count[n.op] = (count[n.op] || 0) + 1));
      const ops = Object.entries(count).sort((a, b) => b[1] - a[1]).slice(0, 12).map(([op, n]) => `${op} ${n}×`).join(", ");
      detail.append(rows([["module", box.module.path], ["nodes", members.length], ["ops", ops], ["operations", number(members.reduce((s, n) => s + (n.work || 0), 0))]]));
      const b = add("button", detail, "Open this module"); b.onclick = () => toggle(box.module, true);
    }
    let home = node ? node.home : box.module.parent;
    for (; home && home.path; home = home.parent) if (open.has(home.path)) { const m = home, b = add("button", detail, "Fold " + m.path); b.dataset.fold = m.path; b.onclick = () => toggle(m, false); }
  }
  function toggle(module, wanted) {
    wanted ? open.add(module.path) : open.delete(module.path);
    draw();
    const box = boxes.find((b) => wanted ? b.members.some((n) => within(n, module)) : b.module === module);
    if (box) { centre(box); show(box); box.element.focus({ preventScroll: true }); }
  }
  function within(node, module) { for (let m = node.home; m; m = m.parent) if (m === module) return true; return false; }
  function reveal(node) {
    for (let m = node.home; m && m.path; m = m.parent) open.add(m.path);
    draw();
    const box = boxes.find((b) => b.node === node);
    if (box) { centre(box); show(box); }
  }
  function find(text) {
    hits.replaceChildren();
    text = text.trim().toLowerCase();
    if (!text) return [];
    const found = all[title].nodes.filter((n) => [n.op, n.name, n.module, n.type, n.origin].some((t) => t && t.toLowerCase().includes(text)));
    hits.append(`${found.length} found `);
    for (const node of found.slice(0, 8)) { const b = add("button", hits, short(`${node.op} ${node.name || node.module}`)); b.onclick = () => reveal(node); }
    return found;
  }
  function start() { // as large as can be read, from the top; Fit shows all
    fit();
    const { width } = svg.getBoundingClientRect();
    if (view.k < 0.6 && boxes.length) { const x = boxes[0].x; view.k = 0.8; view.x = width / 2 - x * view.k; view.y = 12; move(); }
  }
  function pick(name) {
    title = name; chosen = null; treeOf(title); openFirst();
    for (const b of byId("which").children) b.setAttribute("aria-pressed", b.textContent === name);
    draw(); start();
  }

  // ---- events ----
  for (const name of Object.keys(all)) { const b = add("button", byId("which"), name); b.onclick = () => pick(name); }
  byId("colour").onchange = draw;
  byId("find").oninput = (e) => find(e.target.value);
  byId("find").onkeydown = (e) => { if (e.key === "Enter") { const found = find(e.target.value); if (found.length) reveal(found[0]); } };
  byId("fold").onclick = () => { open.clear(); draw(); fit(); };
  byId("closer").onclick = () => zoom(1.3);
  byId("further").onclick = () => zoom(1 / 1.3);
  byId("fit").onclick = fit;
  const boxOf = (target) => { const e = target.closest?.(".box"); return e && boxes.find((b) => b.element === e); };
  let drag = null, moved = 0;
  svg.onpointerdown = (e) => { drag = { x: e.clientX, y: e.clientY }; moved = 0; };
  svg.onpointermove = (e) => {
    if (!drag) return;
    const dx = e.clientX - drag.x, dy = e.clientY - drag.y;
    moved += Math.abs(dx) + Math.abs(dy); view.x += dx; view.y += dy; drag = { x: e.clientX, y: e.clientY }; move();
  };
  svg.onpointerup = svg.onpointerleave = () => { drag = null; };
  svg.onclick = (e) => { const box = boxOf(e.target); if (box && moved < 6) { if (box.module) toggle(box.module, true); else show(box); } };
  svg.addEventListener("wheel", (e) => { if (!e.ctrlKey && !e.metaKey) return; e.preventDefault(); const r = svg.getBoundingClientRect(); zoom(e.deltaY < 0 ? 1.15 : 1 / 1.15, e.clientX - r.left, e.clientY - r.top); }, { passive: false });
  svg.onkeydown = (e) => {
    const step = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[e.key];
    if (step) { view.x += step[0]; view.y += step[1]; move(); }
    else if (e.key === "+" || e.key === "=") zoom(1.3);
    else if (e.key === "-") zoom(1 / 1.3);
    else if (e.key === "Enter" || e.key === " ") { const box = boxOf(e.target); if (!box) return; if (box.module) toggle(box.module, true); else show(box); }
    else if (e.key === "Escape") { const box = boxOf(e.target), m = box && (box.node ? box.node.home : box.module.parent); if (m && m.path) toggle(m, false); }
    else return;
    e.preventDefault();
  };
  pick(title);
})();
