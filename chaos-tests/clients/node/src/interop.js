// Runs the checks in order and prints one JSON line for each.

import { CHECKS } from './checks.js';
import { Clients } from './clients.js';
import { report, within } from './waiting.js';

// A push consumer's shutdown waits for its long poll to end.
const CLOSE_MS_MAX = 30_000;

export async function run(options) {
  const only = options.only === '' ? Object.keys(CHECKS) : options.only.split(',');
  const unknown = only.filter((name) => !(name in CHECKS));
  if (unknown.length > 0) {
    console.error(`unknown checks ${unknown}, known are ${Object.keys(CHECKS)}`);
    return 2;
  }

  let allOk = true;
  const closing = [];
  for (const name of Object.keys(CHECKS).filter((known) => only.includes(known))) {
    const clients = new Clients(options.endpoint);
    const outcome = await runCheck(name, options, clients);
    console.log(JSON.stringify({ check: name, ...outcome }));
    allOk &&= outcome.ok;
    closing.push(clients.close());
  }
  await within(CLOSE_MS_MAX, Promise.all(closing), 'shutdown').catch(report);
  return allOk ? 0 : 1;
}

async function runCheck(name, options, clients) {
  try {
    return { ok: true, detail: await CHECKS[name](options, clients) };
  } catch (error) {
    return { ok: false, detail: `${error.name}: ${error.message}` };
  }
}
