"use strict";
(() => {
  // ---- words -------------------------------------------------------------------------------------------------------------------

  const WORDS = {
    en: {
      skip: "Skip to the content", add: "Add video", title: "What happens in your video, and when?",
      lead: "Drop a video here. You can watch it at once; its timeline appears below as soon as the model has seen it.",
      choose: "Choose a video", known: "This model knows", more: "and {n} more", classes: "{n} classes",
      fine: "Up to {mb} MB and {time} each · MP4, WebM, MOV, MKV, AVI and others",
      whole: "Whole video", now: "Now", at: "at {time}", timeline: "Timeline", moments: "Moments", count: "{n}",
      hint: "Windows of {w} s, one every {s} s", hintLocalizer: "Segments from the localization network · windows of {w} s, one every {s} s",
      keys: "On the timeline: ← → one step, Shift ← → one second, Page Up and Page Down previous and next moment, Home and End, Space plays.",
      none: "Nothing stands out: no class stays above the threshold. The curves above show what the model leans to.",
      cancel: "Cancel", uploading: "Uploading {p} %", queued: "Waiting for its turn", running: "Looking at the video {p} %",
      noplay: "This browser cannot play this format. The timeline works all the same.",
      noplayDone: "This browser cannot play this format. Everything else works: move along the timeline below.",
      play: "Play", pause: "Pause", mute: "Mute", full: "Full screen", theme: "Colors: {t}", auto: "as the system", light: "light", dark: "dark",
      json: "Download the result as JSON", srt: "Download the segments as subtitles (SRT)",
      slider: "Position in the video", segments: "Segments", value: "{time} of {length}: {what}", nothing: "nothing yet",
      done: "Done: {name} is {what}, {n} moments.", failed: "{name} could not be analyzed: {why}", another: "Choose another video",
      privacy: "The video goes to this server only and is deleted after the analysis.", api: "API description", release: "Drop it to analyze it",
      unlike: "Unlike the videos of the training: {note}", damaged: "The file is damaged; only its readable part was analyzed.", videos: "Videos", segmentLabel: "{what}, {from} to {to}, {score}",
      minutes: "{n} min", seconds: "{n} s",
      errors: {
        not_a_video: ["This is not a video that can be read", "The file is damaged, was cut off, or is something else under a video's name."],
        unsupported_type: ["This kind of file is not taken", "Send an ordinary video file, such as MP4, WebM, MOV, MKV or AVI."],
        too_large: ["The file is too large", "Cut or compress the video and try again."],
        too_long: ["The video is too long", "Cut it into shorter parts and try again."],
        too_many_frames: ["The video has too many frames", "Cut it into shorter parts and try again."],
        too_many_pixels: ["The pictures are too large", "Scale the video down, to 1080p for instance, and try again."],
        decode_timeout: ["Reading the video took too long", "It may be damaged, or in a format that is very slow to read."],
        decode_memory: ["The video needs too much memory", "It may be damaged, or its pictures are very large."],
        decode_crash: ["The video could not be read", "The reader broke off at this file. It is probably damaged."],
        queue_full: ["The server is busy", "Many videos are waiting. Try again in a moment."],
        too_many_requests: ["Too many videos at once", "Wait until one of your videos is done."],
        timeout: ["It took too long", "The server ended the analysis. A shorter video will work."],
        too_slow: ["The upload took too long", "The connection is slow or broke off. Try again."],
        shutting_down: ["The server is shutting down", "Send the video again in a moment."],
        disk_full: ["The server has no room", "Try again a little later."],
        bad_request: ["The upload was not understood", "The file may be empty."],
        network: ["The server does not answer", "Check that it is still running, then try again."],
        other: ["Something went wrong", "The server could not do this."],
      },
    },
    zh: {
      skip: "跳到正文", add: "添加视频", title: "视频里发生了什么？什么时候发生？",
      lead: "把视频拖到这里即可播放；模型看完之后，下方会出现时间轴。",
      choose: "选择视频", known: "该模型认识", more: "等另外 {n} 类", classes: "{n} 个类别",
      fine: "单个不超过 {mb} MB、{time} · 支持 MP4、WebM、MOV、MKV、AVI 等",
      whole: "整段视频", now: "此刻", at: "{time}", timeline: "时间轴", moments: "片段", count: "{n} 个",
      hint: "窗口 {w} 秒，每 {s} 秒一个", hintLocalizer: "片段来自时序定位网络 · 窗口 {w} 秒，每 {s} 秒一个",
      keys: "在时间轴上：← → 移动一步，Shift ← → 移动一秒，Page Up / Page Down 上一个 / 下一个片段，Home / End 首尾，空格键播放。",
      none: "没有明显的片段：没有类别持续高于阈值。上方曲线显示模型的倾向。",
      cancel: "取消", uploading: "正在上传 {p} %", queued: "排队等待中", running: "正在分析 {p} %",
      noplay: "浏览器无法播放这种格式，但时间轴照常可用。",
      noplayDone: "浏览器无法播放这种格式。其他功能照常：可在下方时间轴上移动。",
      play: "播放", pause: "暂停", mute: "静音", full: "全屏", theme: "配色：{t}", auto: "跟随系统", light: "浅色", dark: "深色",
      json: "下载 JSON 结果", srt: "下载字幕（SRT）",
      slider: "视频位置", segments: "片段", value: "{time}，共 {length}：{what}", nothing: "暂无结果",
      done: "完成：{name} 是 {what}，共 {n} 个片段。", failed: "{name} 无法分析：{why}", another: "选择另一个视频",
      privacy: "视频只会发送到本服务器，分析后立即删除。", api: "接口说明", release: "松开即可分析",
      unlike: "与训练所用的视频不同：{note}", damaged: "文件已损坏，只分析了可读的部分。", videos: "视频", segmentLabel: "{what}，{from} 至 {to}，{score}",
      minutes: "{n} 分钟", seconds: "{n} 秒",
      errors: {
        not_a_video: ["无法读取这个视频", "文件已损坏、不完整，或者根本不是视频。"],
        unsupported_type: ["不支持这种文件", "请使用普通的视频文件，例如 MP4、WebM、MOV、MKV 或 AVI。"],
        too_large: ["文件太大", "请剪短或压缩后再试。"],
        too_long: ["视频太长", "请剪成较短的几段再试。"],
        too_many_frames: ["视频帧数太多", "请剪成较短的几段再试。"],
        too_many_pixels: ["画面尺寸太大", "请缩小画面（例如 1080p）后再试。"],
        decode_timeout: ["读取视频用时过长", "文件可能已损坏，或者格式读取很慢。"],
        decode_memory: ["视频需要的内存太多", "文件可能已损坏，或者画面太大。"],
        decode_crash: ["无法读取这个视频", "读取过程在这个文件上中断了，它很可能已损坏。"],
        queue_full: ["服务器正忙", "有很多视频在排队，请稍后再试。"],
        too_many_requests: ["同时提交的视频太多", "请等其中一个完成。"],
        timeout: ["用时过长", "服务器结束了这次分析，较短的视频可以完成。"],
        too_slow: ["上传用时过长", "网络太慢或已中断，请重试。"],
        shutting_down: ["服务器正在关闭", "请稍后重新提交。"],
        disk_full: ["服务器空间不足", "请稍后再试。"],
        bad_request: ["无法理解这次上传", "文件可能是空的。"],
        network: ["服务器没有回应", "请确认它仍在运行，然后重试。"],
        other: ["出了点问题", "服务器没能完成。"],
      },
    },
  };


  const ui = {};
  for (const element of document.querySelectorAll("[id]")) ui[element.id] = element;
  const video = ui.video;

  /** Storage that a browser may refuse. */
  const memory = {
    get(key) { try { return localStorage.getItem(`clipwise.${key}`); } catch { return null; } },
    set(key, value) { try { localStorage.setItem(`clipwise.${key}`, value); } catch { /* private window */ } },
  };

  let lang = memory.get("lang") || ((navigator.language || "en").toLowerCase().startsWith("zh") ? "zh" : "en");
  let theme = memory.get("theme") || "auto";
  let server = null; // GET /v1/model
  let items = []; // one for each video of this visit
  let shown = null;

  const say = (key, values = {}) => {
    const text = WORDS[lang][key];
    return text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
  };
  const percent = (score) => `${(score * 100).toFixed(score > 0.0995 || score === 0 ? 0 : 1)} %`;
  const clock = (seconds, digits = 1) => {
    const all = Math.max(0, seconds);
    const whole = Math.floor(all * 10 ** digits + 1e-6) / 10 ** digits;
    const s = (whole % 60).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
    const m = Math.floor(whole / 60);
    return m >= 60 ? `${Math.floor(m / 60)}:${String(m % 60).padStart(2, "0")}:${s}` : `${m}:${s}`;
  };
  const make = (tag, { text, cls, ...rest } = {}, ...children) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (cls) element.className = cls;
    for (const [name, value] of Object.entries(rest)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children);
    return element;
  };
  const paint = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // ---- language and colors ----------------------------------------------------------------------------------------------------

  function applyWords() {
    document.documentElement.lang = lang === "zh" ? "zh-Hans" : "en";
    for (const element of document.querySelectorAll("[data-i18n]")) element.textContent = say(element.dataset.i18n);
    for (const button of document.querySelectorAll("[data-lang]")) button.setAttribute("aria-pressed", String(button.dataset.lang === lang));
    const named = { mute: say("mute"), full: say("full"), json: say("json"), srt: say("srt"), theme: say("theme", { t: say(theme) }) };
    for (const [id, text] of Object.entries(named)) { ui[id].setAttribute("aria-label", text); ui[id].title = text; }
    ui.slider.setAttribute("aria-label", say("slider"));
    ui.segments.setAttribute("aria-label", say("segments"));
    ui.tabs.setAttribute("aria-label", say("videos"));
    ui.add.setAttribute("aria-label", say("add"));
    setPlayLabel();
    showServer();
    if (shown) showItem(shown);
  }

  function applyTheme() {
    document.documentElement.dataset.theme = theme;
    ui.theme.title = say("theme", { t: say(theme) });
    ui.theme.setAttribute("aria-label", ui.theme.title);
    if (shown) drawCanvases();
  }

  function showServer() {
    if (!server) return;
    const count = server.classes ? server.classes.length : 0;
    ui.model.hidden = false;
    ui["model-name"].textContent = server.name;
    ui["model-classes"].textContent = count ? say("classes", { n: count }) : "";
    const limit = server.limits.max_duration_s;
    const time = limit >= 120 ? say("minutes", { n: Math.floor(limit / 60) }) : say("seconds", { n: limit });
    ui.fine.textContent = say("fine", { mb: server.limits.max_upload_mb, time });
    ui.known.hidden = !count;
    const names = (server.classes || []).slice(0, 18);
    ui.classes.replaceChildren(...names.map((text) => make("li", { text })));
    if (count > names.length) ui.classes.append(make("li", { text: say("more", { n: count - names.length }) }));
  }

  // ---- uploads -----------------------------------------------------------------------------------------------------------------

  /** A refusal of the server, or of the network. */
  class Refusal extends Error {
    constructor(code, message, retry = 0) { super(message); this.code = code; this.retry = retry; }
    static from(text, status, retry) {
      try {
        const { error } = JSON.parse(text);
        return new Refusal(error.code, error.message, retry);
      } catch { return new Refusal(status ? "other" : "network", status ? `HTTP ${status}` : ""); }
    }
  }

  async function ask(path, options) {
    let answer;
    try { answer = await fetch(path, options); } catch { throw new Refusal("network", ""); }
    if (!answer.ok) throw Refusal.from(await answer.text(), answer.status);
    return answer;
  }

  const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

  /** fetch() does not tell how much of a body has been sent. */
  function send(item) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      item.request = request;
      request.open("POST", "/v1/predict?async=1&topk=5");
      request.upload.onprogress = (event) => {
        if (event.lengthComputable) { item.share = event.loaded / event.total; touch(item); }
      };
      request.onload = () => {
        if (request.status === 202) resolve(JSON.parse(request.responseText));
        else reject(Refusal.from(request.responseText, request.status, Number(request.getResponseHeader("Retry-After")) || 0));
      };
      request.onerror = () => reject(new Refusal("network", ""));
      request.onabort = () => reject(new Refusal("cancelled", ""));
      const form = new FormData();
      form.append("file", item.file, item.file.name);
      request.send(form);
    });
  }

  async function analyze(item) {
    try {
      if (server && item.file.size > server.limits.max_upload_mb * 1e6) {
        throw new Refusal("too_large", `${(item.file.size / 1e6).toFixed(0)} MB > ${server.limits.max_upload_mb} MB`);
      }
      if (!item.file.size) throw new Refusal("not_a_video", "0 bytes");
      let job;
      for (let attempt = 0; !job; attempt += 1) {
        item.state = "uploading";
        try { job = await send(item); } catch (error) {
          const busy = error.code === "queue_full" || error.code === "too_many_requests";
          if (!busy || attempt >= 5 || item.state === "cancelled") throw error;
          item.state = "queued"; touch(item);
          await pause(1000 * Math.min(error.retry || 2, 10));
        }
      }
      item.job = job.id;
      while (job.state === "queued" || job.state === "running") {
        if (item.state === "cancelled") return;
        item.state = job.state; item.share = job.progress; touch(item);
        await pause(250);
        job = await (await ask(`/v1/jobs/${item.job}`)).json();
      }
      const result = job.results[0];
      if (result.error) throw new Refusal(result.error.code, result.error.message);
      item.srt = await (await ask(`/v1/jobs/${item.job}/segments.srt`)).text();
      ask(`/v1/jobs/${item.job}`, { method: "DELETE" }).catch(() => {});
      item.result = result;
      item.state = "done";
      // Each class has one color everywhere; a localization network may name classes that the model has not.
      item.colors = new Map();
      for (const { class: name } of [...result.timeline.curves.slice(0, 6), ...result.segments, ...result.timeline.curves]) {
        if (!item.colors.has(name)) item.colors.set(name, `--c${item.colors.size % 8}`);
      }
      ui.said.textContent = say("done", { name: item.file.name, what: result.predictions[0].class, n: result.segments.length });
    } catch (error) {
      if (item.state === "cancelled" || error.code === "cancelled") return;
      if (!(error instanceof Refusal)) throw error;
      item.state = "failed";
      item.error = error;
      const words = WORDS[lang].errors[error.code] || WORDS[lang].errors.other;
      ui.said.textContent = say("failed", { name: item.file.name, why: words[0] });
    }
    showTabs();
    if (shown === item) showItem(item);
  }

  function addFiles(files) {
    const fresh = [...files].map((file) => ({ file, url: URL.createObjectURL(file), state: "uploading", share: 0, time: 0, strip: null }));
    if (!fresh.length) return;
    items.push(...fresh);
    show(fresh[0]);
    // One after the other: the server's queue is for everybody.
    fresh.reduce((before, item) => before.then(() => item.state !== "cancelled" && analyze(item)), Promise.resolve());
  }

  function cancel(item) {
    item.state = "cancelled";
    if (item.request) item.request.abort();
    if (item.job) ask(`/v1/jobs/${item.job}`, { method: "DELETE" }).catch(() => {});
    remove(item);
  }

  function remove(item) {
    items = items.filter((other) => other !== item);
    URL.revokeObjectURL(item.url);
    if (shown === item) { shown = null; items.length ? show(items[items.length - 1]) : showWelcome(); }
    showTabs();
  }

  // ---- which video -------------------------------------------------------------------------------------------------------------

  function showWelcome() {
    shown = null;
    video.removeAttribute("src");
    video.load();
    for (const id of ["work", "trouble", "tabs", "add"]) ui[id].hidden = true;
    ui.welcome.hidden = false;
  }

  function showTabs() {
    ui.tabs.hidden = items.length < 2;
    ui.tabs.replaceChildren(...items.map((item) => {
      const mood = { done: "done", failed: "failed" }[item.state] || "busy";
      return make("button", { type: "button", title: item.file.name, "aria-current": item === shown ? "true" : undefined, onclick: () => show(item) },
        make("i", { cls: mood }), make("span", { text: item.file.name }));
    }));
  }

  function show(item) {
    if (shown) shown.time = position();
    shown = item;
    item.playable = undefined;
    video.src = item.url;
    video.currentTime = item.time;
    showTabs();
    showItem(item);
  }

  function showItem(item) {
    const failed = item.state === "failed";
    ui.welcome.hidden = true;
    ui.add.hidden = false;
    ui.work.hidden = failed;
    ui.trouble.hidden = !failed;
    ui.name.textContent = item.file.name;
    if (failed) {
      const [title, text] = WORDS[lang].errors[item.error.code] || WORDS[lang].errors.other;
      ui["trouble-title"].textContent = title;
      ui["trouble-text"].textContent = text;
      ui["trouble-detail"].textContent = item.error.message;
      video.pause();
      return;
    }
    const result = item.result;
    ui.wait.hidden = Boolean(result);
    ui.unlike.hidden = !result?.note;
    ui.unlike.textContent = result?.note ? say("unlike", { note: result.note }) : "";
    ui.tracks.hidden = ui.keys.hidden = !result;
    ui.moments.parentElement.hidden = !result;
    ui.json.disabled = ui.srt.disabled = !result;
    ui.verdict.classList.toggle("empty", !result);
    showPlayable();
    if (result) {
      showVerdict(item);
      showSegments(item);
      const { window_s: w, stride_s: s } = result.timeline;
      const values = { w: Number(w.toFixed(2)), s: Number(s.toFixed(2)) };
      ui.hint.textContent = result.video.damage ? say("damaged") : say(result.segments_from === "localizer" ? "hintLocalizer" : "hint", values);
      ui.hint.title = result.video.damage || "";
      drawCanvases();
      loadStrip(item);
    } else {
      for (const id of ["best", "best-score", "hint", "bars-time", "moments-count", "facts"]) ui[id].textContent = "";
      for (const id of ["rest", "bars", "moments"]) ui[id].replaceChildren();
      bars.clear();
      ui.none.hidden = true;
      touch(item);
    }
    refresh(true);
  }

  /** The progress of an item that is worked on. */
  function touch(item) {
    if (item !== shown || item.result) return;
    const share = Math.round(item.share * 100);
    const text = { uploading: "uploading", queued: "queued", running: "running" }[item.state];
    if (text) ui["stage-text"].textContent = say(text, { p: share });
    // The upload is the first third of the bar.
    const all = item.state === "uploading" ? item.share / 3 : (1 + 2 * item.share) / 3;
    ui.progress.firstElementChild.style.width = `${100 * all}%`;
    ui.progress.setAttribute("aria-valuenow", String(Math.round(all * 100)));
    ui.progress.setAttribute("aria-valuetext", ui["stage-text"].textContent);
  }

  function showVerdict(item) {
    const [best, ...rest] = item.result.predictions;
    ui.best.textContent = best.class;
    ui["best-score"].textContent = percent(best.score);
    const { width, height, fps, duration_s: length, codec } = item.result.video;
    ui.facts.textContent = [`${width} × ${height}`, `${Number(fps.toFixed(2))} fps`, clock(length), codec.replace("lib", "")].filter(Boolean).join("  ·  ");
    ui.rest.replaceChildren(...rest.slice(0, 3).map((p) => make("li", {}, make("span", { text: p.class }), make("span", { text: percent(p.score) }))));
  }

  // ---- playing -----------------------------------------------------------------------------------------------------------------

  // A video that the browser cannot play has a position all the same: item.time.
  const playable = () => Boolean(shown && shown.playable);
  const duration = () => (shown && shown.result ? shown.result.video.duration_s : video.duration) || 0;
  const position = () => (playable() ? video.currentTime : shown ? shown.time : 0);

  function seek(seconds) {
    if (!shown) return;
    const time = Math.min(Math.max(0, seconds), duration());
    shown.time = time;
    // The very end shows no picture in some browsers.
    if (playable()) video.currentTime = Math.min(time, Math.max(0, video.duration - 0.02));
    refresh();
  }

  function toggle() {
    if (!playable()) return;
    if (video.paused) { if (video.ended) video.currentTime = 0; video.play().catch(() => {}); } else video.pause();
  }

  function setPlayLabel() {
    const text = say(video.paused ? "play" : "pause");
    ui.play.setAttribute("aria-label", text);
    ui.play.title = text;
    document.body.classList.toggle("playing", !video.paused);
  }

  function showPlayable() {
    const unable = shown && shown.playable === false;
    ui.noplay.hidden = !unable;
    ui.play.disabled = ui.full.disabled = ui.mute.disabled = Boolean(unable);
    if (unable) ui.noplay.lastElementChild.textContent = say(shown.result ? "noplayDone" : "noplay");
  }

  // ---- what is seen at a time --------------------------------------------------------------------------------------------------

  const center = (w) => (w.start_s + w.end_s) / 2;

  /** The windows around a time and how far it is from the first to the second. */
  function around(windows, time) {
    let low = 0;
    let high = windows.length - 1;
    if (time <= center(windows[0])) return [0, 0, 0];
    if (time >= center(windows[high])) return [high, high, 0];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (center(windows[middle]) <= time) low = middle; else high = middle;
    }
    return [low, high, (time - center(windows[low])) / (center(windows[high]) - center(windows[low]))];
  }

  /** Top 5 at a time, between two windows in proportion. */
  function topAt(item, time) {
    const { windows, curves } = item.result.timeline;
    const [a, b, share] = around(windows, time);
    const found = new Map();
    const put = (p, weight) => {
      const entry = found.get(p.index) || { class: p.class, index: p.index, score: 0 };
      entry.score += p.score * weight;
      found.set(p.index, entry);
    };
    windows[a].predictions.forEach((p) => put(p, 1 - share));
    windows[b].predictions.forEach((p) => put(p, share));
    for (const curve of curves) {
      const entry = found.get(curve.index);
      if (entry) entry.score = curve.scores[a] * (1 - share) + curve.scores[b] * share;
    }
    return [...found.values()].sort((x, y) => y.score - x.score).slice(0, 5);
  }

  const color = (item, name) => `var(${item.colors.get(name) || "--faint"})`;
  const bars = new Map(); // class index -> its row, so that rows glide to their new rank

  function showBars(item, time) {
    const top = topAt(item, time);
    const wanted = new Set(top.map((p) => p.index));
    for (const [index, row] of bars) if (!wanted.has(index)) { row.remove(); bars.delete(index); }
    top.forEach((p, rank) => {
      let row = bars.get(p.index);
      if (!row) {
        row = make("li", {}, make("p", {}, make("span", { text: p.class, title: p.class }), make("span")), make("div", {}, make("i")));
        bars.set(p.index, row);
        ui.bars.append(row);
      }
      row.style.transform = `translateY(${rank * 40}px)`;
      row.querySelector("p").lastElementChild.textContent = percent(p.score);
      const bar = row.querySelector("i");
      bar.style.width = `${100 * Math.min(1, p.score)}%`;
      bar.style.background = color(item, p.class);
      row.dataset.rank = rank;
    });
    // The order on the page follows the order on the screen, for those who hear it.
    [...bars.values()].sort((x, y) => x.dataset.rank - y.dataset.rank).forEach((row, i) => { row.setAttribute("aria-posinset", String(i + 1)); row.setAttribute("aria-setsize", String(top.length)); });
    return top[0];
  }

  // ---- timeline ----------------------------------------------------------------------------------------------------------------

  function showSegments(item) {
    const { segments } = item.result;
    const total = duration();
    // Lanes: a segment goes to the first lane that is free when it begins.
    const ends = [];
    const lanes = segments.map((segment) => {
      let lane = ends.findIndex((end) => end <= segment.start_s + 1e-6);
      if (lane < 0) lane = ends.length < 7 ? ends.length : ends.indexOf(Math.min(...ends));
      ends[lane] = segment.end_s;
      return lane;
    });
    const pitch = ends.length > 3 ? 24 : 30;
    ui.segments.style.setProperty("--lane", `${pitch}px`);
    const blocks = segments.map((segment, i) => {
      const label = say("segmentLabel", { what: segment.class, from: clock(segment.start_s), to: clock(segment.end_s), score: percent(segment.score) });
      const block = make("button", { type: "button", text: segment.class, title: label, "aria-label": label, tabindex: i ? "-1" : "0", onclick: () => seek(segment.start_s) });
      block.style.left = `${(100 * segment.start_s) / total}%`;
      block.style.width = `calc(${(100 * (segment.end_s - segment.start_s)) / total}% - 2px)`;
      block.style.top = `${2 + lanes[i] * pitch}px`;
      block.style.background = color(item, segment.class);
      return block;
    });
    ui.segments.replaceChildren(...blocks);
    ui.segments.style.height = `${pitch * Math.max(1, ends.length)}px`;
    ui.moments.replaceChildren(...segments.map((segment) => {
      const mark = make("i");
      mark.style.background = color(item, segment.class);
      return make("li", {}, make("button", { type: "button", onclick: () => seek(segment.start_s) }, mark,
        make("b", { text: segment.class, title: segment.class }), make("span", { text: `${clock(segment.start_s)} – ${clock(segment.end_s)}` }), make("em", { text: percent(segment.score) })));
    }));
    ui["moments-count"].textContent = segments.length ? say("count", { n: segments.length }) : "";
    ui.none.hidden = segments.length > 0;
    ui.none.textContent = say("none");
    ui.slider.setAttribute("aria-valuemax", total.toFixed(2));
  }

  const ROW = 30;
  /** Curves that rise above the floor somewhere, and never fewer than three. */
  const rows = (item) => item.result.timeline.curves.filter((curve, i) => i < 3 || Math.max(...curve.scores) > 0.08).slice(0, 6);

  function drawCanvases() {
    const item = shown;
    if (!item || !item.result || ui.tracks.hidden) return;
    const curves = rows(item);
    const { windows } = item.result.timeline;
    const total = duration();
    const scale = window.devicePixelRatio || 1;
    const width = ui.area.clientWidth;
    const canvas = ui.curves;
    canvas.style.height = `${curves.length * ROW}px`;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(curves.length * ROW * scale);
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    const narrow = getComputedStyle(ui.labels).display === "none";
    const x = (seconds) => (seconds / total) * width;
    curves.forEach((curve, r) => {
      const base = (r + 1) * ROW - 4;
      const tint = paint(item.colors.get(curve.class));
      const points = [[0, curve.scores[0]], ...windows.map((w, i) => [x(center(w)), curve.scores[i]]), [width, curve.scores[curve.scores.length - 1]]];
      const y = (score) => base - 1 - score * (ROW - 8);
      const path = new Path2D();
      path.moveTo(points[0][0], y(points[0][1]));
      for (let i = 1; i < points.length; i += 1) {
        // A step smoothed by half: it never overshoots what was measured.
        const [x0, s0] = points[i - 1];
        const [x1, s1] = points[i];
        const half = (x0 + x1) / 2;
        path.bezierCurveTo(half, y(s0), half, y(s1), x1, y(s1));
      }
      const area = new Path2D(path);
      area.lineTo(width, base);
      area.lineTo(0, base);
      area.closePath();
      pen.fillStyle = tint;
      pen.globalAlpha = 0.24;
      pen.fill(area);
      pen.globalAlpha = 1;
      pen.strokeStyle = tint;
      pen.lineWidth = 1.75;
      pen.stroke(path);
      pen.fillStyle = paint("--line");
      pen.fillRect(0, base, width, 1);
      if (narrow) {
        pen.fillStyle = paint("--soft");
        pen.font = `11px ${paint("--font")}`;
        pen.fillText(curve.class, 2, base - ROW + 15, width - 8);
      }
    });
    const head = ui.segments.offsetTop;
    ui.labels.replaceChildren(
      spacer(head - 8 + 8, ""), labelRow(ui.segments.offsetHeight, say("moments")), spacer(4, ""),
      ...curves.map((curve) => {
        const dot = make("i");
        dot.style.background = color(item, curve.class);
        return labelRow(ROW, curve.class, dot);
      }));
    drawAxis(total, width);
    drawStrip(item);
    refresh();
  }

  const spacer = (height) => { const element = make("div"); element.style.height = `${height}px`; return element; };
  function labelRow(height, text, dot) {
    const element = make("div", { title: text }, ...(dot ? [dot] : []), make("span", { text }));
    element.style.height = `${height}px`;
    return element;
  }

  function drawAxis(total, width) {
    const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600];
    const step = steps.find((s) => (s / total) * width >= 62) || 1200;
    const marks = [];
    for (let i = 0; i * step < total - step * 0.75; i += 1) marks.push([i * step, clock(i * step, step < 1 ? 1 : 0)]);
    marks.push([total, clock(total)]);
    ui.axis.replaceChildren(...marks.map(([time, text], i) => {
      const mark = make("span", { text, cls: i === marks.length - 1 ? "last" : undefined });
      mark.style.left = `${(100 * time) / total}%`;
      return mark;
    }));
  }

  /** Small pictures along the time, taken by a second player of the same file. */
  async function loadStrip(item) {
    if (item.strip || item.playable === false) return;
    item.strip = [];
    const player = document.createElement("video");
    player.muted = true;
    player.preload = "auto";
    player.src = item.url;
    const event = (name) => new Promise((resolve, reject) => {
      player.addEventListener(name, resolve, { once: true });
      player.addEventListener("error", reject, { once: true });
      setTimeout(reject, 8000);
    });
    try {
      await event("loadeddata");
      const shape = player.videoWidth / player.videoHeight || 16 / 9;
      const count = Math.max(4, Math.min(24, Math.ceil(ui.area.clientWidth / (56 * Math.max(0.6, Math.min(shape, 2.4))))));
      for (let i = 0; i < count && items.includes(item); i += 1) {
        const seeked = event("seeked");
        player.currentTime = Math.max(0.001, ((i + 0.5) / count) * player.duration);
        await seeked;
        const picture = document.createElement("canvas");
        picture.height = 112;
        picture.width = Math.max(1, Math.round(112 * shape));
        picture.getContext("2d").drawImage(player, 0, 0, picture.width, picture.height);
        item.strip[i] = picture;
        item.stripCount = count;
        drawStrip(item);
      }
    } catch { /* a file that the browser cannot play has no pictures */ } finally { player.removeAttribute("src"); player.load(); }
  }

  function drawStrip(item) {
    if (item !== shown || !item.result) return;
    ui.strip.hidden = item.playable === false;
    const scale = window.devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = ui.strip;
    if (!width) return;
    ui.strip.width = Math.round(width * scale);
    ui.strip.height = Math.round(height * scale);
    const pen = ui.strip.getContext("2d");
    pen.scale(scale, scale);
    const cell = width / (item.stripCount || 1);
    (item.strip || []).forEach((picture, i) => {
      // Fill the cell, cut what stands out.
      const zoom = Math.max(cell / picture.width, height / picture.height);
      const w = cell / zoom;
      const h = height / zoom;
      pen.drawImage(picture, (picture.width - w) / 2, (picture.height - h) / 2, w, h, i * cell, 0, cell - 1, height);
    });
  }

  function refresh(force = false) {
    if (!shown) return;
    const time = position();
    const total = duration();
    ui.now.textContent = clock(time);
    ui.length.textContent = total ? ` / ${clock(total)}` : "";
    const item = shown;
    if (!item.result || (document.hidden && !force)) { ui.caption.hidden = true; return; }
    const best = showBars(item, time);
    ui["bars-time"].textContent = say("at", { time: clock(time) });
    ui.playhead.style.transform = `translateX(${(Math.min(1, time / total) * ui.area.clientWidth).toFixed(2)}px)`;
    ui.slider.setAttribute("aria-valuenow", time.toFixed(2));
    ui.slider.setAttribute("aria-valuetext", say("value", { time: clock(time), length: clock(total), what: best ? `${best.class} ${percent(best.score)}` : say("nothing") }));
    ui.caption.hidden = !playable() || !best;
    if (best) {
      const [dot, what, score] = ui.caption.children;
      dot.style.background = color(item, best.class);
      what.textContent = best.class;
      score.textContent = percent(best.score);
    }
    item.result.segments.forEach((segment, i) => {
      const on = time >= segment.start_s - 1e-6 && time < segment.end_s;
      ui.segments.children[i].classList.toggle("on", on);
      ui.moments.children[i].firstElementChild.classList.toggle("on", on);
    });
  }

  function timeAt(event) {
    const box = ui.area.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * duration();
  }

  function hover(event) {
    const item = shown;
    if (!item || !item.result || event.pointerType === "touch") return;
    const time = timeAt(event);
    const [best] = topAt(item, time);
    const at = (time / duration()) * ui.area.clientWidth;
    ui.ghost.hidden = false;
    ui.ghost.style.transform = `translateX(${at}px)`;
    const bubble = ui.ghost.firstElementChild;
    bubble.textContent = `${clock(time)} · ${best.class} ${percent(best.score)}`;
    const half = bubble.offsetWidth / 2;
    bubble.style.left = `${Math.max(half - at, Math.min(0, ui.area.clientWidth - at - half))}px`;
  }

  function nextMoment(direction) {
    const starts = shown.result.segments.map((s) => s.start_s);
    const time = position();
    const found = direction > 0 ? starts.find((s) => s > time + 0.03) : starts.filter((s) => s < time - 0.25).pop();
    seek(found === undefined ? (direction > 0 ? duration() : 0) : found);
  }

  function sliderKey(event) {
    if (!shown || !shown.result || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = event.shiftKey ? 1 : shown.result.timeline.stride_s;
    const moves = {
      ArrowRight: () => seek(position() + step), ArrowUp: () => seek(position() + step),
      ArrowLeft: () => seek(position() - step), ArrowDown: () => seek(position() - step),
      Home: () => seek(0), End: () => seek(duration()),
      PageDown: () => nextMoment(1), PageUp: () => nextMoment(-1), " ": toggle,
    };
    if (moves[event.key]) { event.preventDefault(); moves[event.key](); }
  }

  function segmentKey(event) {
    const blocks = [...ui.segments.children];
    const at = blocks.indexOf(event.target);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: blocks.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    const block = blocks[Math.min(blocks.length - 1, Math.max(0, to))];
    blocks[at].tabIndex = -1;
    block.tabIndex = 0;
    block.focus();
  }

  // ---- downloads ---------------------------------------------------------------------------------------------------------------

  function save(text, type, ending) {
    const url = URL.createObjectURL(new Blob([text], { type }));
    const link = make("a", { href: url, download: shown.file.name.replace(/\.[^.]*$/, "") + ending });
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  }

  // ---- wiring ------------------------------------------------------------------------------------------------------------------

  const choose = () => ui.file.click();
  for (const id of ["choose", "add", "again"]) ui[id].addEventListener("click", (event) => { event.stopPropagation(); choose(); });
  ui.drop.addEventListener("click", choose);
  ui.file.addEventListener("change", () => { addFiles(ui.file.files); ui.file.value = ""; });

  let depth = 0; // dragenter and dragleave also come for every child
  const carriesFiles = (event) => [...(event.dataTransfer ? event.dataTransfer.types : [])].includes("Files");
  addEventListener("dragenter", (event) => { if (carriesFiles(event)) { depth += 1; document.body.classList.add("over"); } });
  addEventListener("dragleave", (event) => { if (carriesFiles(event)) { depth -= 1; if (depth <= 0) { depth = 0; document.body.classList.remove("over"); } } });
  addEventListener("dragover", (event) => { if (carriesFiles(event)) event.preventDefault(); });
  addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    depth = 0;
    document.body.classList.remove("over");
    addFiles(event.dataTransfer.files);
  });
  addEventListener("paste", (event) => { if (event.clipboardData && event.clipboardData.files.length) addFiles(event.clipboardData.files); });

  for (const button of document.querySelectorAll("[data-lang]")) {
    button.addEventListener("click", () => { lang = button.dataset.lang; memory.set("lang", lang); applyWords(); });
  }
  ui.theme.addEventListener("click", () => {
    theme = { auto: "light", light: "dark", dark: "auto" }[theme] || "auto";
    memory.set("theme", theme);
    applyTheme();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", applyTheme);

  ui.play.addEventListener("click", toggle);
  ui.screen.addEventListener("click", toggle);
  ui.mute.addEventListener("click", () => { video.muted = !video.muted; ui.mute.setAttribute("aria-pressed", String(video.muted)); });
  ui.full.addEventListener("click", () => (document.fullscreenElement ? document.exitFullscreen() : ui.screen.requestFullscreen().catch(() => {})));
  for (const name of ["play", "pause", "ended"]) video.addEventListener(name, setPlayLabel);
  video.addEventListener("loadeddata", () => {
    if (!shown) return;
    shown.playable = video.videoWidth > 0;
    if (shown.time) video.currentTime = shown.time;
    showPlayable();
    drawCanvases();
    refresh();
  });
  video.addEventListener("error", () => { if (shown && video.getAttribute("src")) { shown.playable = false; showPlayable(); drawCanvases(); } });
  for (const name of ["seeked", "timeupdate"]) video.addEventListener(name, () => refresh());
  const follow = () => { if (!video.paused) refresh(); requestAnimationFrame(follow); };
  requestAnimationFrame(follow);

  let dragging = false;
  ui.slider.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    dragging = true;
    ui.slider.setPointerCapture(event.pointerId);
    seek(timeAt(event));
  });
  ui.area.addEventListener("pointermove", (event) => { hover(event); if (dragging) seek(timeAt(event)); });
  for (const name of ["pointerup", "pointercancel"]) ui.slider.addEventListener(name, () => { dragging = false; });
  ui.area.addEventListener("pointerleave", () => { ui.ghost.hidden = true; });
  ui.slider.addEventListener("keydown", sliderKey);
  ui.segments.addEventListener("keydown", segmentKey);
  ui.cancel.addEventListener("click", () => shown && cancel(shown));
  ui.json.addEventListener("click", () => save(JSON.stringify(shown.result, null, 2), "application/json", ".json"));
  ui.srt.addEventListener("click", () => save(shown.srt, "application/x-subrip", ".srt"));
  new ResizeObserver(() => drawCanvases()).observe(ui.area);

  applyTheme();
  applyWords();
  ask("/v1/model").then((answer) => answer.json()).then((value) => { server = value; showServer(); }).catch(() => {});
})();
