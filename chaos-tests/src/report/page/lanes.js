// Lanes of a chart: each gives its head and its picture as text, from a chart `c` with
// {run, part, scales, x(us), left, right, width, narrow, at} (`at`: bucket under the cursor or -1).

const swatch = (shape) => `<svg viewBox="0 0 14 10" aria-hidden="true">${shape}</svg>`;
const box = (color, extra = '') => swatch(`<rect x="0" y="1" width="14" height="8" fill="var(--${color})" ${extra}/>`);
const stroke = (color, dash = '') => swatch(`<path d="M0 5H14" stroke="var(--${color})" stroke-width="2" fill="none" stroke-dasharray="${dash}"/>`);

const DOT_SHAPES = {
  lost: (x, y) => `<path d="M${x} ${y - 6}L${x + 6} ${y}L${x} ${y + 6}L${x - 6} ${y}Z" fill="var(--lost)" stroke="var(--page)"/>`,
  violated: (x, y) => `<path d="M${x} ${y - 6}L${x + 5.5} ${y + 4.5}H${x - 5.5}Z" fill="var(--violated)" stroke="var(--page)"/>`,
  unknown: (x, y) => `<circle cx="${x}" cy="${y}" r="4" fill="var(--page)" stroke="var(--unknown)" stroke-width="2.2"/>`,
};
const DOT_KINDS = ['lost', 'violated', 'unknown'];
const DOT_ROW = 19;

// One value of a head: the one under the cursor, or nothing.
const read = (c, values, show) => (c.at >= 0 && c.at < values.length ? ` ${show(values[c.at])}` : '');

const emptyLane = (c, text, height) => `<text class="none" x="${c.left + 8}" y="${height / 2 + 4}">${escapeText(text)}</text>`;

// Lines across and their labels.
function ticks(c, height, values) {
  return values.map(([share, label]) => {
    const y = Math.round(height - share * height) + 0.5;
    return `<path class="grid" d="M${c.left} ${y}H${c.right}"/><text x="${c.left - 6}" y="${Math.min(height, Math.max(10, y + 4))}" text-anchor="end">${label}</text>`;
  }).join('');
}

const linearTicks = (c, height, top) => ticks(c, height, [[0, '0'], [0.5, showShort(top / 2)], [1, showShort(top)]]);

// Left edge of bucket `i` of the part that is shown.
const edge = (c, i) => c.x(c.part.fromUs + i * c.part.stepUs);

// Bars on top of `base`, from bucket to bucket. A value above 0 is seen, however small.
function bars(c, height, top, values, base, least) {
  let path = '';
  values.forEach((value, i) => {
    if (value <= 0) return;
    const x0 = edge(c, i).toFixed(1);
    const x1 = Math.max(edge(c, i + 1), edge(c, i) + 1).toFixed(1);
    const y0 = height - (base[i] / top) * height;
    const y1 = Math.min(y0 - least, height - ((base[i] + value) / top) * height);
    path += `M${x0} ${y0.toFixed(1)}H${x1}V${y1.toFixed(1)}H${x0}Z`;
  });
  return path;
}

// A line of steps.
function steps(c, values, y) {
  let path = '';
  values.forEach((value, i) => {
    path += `${i ? 'V' : `M${edge(c, 0).toFixed(1)} `}${y(value).toFixed(1)}H${edge(c, i + 1).toFixed(1)}`;
  });
  return path;
}

// A line through the middles of buckets, broken where the value is 0.
function broken(c, values, y) {
  let path = '';
  let open = false;
  values.forEach((value, i) => {
    if (value <= 0) { open = false; return; }
    const x = ((edge(c, i) + edge(c, i + 1)) / 2).toFixed(1);
    // A single point is seen as a short line.
    const alone = !open && !(values[i + 1] > 0);
    path += open ? `L${x} ${y(value).toFixed(1)}` : `M${x} ${y(value).toFixed(1)}${alone ? 'h2' : ''}`;
    open = true;
  });
  return path;
}

// Rows for `items` so that none covers another: sets `row` of each, returns how many there are.
function arrange(items) {
  const rows = [];
  for (const item of items) {
    const free = (row) => row.every((other) => other.x1 + 6 <= item.x0 || item.x1 + 6 <= other.x0);
    item.row = rows.findIndex(free);
    if (item.row < 0) item.row = rows.push([]) - 1;
    rows[item.row].push(item);
  }
  return rows.length;
}

