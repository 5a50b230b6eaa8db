"use strict";
(() => {
  const $ = (q, e = document) => e.querySelector(q), $$ = (q, e = document) => [...e.querySelectorAll(q)];
  const store = { get: k => { try { return localStorage.getItem("clipwise-" + k); } catch { return null; } }, set: (k, v) => { try { localStorage.setItem("clipwise-" + k, v); } catch { /* private window */ } } };
  const root = document.documentElement;

  // theme
  const themes = [];
  const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const setTheme = t => { root.dataset.theme = t; themes.forEach(f => f()); };
  if (store.get("theme")) root.dataset.theme = store.get("theme");
  $("#theme").onclick = () => { const t = isDark() ? "light" : "dark"; store.set("theme", t); setTheme(t); };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => themes.forEach(f => f()));

  // language: texts are looked up with their numbers replaced by #
  const words = JSON.parse($("#words").textContent), number = /[-−+]?\d[\d.,]*(?:e-?\d+)?/g;
  const chinese = text => {
    const bare = text.trim(), numbers = bare.match(number) || [];
    let found = words[bare];
    if (found === undefined && numbers.length) { found = words[bare.replace(number, "#")]; if (found !== undefined) found = found.replace(/#/g, () => numbers.shift()); }
    const colon = bare.indexOf(": ");
    if (found === undefined && colon > 0 && words[bare.slice(0, colon)]) found = words[bare.slice(0, colon)] + "：" + bare.slice(colon + 2);
    return found === undefined ? text : text.replace(bare, () => found);
  };
  const original = new Map();
  const translate = zh => {
    root.lang = zh ? "zh" : "en";
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT, n => n.parentElement.closest("[data-keep],script,pre,style") ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT);
    for (let n; (n = walk.nextNode());) { if (!n.data.trim()) continue; if (!original.has(n)) original.set(n, n.data); n.data = zh ? chinese(original.get(n)) : original.get(n); }
    for (const e of $$("[placeholder],[aria-label]")) for (const a of ["placeholder", "aria-label"]) {
      if (!e.hasAttribute(a)) continue; const k = "o_" + a; if (e[k] === undefined) e[k] = e.getAttribute(a); e.setAttribute(a, zh ? chinese(e[k]) : e[k]);
    }
    const b = $("#language"); b.textContent = zh ? "English" : "中文"; b.lang = zh ? "en" : "zh";
  };
  $("#language").onclick = () => { const zh = root.lang !== "zh"; store.set("language", zh ? "zh" : "en"); translate(zh); };
  const wanted = store.get("language") || root.lang;
  if (wanted === "zh") translate(true);

  // charts: a crosshair that names the nearest values; arrow keys move it
  const format = (v, percent) => percent ? (v * 100).toFixed(2) + "%" : Math.abs(v) < 1e-3 && v ? v.toExponential(2) : String(+v.toPrecision(4));
  for (const figure of $$("[data-chart]")) {
    const d = JSON.parse(figure.dataset.chart), svg = $("svg", figure), tip = $(".tip", figure), cross = $(".cross", figure);
    if (!d.series.length) continue;
    const [left, top, w, h] = d.box, view = svg.viewBox.baseVal;
    const longest = d.series.reduce((a, s) => s.x.length > a.x.length ? s : a), all = longest.x;
    let place = -1;
    const nearest = (xs, x) => { let lo = 0, hi = xs.length - 1; while (hi - lo > 1) { const m = (lo + hi) >> 1; if (xs[m] < x) lo = m; else hi = m; } return Math.abs(xs[lo] - x) <= Math.abs(xs[hi] - x) ? lo : hi; };
    const show = x => {
      const px = left + (x - d.x[0]) / (d.x[1] - d.x[0]) * w;
      cross.setAttribute("x1", px); cross.setAttribute("x2", px); cross.setAttribute("y1", top); cross.setAttribute("y2", top + h); cross.style.visibility = "visible";
      const span = d.x[1] - d.x[0];
      const rows = d.series.map(s => { const i = nearest(s.x, x); return Math.abs(s.x[i] - x) > span * .12 ? "" : `<div><i class="s${s.c}"></i></div>`.replace("</i>", "</i>" + s.name.replace(/[<&]/g, c => c === "<" ? "&lt;" : "&amp;") + " " + format(s.y[i], d.percent)); });
      tip.innerHTML = `<b>${d.xLabel} ${+x.toPrecision(4)}</b>` + rows.join(""); tip.hidden = false;
      const scale = svg.clientWidth / view.width, at = px * scale;
      tip.style.top = (top + 4) * scale + "px"; tip.style.left = (at > svg.clientWidth / 2 ? at - tip.offsetWidth - 10 : at + 10) + "px";
    };
    const hide = () => { tip.hidden = true; cross.style.visibility = "hidden"; };
    figure.addEventListener("pointermove", e => { const r = svg.getBoundingClientRect(), x = d.x[0] + ((e.clientX - r.left) / r.width * view.width - left) / w * (d.x[1] - d.x[0]); if (x < d.x[0] || x > d.x[1]) return hide(); place = nearest(all, x); show(all[place]); });
    figure.addEventListener("pointerleave", hide); figure.addEventListener("blur", hide);
    figure.addEventListener("keydown", e => { const step = { ArrowLeft: -1, ArrowRight: 1 }[e.key]; if (!step) return; e.preventDefault(); place = Math.max(0, Math.min(all.length - 1, place + step)); show(all[place]); });
  }

  // lists that can be searched and sorted
  for (const box of $$(".filtered")) {
    const items = () => $$("[data-name]", box), input = $(".filter", box), sorter = $(".sorter", box);
    if (input) input.oninput = () => { const q = input.value.toLowerCase(); for (const e of items()) e.hidden = !e.dataset.name.toLowerCase().includes(q); };
    if (sorter) sorter.onchange = () => {
      const down = sorter.value[0] === "-", key = sorter.value.replace("-", ""), list = items();
      list.sort((a, b) => (down ? -1 : 1) * (key === "name" ? a.dataset.name.localeCompare(b.dataset.name) : a.dataset[key] - b.dataset[key]));
      list[0].parentElement.append(...list);
    };
  }

  // film strips
  for (const s of $$(".strip[role]")) {
    const toggle = () => s.setAttribute("aria-pressed", s.getAttribute("aria-pressed") !== "true");
    s.addEventListener("click", toggle);
    s.addEventListener("keydown", e => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); toggle(); } });
  }

  // videos with their timelines: a line in every row follows the video, a click goes there
  for (const box of $$(".timeline[data-length]")) {
    const video = $("video", box), length = +box.dataset.length;
    const heads = $$(".lane", box).map(lane => { const head = document.createElement("i"); head.className = "playhead"; lane.append(head); return head; });
    const follow = () => { for (const head of heads) head.style.left = Math.min(100, 100 * video.currentTime / length) + "%"; if (!video.paused) requestAnimationFrame(follow); };
    for (const event of ["play", "seeked", "timeupdate"]) video.addEventListener(event, follow);
    const go = seconds => { video.currentTime = seconds; follow(); };
    for (const lane of $$(".lane", box)) lane.addEventListener("click", e => { const r = lane.getBoundingClientRect(); go((e.clientX - r.left) / r.width * length); });
    for (const block of $$(".block", box)) block.addEventListener("keydown", e => { if (e.key === "Enter") go(parseFloat(block.style.left) / 100 * length); });
    follow();
  }

  // the large confusion matrix
  for (const box of $$("[data-matrix]")) {
    const d = JSON.parse($("script", box).textContent), K = d.names.length, canvas = $("canvas", box), readout = $(".readout", box), g = canvas.getContext("2d");
    const cells = []; const total = new Float64Array(K), count = new Map();
    for (let n = 0; n < d.cells.length; n += 3) { const [i, j, c] = d.cells.slice(n, n + 3); cells.push([i, j, c]); total[i] += c; count.set(i * K + j, c); }
    const orders = { list: [...Array(K).keys()], similar: d.similar, accuracy: d.accuracy };
    let order = d.similar, rank = [], zoom = 1, ox = 0, oy = 0, cursor = null, wanted = -1, size = 0;
    const setOrder = o => { order = o; rank = []; o.forEach((k, n) => rank[k] = n); };
    setOrder(order);
    const clamp = () => { const m = K - K / zoom; ox = Math.max(0, Math.min(m, ox)); oy = Math.max(0, Math.min(m, oy)); };
    const draw = () => {
      const css = getComputedStyle(root), v = n => css.getPropertyValue(n).trim(), ratio = devicePixelRatio || 1;
      size = canvas.clientWidth; canvas.width = canvas.height = Math.round(size * ratio); g.setTransform(ratio, 0, 0, ratio, 0, 0);
      g.fillStyle = v("--card"); g.fillRect(0, 0, size, size); clamp();
      const labels = size / (K / zoom) >= 11, margin = labels ? Math.min(150, size * .22) : 0, cell = (size - margin) / (K / zoom);
      box.geometry = { cell, margin };
      g.save(); g.beginPath(); g.rect(margin, margin, size, size); g.clip();
      g.fillStyle = v("--soft"); g.fillRect(margin, margin, size, size);
      const hit = v("--hit"), miss = v("--miss"), gap = cell > 8 ? 1 : 0;
      for (const [i, j, c] of cells) {
        const x = margin + (rank[j] - ox) * cell, y = margin + (rank[i] - oy) * cell;
        if (x < -cell || y < -cell || x > size || y > size) continue;
        const s = Math.sqrt(c / total[i]); g.fillStyle = `rgb(${i === j ? hit : miss} / ${i === j ? .12 + .88 * s : .22 + .78 * s})`;
        const w = Math.max(cell - gap, 1.2); g.fillRect(x, y, w, w);
        if (cell >= 20) { g.fillStyle = s > .6 ? "#fff" : v("--ink"); g.font = "11px system-ui"; g.textAlign = "center"; g.textBaseline = "middle"; g.fillText(c, x + cell / 2, y + cell / 2); }
      }
      const mark = (n, a) => { g.fillStyle = `rgb(${hit} / ${a})`; g.fillRect(margin, margin + (n - oy) * cell, size, Math.max(cell, 2)); g.fillRect(margin + (n - ox) * cell, margin, Math.max(cell, 2), size); };
      if (wanted >= 0) mark(rank[wanted], .18);
      if (cursor) { g.strokeStyle = v("--ink"); g.lineWidth = 1.5; const w = Math.max(cell, 6), e = (w - cell) / 2; g.strokeRect(margin + (cursor[1] - ox) * cell - e, margin + (cursor[0] - oy) * cell - e, w, w); }
      g.restore();
      if (labels) {
        g.fillStyle = v("--ink"); g.font = `${Math.min(12, cell)}px system-ui`; g.textBaseline = "middle";
        const cut = t => { let s = t; while (s.length > 3 && g.measureText(s).width > margin - 14) s = s.slice(0, -2); return s === t ? t : s + "…"; };
        for (let n = Math.floor(oy); n < Math.min(K, oy + K / zoom); n++) { const y = margin + (n - oy + .5) * cell; if (y < margin) continue; g.textAlign = "right"; g.fillText(cut(d.names[order[n]]), margin - 6, y); }
        for (let n = Math.floor(ox); n < Math.min(K, ox + K / zoom); n++) { const x = margin + (n - ox + .5) * cell; if (x < margin) continue; g.save(); g.translate(x, margin - 6); g.rotate(-Math.PI / 2); g.textAlign = "left"; g.fillText(cut(d.names[order[n]]), 0, 0); g.restore(); }
      }
    };
    const tell = () => {
      if (!cursor) return; const i = order[cursor[0]], j = order[cursor[1]], c = count.get(i * K + j) || 0;
      readout.dataset.keep = ""; readout.textContent = i === j ? `${d.names[i]}: ${c} / ${total[i]} ✓ (${(100 * c / Math.max(total[i], 1)).toFixed(0)}%)` : `${d.names[i]} → ${d.names[j]}: ${c} / ${total[i]} (${(100 * c / Math.max(total[i], 1)).toFixed(0)}%)`;
    };
    const at = e => { const r = canvas.getBoundingClientRect(), { cell, margin } = box.geometry, f = (p, o) => Math.floor((p - margin) / cell + o); return [f(e.clientY - r.top, oy), f(e.clientX - r.left, ox)]; };
    const zoomTo = (z, fx = .5, fy = .5) => { const old = K / zoom; zoom = Math.max(1, Math.min(K / 6, z)); const now = K / zoom; ox += (old - now) * fx; oy += (old - now) * fy; draw(); };
    canvas.addEventListener("wheel", e => { if (!e.ctrlKey && document.activeElement !== canvas) return; e.preventDefault(); const r = canvas.getBoundingClientRect(); zoomTo(zoom * (e.deltaY < 0 ? 1.25 : .8), (e.clientX - r.left) / r.width, (e.clientY - r.top) / r.height); }, { passive: false });
    let drag = null;
    canvas.addEventListener("pointerdown", e => { drag = [e.clientX, e.clientY, ox, oy]; canvas.setPointerCapture(e.pointerId); });
    canvas.addEventListener("pointerup", () => drag = null);
    canvas.addEventListener("pointermove", e => {
      if (drag) { const { cell } = box.geometry; ox = drag[2] - (e.clientX - drag[0]) / cell; oy = drag[3] - (e.clientY - drag[1]) / cell; draw(); return; }
      const p = at(e); cursor = p.every(n => n >= 0 && n < K) ? p : null; draw(); tell();
    });
    canvas.addEventListener("dblclick", e => { const r = canvas.getBoundingClientRect(); zoomTo(zoom * 2.5, (e.clientX - r.left) / r.width, (e.clientY - r.top) / r.height); });
    canvas.addEventListener("keydown", e => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[e.key];
      if (step) { e.preventDefault(); cursor = cursor ? cursor.map((n, k) => Math.max(0, Math.min(K - 1, n + step[k]))) : [Math.floor(oy), Math.floor(ox)]; const span = K / zoom; if (cursor[1] < ox) ox = cursor[1]; if (cursor[1] > ox + span - 1) ox = cursor[1] - span + 1; if (cursor[0] < oy) oy = cursor[0]; if (cursor[0] > oy + span - 1) oy = cursor[0] - span + 1; draw(); tell(); }
      if (e.key === "+" || e.key === "=") zoomTo(zoom * 1.4); if (e.key === "-") zoomTo(zoom / 1.4); if (e.key === "0") zoomTo(1);
    });
    for (const b of $$("[data-zoom]", box)) b.onclick = () => zoomTo({ "-1": zoom / 1.6, 0: 1, 1: zoom * 1.6 }[b.dataset.zoom]);
    $(".order", box).onchange = e => { setOrder(orders[e.target.value]); draw(); };
    $(".find", box).onchange = e => { wanted = d.names.indexOf(e.target.value); if (wanted >= 0) { zoom = Math.max(zoom, K / 24); ox = oy = rank[wanted] - K / zoom / 2; } draw(); };
    themes.push(draw); new ResizeObserver(draw).observe(canvas);
  }
})();
