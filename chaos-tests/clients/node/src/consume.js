// `consume`: receives, acknowledges and logs until SIGTERM or the end of standard input.
//
// Errors are counted and never end it, since the point is that a consumer goes on by itself.

import { BadRequestException } from 'rocketmq-client-nodejs';

import { Clients, text } from './clients.js';
import { JsonLines, errorText } from './records.js';
import { report, sleep, stopOnSignal, within } from './waiting.js';

const RECEIVERS = 4;
const RECEIVE_BATCH = 16;
const RETRY_MS = 500;

// Acks are tried again for as long as the receipt handle can be valid.
const INVISIBLE_MS = 15_000;
const CLOSE_MS_MAX = 10_000;

export async function run(options) {
  const consume = { push: consumePush, simple: consumeSimple }[options.mode];
  if (!consume) {
    console.error(`--mode ${options.mode} is neither push nor simple`);
    return 2;
  }
  const end = new AbortController();
  process.stdin.on('end', () => end.abort()).resume();
  const stop = stopOnSignal(end);
  const journal = new Journal(options.log);
  // The client throws from its own timers and streams when a connection breaks.
  process.on('uncaughtException', (error) => journal.error('uncaught', error));

  const clients = new Clients(options.endpoint);
  const finished = consume(options, clients, journal, stop);
  await stopped(stop);
  const close = finished.then(() => clients.close());
  await within(CLOSE_MS_MAX, close, 'shutdown').catch(report);
  console.error(`received ${journal.received}, errors ${journal.errors}`);
  return 0;
}

async function consumePush({ group, topic }, clients, journal, stop) {
  const onMessage = (message) => journal.add(message, { acked: true });
  await untilItWorks(journal, stop, () => clients.pushConsumer(group, topic, onMessage));
}

async function consumeSimple({ group, topic }, clients, journal, stop) {
  const start = () => clients.simpleConsumer(group, topic);
  const consumer = await untilItWorks(journal, stop, start);
  const receivers = Array.from({ length: RECEIVERS }, () => receive(consumer, journal, stop));
  await Promise.all(receivers);
}

async function untilItWorks(journal, stop, start) {
  while (!stop.aborted) {
    try {
      const consumer = await start();
      console.log('READY');
      return consumer;
    } catch (error) {
      journal.error('start', error);
      await sleep(RETRY_MS, stop);
    }
  }
  return undefined;
}

async function receive(consumer, journal, stop) {
  while (!stop.aborted) {
    try {
      for (const message of await consumer.receive(RECEIVE_BATCH, INVISIBLE_MS)) {
        await ack(consumer, message, journal);
      }
    } catch (error) {
      journal.error('receive', error);
      await sleep(RETRY_MS, stop);
    }
  }
}

/** Acks, trying again as push consumers do: a lost answer may hide an ack that counted. */
async function ack(consumer, message, journal) {
  const deadline = Date.now() + INVISIBLE_MS;
  for (;;) {
    try {
      await consumer.ack(message);
      journal.add(message, { acked: true });
      return;
    } catch (error) {
      journal.error('ack', error);
      if (error instanceof BadRequestException || Date.now() > deadline) {
        journal.add(message, { acked: false, err: errorText(error) });
        return;
      }
      await sleep(RETRY_MS);
    }
  }
}

function stopped(stop) {
  return new Promise((resolve) => {
    if (stop.aborted) resolve();
    stop.addEventListener('abort', resolve);
  });
}

/** The log of received messages and the count of errors. */
class Journal {
  #log;
  received = 0;
  errors = 0;

  constructor(path) {
    this.#log = new JsonLines(path);
  }

  add(message, outcome) {
    const { messageId: id, deliveryAttempt: attempt } = message;
    this.#log.write({ t_ms: Date.now(), v: text(message), id, attempt, ...outcome });
    this.received += 1;
  }

  error(what, error) {
    this.errors += 1;
    console.error(`${what}: ${errorText(error)}`);
  }
}
