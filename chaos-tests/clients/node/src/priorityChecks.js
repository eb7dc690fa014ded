// The check of priorities.

import { ARRIVAL_MS, INVISIBLE_MS } from './arrivals.js';
import { newMessage } from './clients.js';
import { expect } from './exchange.js';

const PRIORITIES = 3;
const MESSAGES = 12;
// Smaller than the messages of one priority, so that more than one receive is needed.
const BATCH = 3;

/** Out of a backlog, higher ones come first. */
export async function priority(clients, topic, group) {
  const producer = await clients.producer(topic);
  for (let i = 0; i < MESSAGES; i++) {
    // Not 0, which this client takes for none.
    await producer.send(newMessage(topic, `message-${i}`, { priority: 1 + (i % PRIORITIES) }));
  }
  const consumer = await clients.simpleConsumer(group, topic);
  const received = [];
  const deadline = Date.now() + ARRIVAL_MS;
  while (received.length < MESSAGES) {
    expect(Date.now() < deadline, `only ${received} came`);
    for (const message of await consumer.receive(BATCH, INVISIBLE_MS)) {
      received.push(message.priority);
      await consumer.ack(message);
    }
  }
  const sorted = [...received].sort((a, b) => b - a);
  expect(`${received}` === `${sorted}`, `came as ${received}`);
  return `came as ${received}`;
}