const faultsLane = {
  head: (c) => `<b>Faults</b>${c.run.faults.length ? '' : '<span class="none">none</span>'}`,
  draw(c) {
    const items = c.run.faults
      .map((fault, place) => ({ fault, number: place + 1 }))
      .filter(({ fault }) => fault.to_us >= c.from && fault.from_us <= c.to)
      .map(({ fault, number }) => {
        const x0 = Math.max(c.left, c.x(fault.from_us));
        const bar = Math.max(3, Math.min(c.right, c.x(fault.to_us)) - x0);
        const label = `${number} ${fault.name}` + (fault.bit ? '' : ' (no effect)');
        const wide = c.textWidth(label) + 12;
        const inside = bar >= wide;
        // At the right edge the name stands on the left of its bar.
        const before = !inside && x0 + bar + wide > c.right;
        const x1 = inside || before ? x0 + bar : x0 + bar + wide;
        return { fault, label, bar, inside, before, at: x0, x0: before ? x0 - wide : x0, x1 };
      });
    const height = arrange(items) * 20 + 2;
    const picture = items.map((item) => {
      const y = item.row * 20 + 2;
      const title = `${item.fault.name} on ${item.fault.targets || 'nothing'}: ${showTime(item.fault.from_us, 1000)} to ${showTime(item.fault.to_us, 1000)}`;
      const text = item.inside
        ? `<text class="on" x="${item.at + 6}" y="${y + 13}">${escapeText(item.label)}</text>`
        : `<text class="strong" x="${item.before ? item.at - 6 : item.at + item.bar + 6}" y="${y + 13}" text-anchor="${item.before ? 'end' : 'start'}">${escapeText(item.label)}</text>`;
      const dash = item.fault.bit ? '' : 'stroke="var(--fault-bar)" stroke-dasharray="3 2" fill-opacity="0.45"';
      return `<g><title>${escapeText(title)}</title><rect x="${item.at}" y="${y}" width="${item.bar}" height="17" rx="2" fill="var(--fault-bar)" ${dash}/>${text}</g>`;
    }).join('');
    return { height, picture };
  },
};

const dotsLane = {
  head(c) {
    const { shown, counts } = c.run.dots;
    const all = counts.reduce((a, b) => a + b, 0);
    if (!all) return '<b>Operations to look at</b><span class="none">none: no lost, violated or unknown one</span>';
    const cut = all > shown.length ? `<span>the ${showCount(shown.length)} heaviest of ${showCount(all)}</span>` : '';
    return `<b>Operations to look at</b>${cut}`;
  },
  draw(c) {
    const { shown, counts } = c.run.dots;
    const kinds = DOT_KINDS.filter((kind, i) => counts[i] > 0);
    if (!kinds.length) return { height: 4, picture: '' };
    let picture = kinds.map((kind, row) => {
      const y = row * DOT_ROW + 10;
      const count = counts[DOT_KINDS.indexOf(kind)];
      return `<path class="grid" d="M${c.left} ${y}H${c.right}"/><text x="${c.left - 6}" y="${y + 4}" text-anchor="end"><title>${count} ${kind}</title>${kind}</text>`;
    }).join('');
    shown.forEach((dot, place) => {
      if (dot.to_us < c.from || dot.from_us > c.to) return;
      const y = kinds.indexOf(dot.kind) * DOT_ROW + 10;
      const x = Math.max(c.left, c.x(dot.from_us));
      const end = Math.min(c.right, c.x(dot.to_us));
      const tail = end - x > 2 ? `<path d="M${x} ${y}H${end}" stroke="var(--${dot.kind})" stroke-width="1.5" stroke-opacity="0.45"/>` : '';
      const ring = c.pinned === place ? `<circle cx="${x}" cy="${y}" r="9" fill="none" stroke="var(--text)" stroke-width="1.5"/>` : '';
      picture += `<g class="dot" data-dot="${place}">${tail}<circle cx="${x}" cy="${y}" r="9" fill="transparent"/>${DOT_SHAPES[dot.kind](x, y)}${ring}</g>`;
    });
    return { height: kinds.length * DOT_ROW + 4, picture };
  },
};

const sendsLane = {
  head: (c) => `<b>Sends per second</b><span>${box('ok')}ok${read(c, c.part.ok, showRate)}</span><span>${box('failed')}failed${read(c, c.part.failed, showRate)}</span><span>${box('unknown', 'stroke="var(--text)" stroke-dasharray="2 2"')}unknown${read(c, c.part.unknown, showRate)}</span><span>${stroke('begun', '2 2')}begun${read(c, c.part.begun, showRate)}</span>`,
  draw(c) {
    const height = 120;
    const { ok, failed, unknown, begun } = c.part;
    const top = c.scales.rate;
    const zero = ok.map(() => 0);
    const both = ok.map((value, i) => value + failed[i]);
    const picture = peak(begun) === 0
      ? emptyLane(c, 'Nothing was sent in this part of the run.', height)
      : linearTicks(c, height, top)
        + `<path d="${bars(c, height, top, ok, zero, 0.5)}" fill="var(--ok)" fill-opacity="0.75"/>`
        + `<path d="${bars(c, height, top, failed, ok, 3)}" fill="var(--failed)"/>`
        + `<path d="${bars(c, height, top, unknown, both, 3)}" fill="var(--unknown)" stroke="var(--text)" stroke-width="0.6" stroke-dasharray="2 2"/>`
        + `<path d="${steps(c, begun, (value) => height - (value / top) * height)}" fill="none" stroke="var(--begun)" stroke-width="1" stroke-dasharray="2 2" stroke-opacity="0.7"/>`;
    return { height, picture };
  },
};

