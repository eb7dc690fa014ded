// The checks of messages with a delivery timestamp.

import { Arrivals, expectBodies } from './arrivals.js';
import { newMessage } from './clients.js';
import { expect } from './exchange.js';
import { sleep } from './waiting.js';

const DELAY_MS = 4_000;
// The promise is far less; the rest is for a busy machine.
const LATE_MS_MAX = 3_000;

export async function delay(clients, topic, group) {
  const consumer = await clients.simpleConsumer(group, topic);
  const producer = await clients.producer(topic);
  const sentMs = Date.now();
  const dueMs = sentMs + DELAY_MS;
  await sendAt(producer, topic, 'future', dueMs);
  await sendAt(producer, topic, 'past', sentMs - 60_000);
  const came = new Arrivals();
  await came.receive(consumer, 2);
  expectBodies(came.bodies, ['past', 'future']);
  const [pastMs, lateMs] = [came.all[0].atMs - sentMs, came.all[1].atMs - dueMs];
  const seen = `came ${lateMs} ms after its time; from the past after ${pastMs} ms`;
  expect(pastMs <= LATE_MS_MAX && lateMs >= 0 && lateMs <= LATE_MS_MAX, seen);
  return seen;
}

export async function recall(clients, topic, group) {
  const consumer = await clients.simpleConsumer(group, topic);
  const producer = await clients.producer(topic);
  const dueMs = Date.now() + DELAY_MS;
  const recalled = await sendAt(producer, topic, 'recalled', dueMs);
  const kept = await sendAt(producer, topic, 'kept', dueMs);
  // Twice: as after an answer that got lost.
  for (let i = 0; i < 2; i++) {
    const { messageId } = await producer.recallMessage(topic, recalled.recallHandle);
    expect(messageId === recalled.messageId, `recalled ${messageId}`);
  }
  const came = new Arrivals();
  await came.receive(consumer, 1);
  await sleep(1_000);
  await came.receiveFor(consumer, 1_000);
  expectBodies(came.bodies, ['kept']);
  const late = await refusal(producer, topic, kept);
  return `only the other one came; recalled after delivery: ${late}`;
}

function sendAt(producer, topic, body, dueMs) {
  return producer.send(newMessage(topic, body, { deliveryTimestamp: new Date(dueMs) }));
}

async function refusal(producer, topic, receipt) {
  try {
    await producer.recallMessage(topic, receipt.recallHandle);
  } catch (error) {
    return error.message;
  }
  throw new Error('recalled what is not pending any more');
}
