// Runs the checks in order and prints one JSON line for each.

import { CHECKS } from './checks.js';
import { Clients } from './clients.js';
import { report, within } from './waiting.js';

// A push consumer's shutdown waits for its long poll to end.
const CLOSE_MS_MAX = 30_000;

export async function run(options) {
  const names = selected(CHECKS, options.only);
  if (!names) return 2;

  let allOk = true;
  const closing = [];
  for (const name of names) {
    const clients = new Clients(options.endpoint);
    const ok = await printOutcome(name, () => CHECKS[name](options, clients));
    allOk &&= ok;
    closing.push(clients.close());
  }
  await within(CLOSE_MS_MAX, Promise.all(closing), 'shutdown').catch(report);
  return allOk ? 0 : 1;
}

/** Names of the checks that the option `--only` selects; undefined if it names an unknown one. */
export function selected(checks, option) {
  const all = Object.keys(checks);
  const only = option === '' ? all : option.split(',');
  const unknown = only.filter((name) => !all.includes(name));
  if (unknown.length > 0) {
    console.error(`unknown checks ${unknown}, known are ${all}`);
    return undefined;
  }
  return all.filter((name) => only.includes(name));
}

/** Runs a check, prints its line and returns whether it is ok. */
export async function printOutcome(name, check) {
  let outcome;
  try {
    outcome = { ok: true, detail: await check() };
  } catch (error) {
    outcome = { ok: false, detail: `${error.name}: ${error.message}` };
  }
  console.log(JSON.stringify({ check: name, ...outcome }));
  return outcome.ok;
}