const latencyLane = {
  head: (c) => `<b>Send latency</b><span>${stroke('p50')}p50${read(c, c.part.p50, showLatency)}</span><span>${stroke('p99', '5 2')}p99${read(c, c.part.p99, showLatency)}</span><span>${swatch('<circle cx="7" cy="5" r="2.5" fill="var(--max)"/>')}max${read(c, c.part.max, showLatency)}</span>`,
  draw(c) {
    const height = 120;
    const { latencyLow: low, latencyHigh: high } = c.scales;
    const y = (us) => height - ((Math.log10(Math.max(us, 1)) - low) / (high - low)) * height;
    const decades = [];
    for (let decade = low; decade <= high + 1e-9; decade += 1) decades.push([(decade - low) / (high - low), showLatency(10 ** decade).replace(/\.00/, '')]);
    const { p50, p99, max } = c.part;
    let dots = '';
    max.forEach((value, i) => {
      if (value > 0) dots += `M${((edge(c, i) + edge(c, i + 1)) / 2).toFixed(1)} ${y(value).toFixed(1)}h0`;
    });
    const picture = peak(max) === 0
      ? emptyLane(c, 'No send was acknowledged in this part of the run.', height)
      : ticks(c, height, decades)
        + `<path d="${dots}" stroke="var(--max)" stroke-width="3.4" stroke-linecap="round"/>`
        + `<path d="${broken(c, p99, y)}" fill="none" stroke="var(--p99)" stroke-width="1.5" stroke-dasharray="5 2"/>`
        + `<path d="${broken(c, p50, y)}" fill="none" stroke="var(--p50)" stroke-width="1.8"/>`;
    return { height, picture };
  },
};

const consumersLane = {
  head: (c) => `<b>Consumed per second</b><span>${box('received')}received${read(c, c.part.received, showRate)}</span><span>${stroke('acked', '2 2')}acknowledged${read(c, c.part.acked, showRate)}</span>`,
  draw(c) {
    if (!c.run.subscribed) return { height: 26, picture: emptyLane(c, 'Nobody consumed in this run.', 26) };
    const height = 80;
    const top = c.scales.consumed;
    const zero = c.part.received.map(() => 0);
    const picture = linearTicks(c, height, top)
      + `<path d="${bars(c, height, top, c.part.received, zero, 0.5)}" fill="var(--received)" fill-opacity="0.75"/>`
      + `<path d="${steps(c, c.part.acked, (value) => height - (value / top) * height)}" fill="none" stroke="var(--acked)" stroke-width="1" stroke-dasharray="2 2" stroke-opacity="0.7"/>`;
    return { height, picture };
  },
};

const backlogLane = {
  head: (c) => `<b>Backlog</b><span>${box('backlog')}acknowledged, not yet received${read(c, c.part.backlog, showCount)}</span>`,
  draw(c) {
    if (!c.run.subscribed) return { height: 26, picture: emptyLane(c, 'Nobody consumed in this run.', 26) };
    const height = 60;
    const top = c.scales.backlog;
    const zero = c.part.backlog.map(() => 0);
    const picture = linearTicks(c, height, top)
      + `<path d="${bars(c, height, top, c.part.backlog, zero, 1)}" fill="var(--backlog)" fill-opacity="0.75"/>`;
    return { height, picture };
  },
};

const ROLE_ROW = 24;

