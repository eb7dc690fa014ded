// What arrived, in the order it did: the common part of the checks of features.

import { text } from './clients.js';
import { expect } from './exchange.js';
import { sleep } from './waiting.js';

const RECEIVE_BATCH = 16;
// The shortest invisible duration that brokers have to accept.
export const INVISIBLE_MS = 10_000;
// Of what must come, on a busy machine.
export const ARRIVAL_MS = 30_000;

export class Arrivals {
  all = [];

  add(message) {
    const { messageId: id, deliveryAttempt: attempt } = message;
    const arrival = { body: text(message), id, attempt, atMs: Date.now() };
    this.all.push(arrival);
    return arrival;
  }

  get bodies() {
    return this.all.map(({ body }) => body);
  }

  get attempts() {
    return this.all.map(({ attempt }) => attempt);
  }

  /** Waits until so many have come through a listener. */
  async wait(count) {
    const deadline = Date.now() + ARRIVAL_MS;
    while (this.all.length < count && Date.now() < deadline) await sleep(10);
    this.#expectCount(count);
  }

  /** Receives, notes and acks until so many have come. */
  async receive(consumer, count) {
    const deadline = Date.now() + ARRIVAL_MS;
    while (this.all.length < count && Date.now() < deadline) await this.#receiveOnce(consumer);
    this.#expectCount(count);
  }

  /** The same for the whole time. */
  async receiveFor(consumer, ms) {
    const deadline = Date.now() + ms;
    while (Date.now() < deadline) await this.#receiveOnce(consumer);
  }

  async #receiveOnce(consumer) {
    for (const message of await consumer.receive(RECEIVE_BATCH, INVISIBLE_MS)) {
      // Before the ack, after which another consumer may get what comes next.
      this.add(message);
      await consumer.ack(message);
    }
  }

  #expectCount(count) {
    expect(this.all.length >= count, `only ${this.bodies} came within ${ARRIVAL_MS} ms`);
  }
}

export function expectBodies(actual, expected) {
  expect(`${actual}` === `${expected}`, `came: ${actual}`);
}
