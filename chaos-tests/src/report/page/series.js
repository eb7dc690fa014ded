'use strict';
// Data of a page, and what the lanes show of it at one zoom.
//
// {bins_per_octave, runs: [{subject, horizon_us, subscribed,
//   timeline: {bucket_us, begun[], ok[], failed[], unknown[], latency_max_us[],
//              latency_bins[[bin, count, …]], received[], acked[], backlog[]},
//   nodes: [{name, spans: [{from_us, to_us, role, term}]}],
//   faults: [{name, targets, from_us, to_us, bit}], marks: [{at_us, what}],
//   dots: {shown: [{kind, from_us, to_us, title, lines[]}], counts[lost, violated, unknown],
//          lines: {index: json}}}]}

const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000];

// Buckets of `run` from `fromUs` to `toUs`, so many put together that at most `countMax` are left.
// Rates are per second; latencies are microseconds, 0 where no send was acknowledged.
function aggregate(run, fromUs, toUs, countMax, binsPerOctave) {
  const timeline = run.timeline;
  const total = timeline.ok.length;
  const wanted = (toUs - fromUs) / timeline.bucket_us / countMax;
  const factor = STEPS.find((step) => step >= wanted) || STEPS[STEPS.length - 1];
  const stepUs = factor * timeline.bucket_us;
  const first = Math.max(0, Math.floor(fromUs / stepUs));
  const last = Math.min(Math.ceil(total / factor), Math.ceil(toUs / stepUs));
  const part = { stepUs, fromUs: first * stepUs, count: Math.max(0, last - first) };
  for (const name of ['begun', 'ok', 'failed', 'unknown', 'received', 'acked']) part[name] = [];
  for (const name of ['p50', 'p99', 'max', 'backlog']) part[name] = [];
  for (let bucket = first; bucket < last; bucket += 1) {
    const begin = bucket * factor;
    const end = Math.min(total, begin + factor);
    // The last bucket may reach past the end of the run.
    const lengthUs = Math.max(timeline.bucket_us, Math.min(end * timeline.bucket_us, run.horizon_us) - begin * timeline.bucket_us);
    for (const name of ['begun', 'ok', 'failed', 'unknown', 'received', 'acked']) {
      let sum = 0;
      for (let place = begin; place < end; place += 1) sum += timeline[name][place];
      part[name].push(sum * 1e6 / lengthUs);
    }
    part.backlog.push(timeline.backlog[end - 1] || 0);
    addLatency(part, timeline, begin, end, binsPerOctave);
  }
  return part;
}

function addLatency(part, timeline, begin, end, binsPerOctave) {
  const counts = new Map();
  let all = 0;
  let max = 0;
  for (let place = begin; place < end; place += 1) {
    const bins = timeline.latency_bins[place];
    for (let pair = 0; pair < bins.length; pair += 2) {
      counts.set(bins[pair], (counts.get(bins[pair]) || 0) + bins[pair + 1]);
      all += bins[pair + 1];
    }
    max = Math.max(max, timeline.latency_max_us[place]);
  }
  const bins = [...counts.keys()].sort((a, b) => a - b);
  const rank = (share) => {
    let seen = 0;
    for (const bin of bins) {
      seen += counts.get(bin);
      if (seen >= share * all) return Math.min(max, 2 ** ((bin + 0.5) / binsPerOctave));
    }
    return 0;
  };
  part.p50.push(rank(0.5));
  part.p99.push(rank(0.99));
  part.max.push(max);
}

const peak = (values) => values.reduce((a, b) => Math.max(a, b), 0);

// Smallest of `marks` (up to 10), times a power of ten, that is not below `value`.
function roundUp(value, marks = [1, 2, 5, 10]) {
  if (value <= 0) return 1;
  const decade = 10 ** Math.floor(Math.log10(value));
  return marks.map((mark) => mark * decade).find((step) => step >= value * 0.9999);
}

const AXIS_MARKS = [1, 1.2, 1.6, 2, 3, 4, 5, 6, 8, 10];

// What both charts of a page share, so that one can be held against the other.
function scales(parts) {
  const over = (of) => peak(parts.map((part) => peak(of(part))));
  const low = Math.min(...parts.flatMap((part) => part.p50.filter((value) => value > 0)), Infinity);
  const high = over((part) => part.max);
  const lowDecade = Math.floor(Math.log10(low === Infinity ? 1000 : low));
  return {
    rate: roundUp(over((part) => part.ok.map((ok, i) => Math.max(part.begun[i], ok + part.failed[i] + part.unknown[i]))), AXIS_MARKS),
    consumed: roundUp(over((part) => part.received.map((value, i) => Math.max(value, part.acked[i]))), AXIS_MARKS),
    backlog: roundUp(Math.max(2, over((part) => part.backlog)), AXIS_MARKS),
    latencyLow: lowDecade,
    latencyHigh: Math.max(lowDecade + 1, Math.log10(roundUp(Math.max(high, 1)))),
  };
}

const escapeText = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

const showRate = (value) => (value === 0 ? '0' : value < 10 ? value.toFixed(1) : Math.round(value).toLocaleString('en')) + '/s';

const showCount = (value) => Math.round(value).toLocaleString('en');

// Short for axes: 1500 is 1.5k.
const showShort = (value) => (value >= 1e6 ? `${value / 1e6}M` : value >= 1000 ? `${value / 1000}k` : `${Math.round(value * 100) / 100}`);

function showLatency(us) {
  if (!us) return '\u2013';
  if (us < 1000) return `${Math.round(us)} µs`;
  if (us < 10000) return `${(us / 1000).toFixed(2)} ms`;
  if (us < 1e6) return `${(us / 1000).toFixed(0)} ms`;
  return `${(us / 1e6).toFixed(2)} s`;
}

// With as many digits after the point as steps of `stepUs` need.
function showTime(us, stepUs) {
  let digits = 0;
  while (digits < 6 && Math.round(stepUs) % 10 ** (6 - digits) > 0) digits += 1;
  return `${(us / 1e6).toFixed(digits)} s`;
}