const leadersLane = {
  head: (c) => `<b>Leaders</b><span>${box('leader')}${box('leader-other')}leader, in turn by term</span><span>${box('candidate')}candidate</span><span>${stroke('follower')}follower</span><span>blank: silent</span>`,
  draw(c) {
    const nodes = c.run.nodes;
    if (!nodes.length) return { height: 26, picture: emptyLane(c, 'No node told its role in this run.', 26) };
    const picture = nodes.map((node, row) => {
      const y = row * ROLE_ROW + 3;
      const fits = Math.max(3, Math.floor((c.left - 8) / 6.6));
      const name = node.name.length > fits ? `${node.name.slice(0, fits - 1)}…` : node.name;
      const spans = node.spans.filter((span) => span.to_us > c.from && span.from_us < c.to).map((span) => {
        const x0 = Math.max(c.left, c.x(span.from_us));
        const wide = Math.max(1, Math.min(c.right, c.x(span.to_us)) - x0);
        const title = `<title>${escapeText(`${node.name}: ${span.role} in term ${span.term}, ${showTime(span.from_us, 1000)} to ${showTime(span.to_us, 1000)}`)}</title>`;
        if (span.role === 'leader') {
          const other = span.term % 2 === 0;
          const label = `term ${span.term}`;
          const text = wide > c.textWidth(label) + 8 ? `<text class="${other ? 'on-light' : 'on'}" x="${x0 + 5}" y="${y + 13}">${label}</text>` : '';
          return `<g>${title}<rect x="${x0}" y="${y}" width="${wide}" height="18" rx="2" fill="var(--leader${other ? '-other' : ''})"/>${text}</g>`;
        }
        if (span.role === 'candidate') return `<g>${title}<rect x="${x0}" y="${y + 4}" width="${Math.max(2, wide)}" height="10" fill="var(--candidate)"/></g>`;
        const dash = span.role === 'follower' ? '' : 'stroke-dasharray="4 3"';
        return `<g>${title}<path d="M${x0} ${y + 9}h${wide}" stroke="var(--follower)" stroke-width="4" ${dash}/></g>`;
      }).join('');
      return `<text x="${c.left - 6}" y="${y + 13}" text-anchor="end"><title>${escapeText(node.name)}</title>${escapeText(name)}</text>${spans}`;
    }).join('');
    return { height: nodes.length * ROLE_ROW + 4, picture };
  },
};

const axisLane = {
  head: () => '',
  draw(c) {
    const span = c.to - c.from;
    const fits = Math.max(2, Math.floor((c.right - c.left) / 90));
    let stepUs = 1;
    while (span / stepUs > fits) stepUs = roundUp(stepUs * 1.5);
    let picture = `<path d="M${c.left} 0.5H${c.right}" stroke="var(--muted)"/>`;
    const origin = c.originUs;
    for (let at = Math.ceil((c.from - origin) / stepUs) * stepUs; at + origin <= c.to; at += stepUs) {
      const x = c.x(at + origin);
      const anchor = x > c.right - 24 ? 'end' : 'middle';
      picture += `<path d="M${x} 0v5" stroke="var(--muted)"/><text x="${anchor === 'end' ? Math.min(c.right + 8, x + 12) : x}" y="18" text-anchor="${anchor}">${showTime(at, stepUs)}</text>`;
    }
    const seen = c.run.marks.filter((mark) => mark.at_us >= c.from && mark.at_us <= c.to);
    const items = seen.map((mark) => {
      const wide = c.textWidth(mark.what) + 10;
      const at = c.x(mark.at_us);
      const before = at + wide > c.right;
      return { mark, at, before, x0: before ? at - wide : at, x1: before ? at : at + wide };
    });
    const rows = arrange(items);
    for (const item of items) {
      const y = 36 + item.row * 15;
      picture += `<path d="M${item.at} 24V${y + 2}" stroke="var(--muted)" stroke-dasharray="1 3"/><text class="strong" x="${item.before ? item.at - 4 : item.at + 4}" y="${y}" text-anchor="${item.before ? 'end' : 'start'}">${escapeText(item.mark.what)}</text>`;
    }
    return { height: 24 + rows * 15 + 2, picture };
  },
};

const LANES = [faultsLane, dotsLane, sendsLane, latencyLane, consumersLane, backlogLane, leadersLane, axisLane];

// Behind all lanes: where a fault was, and where a part of the run began.
function backdrop(c) {
  const shades = c.run.faults.filter((fault) => fault.to_us >= c.from && fault.from_us <= c.to).map((fault) => {
    const x0 = Math.max(c.left, c.x(fault.from_us));
    const x1 = Math.max(x0 + 1.5, Math.min(c.right, c.x(fault.to_us)));
    return `<rect x="${x0}" y="0" width="${x1 - x0}" height="100%" fill="var(--fault)"/><path d="M${x0} 0V9999M${x1} 0V9999" stroke="var(--fault-edge)" stroke-width="1"/>`;
  });
  const marks = c.run.marks.filter((mark) => mark.at_us >= c.from && mark.at_us <= c.to);
  const lines = marks.map((mark) => `<path d="M${c.x(mark.at_us)} 0V9999" stroke="var(--muted)" stroke-opacity="0.5" stroke-dasharray="1 4"/>`);
  return shades.concat(lines).join('');
}
