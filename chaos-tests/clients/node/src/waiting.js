import { setTimeout as delay } from 'node:timers/promises';

/** Resolves after `ms`, or earlier when `signal` is aborted. */
export async function sleep(ms, signal) {
  try {
    await delay(ms, undefined, { signal });
  } catch (error) {
    if (error.name !== 'AbortError') throw error;
  }
}

/** The result of `promise`, or a rejection after `ms`. */
export async function within(ms, promise, what) {
  const timer = new AbortController();
  const late = delay(ms, undefined, { signal: timer.signal }).then(() => {
    throw new Error(`${what} took longer than ${ms} ms`);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    late.catch(() => {});
    timer.abort();
  }
}

/** For waits whose failure changes nothing. */
export function report(error) {
  console.error(error.message);
}

/** An AbortSignal that SIGTERM and SIGINT abort; `end` aborts it, too. */
export function stopOnSignal(end = new AbortController()) {
  for (const name of ['SIGTERM', 'SIGINT']) process.on(name, () => end.abort());
  return end.signal;
}
