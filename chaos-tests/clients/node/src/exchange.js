// Sending sets of messages and collecting them again: the common part of the checks.

import { newMessage, text } from './clients.js';

const RECEIVE_BATCH = 16;
const INVISIBLE_MS = 30_000;

/** Sends one after the other; returns the message ids. */
export function sendAll(producer, topic, bodies) {
  return sendConcurrently(producer, topic, bodies, 1);
}

/** Sends with up to `outstandingMax` sends under way; returns the message ids. */
export async function sendConcurrently(producer, topic, bodies, outstandingMax) {
  const ids = [];
  const remaining = bodies.values();
  const sendRemaining = async () => {
    for (const body of remaining) {
      const receipt = await producer.send(newMessage(topic, body));
      ids.push(receipt.messageId);
    }
  };
  await Promise.all(Array.from({ length: outstandingMax }, sendRemaining));
  return ids;
}

/** One receive; acknowledges and returns what it brought. */
export async function receiveAndAck(consumer, invisibleMs = INVISIBLE_MS, batch = RECEIVE_BATCH) {
  const messages = await consumer.receive(batch, invisibleMs);
  for (const message of messages) await consumer.ack(message);
  return messages;
}

/** Receives and acks until every wanted body was seen; returns the tally. */
export async function collect(consumer, wanted, ms, invisibleMs) {
  const tally = new Tally(wanted);
  const deadline = Date.now() + ms;
  while (!tally.complete() && Date.now() < deadline) {
    for (const message of await receiveAndAck(consumer, invisibleMs)) tally.add(message);
  }
  return tally;
}

/** Receives and acks for the whole time, going on with `tally`. */
export async function watch(consumer, tally, ms, invisibleMs) {
  const deadline = Date.now() + ms;
  while (Date.now() < deadline) {
    for (const message of await receiveAndAck(consumer, invisibleMs)) tally.add(message);
  }
}

/** Receives until the message with this id comes and returns it without an ack. */
export async function receiveOne(consumer, messageId, ms, invisibleMs) {
  const deadline = Date.now() + ms;
  while (Date.now() < deadline) {
    for (const message of await consumer.receive(RECEIVE_BATCH, invisibleMs)) {
      if (message.messageId === messageId) return message;
      await consumer.ack(message);
    }
  }
  throw new Error(`message ${messageId} not received within ${ms} ms`);
}

/** Counts how often each wanted body was received; others belong to other checks. */
export class Tally {
  #times;
  #distinct = 0;
  #finish;
  others = 0;

  constructor(wanted) {
    this.#times = new Map(wanted.map((body) => [body, 0]));
    this.finished = new Promise((resolve) => { this.#finish = resolve; });
  }

  add(message) {
    const body = text(message);
    const times = this.#times.get(body);
    if (times === undefined) {
      this.others += 1;
      return;
    }
    this.#times.set(body, times + 1);
    if (times === 0) this.#distinct += 1;
    if (this.complete()) this.#finish();
  }

  get distinct() {
    return this.#distinct;
  }

  complete() {
    return this.#distinct === this.#times.size;
  }

  expectEachOnce() {
    const bodies = [...this.#times.keys()];
    const lost = bodies.filter((body) => this.#times.get(body) === 0);
    const repeated = bodies.filter((body) => this.#times.get(body) > 1);
    expect(lost.length === 0, `${lost.length} of ${bodies.length} not received: ${sample(lost)}`);
    expect(repeated.length === 0, `received more than once: ${sample(repeated)}`);
  }
}

function sample(bodies) {
  return bodies.slice(0, 3).join(' ');
}

export function expect(condition, otherwise) {
  if (!condition) throw new Error(otherwise);
}

export function numbered(prefix, count) {
  return Array.from({ length: count }, (_, i) => `${prefix}-${i}`);
}
