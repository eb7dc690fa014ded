// The checks of SQL92 filters on user properties.

import { FilterExpression } from 'rocketmq-client-nodejs';

import { Arrivals, INVISIBLE_MS, expectBodies } from './arrivals.js';
import { newMessage } from './clients.js';
import { expect } from './exchange.js';
import { sleep } from './waiting.js';

const ILLEGAL_FILTER_EXPRESSION = 40010;
const QUIET_MS = 3_000;

// The package does not export the enum of filter types.
const SQL = 2;
const FILTER = new FilterExpression("a > 5 AND b = 'x'", SQL);
const MATCHING = ['six', 'ten'];
// Properties by body.
const MESSAGES = {
  six: { a: '6', b: 'x' },
  ten: { a: '10', b: 'x' },
  five: { a: '5', b: 'x' },
  'no-number': { a: 'many', b: 'x' },
  'other-b': { a: '6', b: 'y' },
  'no-a': { b: 'x' },
  'no-b': { a: '6' },
};

export async function sqlFilterSimple(clients, topic, group) {
  await sendMessages(clients, topic);
  const consumer = await clients.simpleConsumer(group, topic, FILTER);
  const came = new Arrivals();
  await came.receive(consumer, MATCHING.length);
  await came.receiveFor(consumer, QUIET_MS);
  return expectMatching(came);
}

export async function sqlFilterPush(clients, topic, group) {
  await sendMessages(clients, topic);
  const came = new Arrivals();
  await clients.pushConsumer(group, topic, (message) => came.add(message), FILTER);
  await came.wait(MATCHING.length);
  await sleep(QUIET_MS);
  return expectMatching(came);
}

export async function sqlMalformed(clients, topic, group) {
  const malformed = new FilterExpression('a > 5 AND', SQL);
  const consumer = await clients.simpleConsumer(group, topic, malformed);
  try {
    await consumer.receive(1, INVISIBLE_MS);
  } catch (error) {
    expect(error.code === ILLEGAL_FILTER_EXPRESSION, `unexpected: ${error.message}`);
    return error.message;
  }
  throw new Error('a malformed expression was accepted');
}

async function sendMessages(clients, topic) {
  const producer = await clients.producer(topic);
  for (const [body, byName] of Object.entries(MESSAGES)) {
    const properties = new Map(Object.entries(byName));
    await producer.send(newMessage(topic, body, { properties }));
  }
}

function expectMatching(came) {
  expectBodies(came.bodies.sort(), MATCHING);
  return `${MATCHING.length} of ${Object.keys(MESSAGES).length} came`;
}
