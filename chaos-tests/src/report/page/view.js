// The page: which part of the run is shown, and what mouse, touch and keys do to it.

(() => {
  const data = JSON.parse(document.getElementById('data').textContent);
  const root = document.getElementById('charts');
  const readout = document.getElementById('readout');
  const tip = document.getElementById('tip');
  if (!root) return;

  const LEAST_US = 20000;
  const faultBegins = (run) => run.faults.map((fault) => fault.from_us).sort((a, b) => a - b);
  const pen = document.createElement('canvas').getContext('2d');
  pen.font = '11.5px system-ui, sans-serif';
  const textWidth = (text) => pen.measureText(text).width;

  // Time 0 of each run; times of the view count from it, so that two runs can be aligned.
  const common = Math.min(...data.runs.map((run) => run.faults.length));
  // Number of the fault at which all have time 0; -1: the begin of the run.
  let aligned = data.runs.length > 1 && common > 0 ? 0 : -1;
  const origin = (run) => (aligned >= 0 ? faultBegins(run)[aligned] : 0);
  const whole = () => ({
    from: Math.min(...data.runs.map((run) => -origin(run))),
    to: Math.max(...data.runs.map((run) => run.horizon_us - origin(run))),
  });
  let view = whole();
  let cursor = null;
  let selection = null;
  let pinned = null;

  const charts = data.runs.map((run) => {
    const element = document.createElement('div');
    element.className = 'chart';
    element.tabIndex = 0;
    element.setAttribute('role', 'group');
    element.setAttribute('aria-label', `Time line of ${run.subject}`);
    const title = data.runs.length > 1 ? `<h3>${escapeText(run.subject)}</h3>` : '';
    const lanes = LANES.map(() => '<div class="lane"><div class="head"></div><svg></svg></div>').join('');
    element.innerHTML = `<svg class="back"></svg>${title}${lanes}<svg class="front"></svg>`;
    root.append(element);
    const part = (selector) => element.querySelector(selector);
    const parts = [...element.querySelectorAll('.lane')].map((lane) => ({ head: lane.firstChild, svg: lane.lastChild }));
    return { run, element, lanes: parts, back: part('.back'), front: part('.front') };
  });
  root.classList.toggle('two', charts.length > 1);

  let frame = 0;
  const redraw = () => { if (!frame) frame = requestAnimationFrame(() => { frame = 0; draw(); }); };

  function draw() {
    const states = charts.map((chart) => {
      const width = chart.element.clientWidth;
      const narrow = width < 560;
      const left = narrow ? 60 : 68;
      const right = width - 14;
      const from = view.from + origin(chart.run);
      const to = view.to + origin(chart.run);
      const x = (us) => left + ((us - from) / (to - from)) * (right - left);
      const part = aggregate(chart.run, from, to, Math.max(40, (right - left) / 4), data.bins_per_octave);
      const at = cursor === null ? -1 : Math.floor((cursor + origin(chart.run) - part.fromUs) / part.stepUs);
      const mine = pinned && pinned.chart === chart ? pinned.place : -1;
      return { chart, run: chart.run, width, narrow, left, right, from, to, x, part, at, pinned: mine, originUs: origin(chart.run), textWidth };
    });
    const shared = scales(states.map((state) => state.part));
    states.forEach((c, number) => {
      c.scales = shared;
      c.chart.state = c;
      LANES.forEach((lane, place) => {
        const { head, svg } = c.chart.lanes[place];
        const { height, picture } = lane.draw(c);
        svg.setAttribute('height', height + 4);
        // Buckets at the edges reach beyond the part that is shown.
        svg.innerHTML = `<clipPath id="clip-${number}-${place}"><rect x="${c.left}" y="-8" width="${c.right - c.left}" height="${height + 16}"/></clipPath>${clipped(picture, `clip-${number}-${place}`, lane)}`;
      });
      c.chart.back.innerHTML = backdrop(c);
    });
    drawCursor();
  }

  // Only pictures of buckets are clipped; labels stand outside on purpose.
  const clipped = (picture, id, lane) => ([sendsLane, latencyLane, consumersLane, backlogLane].includes(lane)
    ? picture.replace(/<path d=/g, `<path clip-path="url(#${id})" d=`) : picture);

  function drawCursor() {
    for (const chart of charts) {
      const c = chart.state;
      if (!c) continue;
      c.at = cursor === null ? -1 : Math.floor((cursor + c.originUs - c.part.fromUs) / c.part.stepUs);
      LANES.forEach((lane, place) => { chart.lanes[place].head.innerHTML = lane.head(c); });
      let front = '';
      if (cursor !== null) {
        const x = c.x(cursor + c.originUs);
        if (x >= c.left - 1 && x <= c.right + 1) front += `<path d="M${x} 0V9999" stroke="var(--text)" stroke-width="1" stroke-opacity="0.65"/>`;
      }
      if (selection) {
        const [x0, x1] = [c.x(selection.from + c.originUs), c.x(selection.to + c.originUs)].sort((a, b) => a - b);
        front += `<rect x="${x0}" y="0" width="${x1 - x0}" height="100%" fill="var(--link)" fill-opacity="0.18"/>`;
      }
      chart.front.innerHTML = front;
    }
    readout.innerHTML = told();
  }

  // What is under the cursor, in words; without one, what is shown.
  function told() {
    const step = charts[0].state.part.stepUs;
    if (cursor === null) {
      return `Shown: ${showTime(view.from, step)} to ${showTime(view.to, step)}, ${showLatency(step).replace('.00', '')} in each step`;
    }
    const words = [`<b>${showTime(cursor, Math.min(step, 10000))}</b>`];
    for (const chart of charts) {
      const us = cursor + chart.state.originUs;
      const leaders = chart.run.nodes.flatMap((node) => node.spans
        .filter((span) => span.role === 'leader' && span.from_us <= us && us < span.to_us)
        .map((span) => `${node.name} (term ${span.term})`));
      const faults = chart.run.faults.filter((fault) => fault.from_us <= us && us <= fault.to_us);
      const prefix = charts.length > 1 ? `${escapeText(chart.run.subject)}: ` : '';
      const leader = chart.run.nodes.length ? `leader ${escapeText(leaders.join(' and ') || 'none seen')}` : '';
      const fault = faults.length ? `fault ${escapeText(faults.map((f) => `${f.name} on ${f.targets}`).join('; '))}` : '';
      words.push(prefix + ([leader, fault].filter(Boolean).join(' · ') || 'no fault'));
    }
    return words.join(' · ');
  }

  function show(from, to) {
    const all = whole();
    const span = Math.min(Math.max(to - from, LEAST_US), all.to - all.from);
    const begin = Math.min(Math.max((from + to - span) / 2, all.from), all.to - span);
    view = { from: begin, to: begin + span };
    redraw();
  }
  const zoom = (factor, around) => {
    const middle = around === null || around === undefined ? (view.from + view.to) / 2 : around;
    show(middle - (middle - view.from) * factor, middle + (view.to - middle) * factor);
  };
  const move = (share) => {
    const by = (view.to - view.from) * share;
    const all = whole();
    const bounded = Math.min(Math.max(by, all.from - view.from), all.to - view.to);
    show(view.from + bounded, view.to + bounded);
  };

  const timeAt = (chart, event) => {
    const c = chart.state;
    const x = event.clientX - chart.element.getBoundingClientRect().left - 1;
    const share = Math.min(1, Math.max(0, (x - c.left) / (c.right - c.left)));
    return view.from + share * (view.to - view.from);
  };

  // Dots and their lines.
  function openTip(chart, place, x, y, pin) {
    const dot = chart.run.dots.shown[place];
    const took = dot.to_us > dot.from_us ? ` to ${showTime(dot.to_us, 1000)} (${showLatency(dot.to_us - dot.from_us)})` : '';
    const lines = dot.lines.map((index) => `<pre>${index + 1}: ${escapeText(chart.run.dots.lines[index] || 'not kept in this page')}</pre>`);
    tip.innerHTML = `<p><b>${escapeText(dot.kind)}</b>: ${escapeText(dot.title)}</p><p>${showTime(dot.from_us, 1000)}${took}; lines of history.jsonl:</p>${lines.join('')}`;
    tip.classList.toggle('pinned', pin);
    tip.hidden = false;
    const room = tip.getBoundingClientRect();
    const leftMost = Math.max(10, innerWidth - room.width - 10);
    tip.style.left = `${Math.min(x + 12, leftMost)}px`;
    tip.style.top = `${y + 18 + room.height > innerHeight ? Math.max(10, y - room.height - 12) : y + 18}px`;
  }
  function closeTip() {
    tip.hidden = true;
    if (pinned) { pinned = null; redraw(); }
  }
  function pin(chart, place) {
    const dot = chart.run.dots.shown[place];
    pinned = { chart, place };
    const at = dot.from_us - origin(chart.run);
    if (at < view.from || at > view.to) move((at - (view.from + view.to) / 2) / (view.to - view.from));
    draw();
    const drawn = chart.element.querySelector(`[data-dot="${place}"]`);
    if (!drawn) return;
    drawn.scrollIntoView({ block: 'nearest' });
    const where = drawn.getBoundingClientRect();
    openTip(chart, place, where.left + 9, where.bottom - 9, true);
  }
  function step(by) {
    const chart = pinned ? pinned.chart : charts.find((one) => one.run.dots.shown.length);
    if (!chart) return;
    const shown = chart.run.dots.shown;
    const first = shown.findIndex((dot) => dot.from_us - origin(chart.run) >= view.from);
    const start = by > 0 ? Math.max(first, 0) : shown.length - 1;
    const place = pinned ? (pinned.place + by + shown.length) % shown.length : start;
    pin(chart, place);
  }

  for (const chart of charts) {
    const element = chart.element;
    let drag = null;
    element.addEventListener('pointerdown', (event) => {
      if (event.button !== 0 || event.target.closest('.dot')) return;
      const moving = event.shiftKey || event.pointerType !== 'mouse';
      drag = { x: event.clientX, time: timeAt(chart, event), view, moving };
      element.setPointerCapture(event.pointerId);
    });
    element.addEventListener('pointermove', (event) => {
      const dot = event.target.closest ? event.target.closest('.dot') : null;
      if (dot && !pinned && !drag) openTip(chart, Number(dot.dataset.dot), event.clientX, event.clientY, false);
      else if (!pinned && !tip.hidden) tip.hidden = true;
      if (drag && drag.moving) {
        const c = chart.state;
        const by = ((drag.x - event.clientX) / (c.right - c.left)) * (drag.view.to - drag.view.from);
        view = drag.view;
        move(by / (view.to - view.from));
        return;
      }
      cursor = timeAt(chart, event);
      selection = drag && Math.abs(event.clientX - drag.x) > 4 ? { from: drag.time, to: cursor } : null;
      drawCursor();
    });
    const end = (event) => {
      const chosen = selection;
      drag = null;
      selection = null;
      if (event.type === 'pointerup' && chosen) show(Math.min(chosen.from, chosen.to), Math.max(chosen.from, chosen.to));
      else drawCursor();
    };
    element.addEventListener('pointerup', end);
    element.addEventListener('pointercancel', end);
    element.addEventListener('pointerleave', () => { cursor = null; if (!pinned) tip.hidden = true; if (charts[0].state) drawCursor(); });
    element.addEventListener('dblclick', () => { view = whole(); redraw(); });
    element.addEventListener('click', (event) => {
      const dot = event.target.closest('.dot');
      if (dot) pin(chart, Number(dot.dataset.dot));
      else if (pinned) closeTip();
    });
    element.addEventListener('wheel', (event) => {
      // Without Ctrl the wheel scrolls the page, as everywhere.
      if (event.ctrlKey || event.metaKey) {
        event.preventDefault();
        zoom(event.deltaY > 0 ? 1.25 : 0.8, timeAt(chart, event));
      } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
        event.preventDefault();
        move((event.deltaX || event.deltaY) / 1000);
      }
    }, { passive: false });
    element.addEventListener('keydown', (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const read = (by) => {
        const size = chart.state.part.stepUs;
        const start = cursor === null ? (view.from + view.to) / 2 : cursor + by * size;
        cursor = Math.min(view.to, Math.max(view.from, start));
        drawCursor();
      };
      const act = {
        ArrowLeft: () => (event.shiftKey ? read(-1) : move(-0.2)),
        ArrowRight: () => (event.shiftKey ? read(1) : move(0.2)),
        '+': () => zoom(0.6, cursor), '=': () => zoom(0.6, cursor), '-': () => zoom(1 / 0.6, cursor),
        0: () => { view = whole(); redraw(); }, Home: () => show(whole().from, whole().from + view.to - view.from),
        End: () => show(whole().to - (view.to - view.from), whole().to),
        n: () => step(1), p: () => step(-1), Escape: closeTip,
      }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
      if (act) { event.preventDefault(); act(); }
    });
    new ResizeObserver(redraw).observe(element);
  }

  const acts = {
    in: () => zoom(0.6), out: () => zoom(1 / 0.6), left: () => move(-0.2), right: () => move(0.2),
    all: () => { view = whole(); redraw(); }, next: () => step(1), previous: () => step(-1),
  };
  const align = document.querySelector('[data-act=align]');
  align.parentElement.hidden = aligned < 0;
  const byBegin = (run) => [...run.faults].sort((a, b) => a.from_us - b.from_us);
  for (let number = 0; aligned >= 0 && number < common; number += 1) {
    const names = [...new Set(data.runs.map((run) => byBegin(run)[number].name))];
    align.add(new Option(`fault ${number + 1}: ${names.join(' | ')}`, number));
  }
  align.value = aligned;
  align.addEventListener('change', () => {
    const before = aligned;
    aligned = Number(align.value);
    // One fault is looked at from near, with what followed it.
    if (aligned < 0 || before === aligned) view = whole();
    else show(-5e6, 45e6);
    redraw();
  });
  const dots = data.runs.some((run) => run.dots.shown.length);
  document.querySelectorAll('[data-act=next], [data-act=previous]').forEach((button) => { button.disabled = !dots; });

  document.addEventListener('click', (event) => {
    const button = event.target.closest('button[data-act]');
    if (button) acts[button.dataset.act]();
    const copy = event.target.closest('[data-copy]');
    if (copy) {
      // A page from a file may not have the clipboard; the text is selected in any case.
      const source = document.getElementById(copy.dataset.copy);
      getSelection().selectAllChildren(source);
      if (navigator.clipboard) {
        navigator.clipboard.writeText(source.textContent).then(() => { copy.textContent = 'Copied'; }, () => {});
      }
    }
    const link = event.target.closest('a[data-from]');
    if (link) {
      const [from, to] = [Number(link.dataset.from), Number(link.dataset.to)];
      const margin = Math.max((to - from) / 2, 500000);
      show(from - margin, to + margin);
    }
  });
  document.addEventListener('keydown', (event) => { if (event.key === 'Escape') closeTip(); });
  draw();
})();
