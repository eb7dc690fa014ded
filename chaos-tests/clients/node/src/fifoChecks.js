// The checks of message groups. A body is `<message group>-<number>`.

import { ARRIVAL_MS, Arrivals, INVISIBLE_MS, expectBodies } from './arrivals.js';
import { newMessage } from './clients.js';
import { expectDeadLetter } from './deadLetters.js';
import { expect, numbered, receiveOne } from './exchange.js';

const MESSAGE_GROUPS = ['red', 'green', 'blue'];
const EACH = 8;
// Well before red-0 becomes visible again.
const UNBLOCKED_MS = 8_000;

/** Two consumers share the group; a message is noted before it is acked. */
export async function fifoOrderSimple(clients, topic, group) {
  await sendInTurn(clients, topic);
  const came = new Arrivals();
  const member = async () => {
    const consumer = await clients.simpleConsumer(group, topic);
    await came.receive(consumer, EACH * MESSAGE_GROUPS.length);
  };
  await Promise.all([member(), member()]);
  return expectOrder(came.bodies);
}

export async function fifoOrderPush(clients, topic, group) {
  await sendInTurn(clients, topic);
  const came = new Arrivals();
  await clients.pushConsumer(group, topic, (message) => came.add(message));
  await came.wait(EACH * MESSAGE_GROUPS.length);
  return expectOrder(came.bodies);
}

/** red-0 is not acked: green and blue go on, and red comes again, in order. */
export async function fifoBlocked(clients, topic, group) {
  const producer = await clients.producer(topic);
  const consumer = await clients.simpleConsumer(group, topic);
  const redId = await send(producer, topic, 'red', 0);
  await receiveOne(consumer, redId, ARRIVAL_MS, INVISIBLE_MS);
  const outMs = Date.now();
  for (let i = 0; i < EACH; i++) {
    for (const messageGroup of MESSAGE_GROUPS) {
      if (messageGroup !== 'red' || i > 0) await send(producer, topic, messageGroup, i);
    }
  }
  const came = new Arrivals();
  await came.receive(consumer, EACH * (MESSAGE_GROUPS.length - 1));
  const unblockedMs = Date.now() - outMs;
  const isRed = ({ body }) => body.startsWith('red-');
  expect(!came.all.some(isRed), `came while red-0 was out: ${came.bodies}`);
  expect(unblockedMs < UNBLOCKED_MS, `the others took ${unblockedMs} ms`);
  await came.receive(consumer, EACH * MESSAGE_GROUPS.length);
  const again = came.all.find(isRed);
  const isAgain = again.body === 'red-0' && again.attempt === 2;
  expect(isAgain, `came again first: ${JSON.stringify(again)}`);
  expectOrder(came.bodies);
  return `the others came within ${unblockedMs} ms, then red in order, red-0 as attempt 2`;
}

/** The listener fails for red-0: the later red messages come after its last attempt. */
export async function fifoDeadLetter(clients, topic, group) {
  const came = new Arrivals();
  await clients.pushConsumer(group, topic, (message) => {
    if (came.add(message).body === 'red-0') throw new Error('poisoned');
  });
  const producer = await clients.producer(topic);
  const poisonId = await send(producer, topic, 'red', 0);
  await came.wait(1);
  for (const number of [1, 2]) await send(producer, topic, 'red', number);
  // This client does not know customized backoff, and so gives up after the first attempt.
  const expected = ['red-0', 'red-1', 'red-2'];
  await came.wait(expected.length);
  expectBodies(came.bodies, expected);
  await expectDeadLetter(clients, group, poisonId);
  return '1 attempt, then the dead-letter topic and the rest of its group';
}

/** Sends to all message groups in turn. */
async function sendInTurn(clients, topic) {
  const producer = await clients.producer(topic);
  for (let i = 0; i < EACH; i++) {
    for (const messageGroup of MESSAGE_GROUPS) await send(producer, topic, messageGroup, i);
  }
}

/** Returns the message id. */
async function send(producer, topic, messageGroup, number) {
  const message = newMessage(topic, `${messageGroup}-${number}`, { messageGroup });
  const { messageId } = await producer.send(message);
  return messageId;
}

function expectOrder(bodies) {
  for (const messageGroup of MESSAGE_GROUPS) {
    const own = bodies.filter((body) => body.startsWith(`${messageGroup}-`));
    expect(`${own}` === `${numbered(messageGroup, EACH)}`, `came as ${own}`);
  }
  return `${EACH * MESSAGE_GROUPS.length} in order in each message group`;
}
