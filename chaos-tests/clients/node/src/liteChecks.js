// The checks of lite topics. A body is `<lite topic>-<number>`.

import { ConsumeResult, ConsumeResultSuspend } from 'rocketmq-client-nodejs';

import { Arrivals, expectBodies } from './arrivals.js';
import { newMessage } from './clients.js';
import { expectDeadLetter } from './deadLetters.js';
import { expect, numbered } from './exchange.js';
import { sleep } from './waiting.js';

const LITE_TOPICS = ['red', 'green', 'blue'];
const EACH = 8;
// How long what must not come gets to show up.
const QUIET_MS = 5_000;
const SUSPENDED_MS = 3_000;
// The promise is far less; the rest is for a busy machine.
const LATEST_MS = 3_000;
// The client tells the server all its subscriptions every 30 s.
const SYNCED_MS = 33_000;
const NAME_LENGTH_MAX = 64;
const ILLEGAL_LITE_TOPIC = 40020;
const LITE_TOPIC_QUOTA_EXCEEDED = 42901;
// The client counts itself, and does not use the protocol's code then.
const OWN_QUOTA_CODE = 429;

/** Of three lite topics it gets the two that it subscribed to. */
export async function litePush(clients, topic, group) {
  const came = new Arrivals();
  const misnamed = [];
  const consumer = await clients.liteConsumer(group, topic, (message) => {
    const { body } = came.add(message);
    if (!body.startsWith(`${message.liteTopic}-`)) misnamed.push(body);
  });
  await consumer.subscribeLite('red');
  await consumer.subscribeLite('green');
  await sendInTurn(clients, topic);
  await came.wait(2 * EACH);
  await sleep(QUIET_MS);
  expect(misnamed.length === 0, `came with another lite topic: ${misnamed}`);
  expectOrder(came.bodies, 'red', 'green');
  return `${2 * EACH} of ${LITE_TOPICS.length * EACH} came, in order in each lite topic`;
}

/** Subscriptions come and go while the consumer runs. */
export async function liteSubscriptions(clients, topic, group) {
  const producer = await clients.producer(topic);
  await send(producer, topic, 'red', 0);
  const came = new Arrivals();
  const consumer = await clients.liteConsumer(group, topic, (message) => came.add(message));
  await consumer.subscribeLite('red');
  await came.wait(1);
  // Nothing was ever sent there.
  await consumer.subscribeLite('green');
  await send(producer, topic, 'green', 0);
  await came.wait(2);
  await consumer.unsubscribeLite('red');
  await send(producer, topic, 'red', 1);
  await send(producer, topic, 'green', 1);
  await came.wait(3);
  await sleep(QUIET_MS);
  expectBodies(came.bodies, ['red-0', 'green-0', 'green-1']);
  await consumer.subscribeLite('red');
  await came.wait(4);
  expectBodies(came.bodies, ['red-0', 'green-0', 'green-1', 'red-1']);
  return 'what was sent without a subscriber came with the subscription';
}

/** Each of two members has a lite topic of its own, and both have a third one. */
export async function liteMembers(clients, topic, group) {
  const all = new Arrivals();
  const own = { red: new Arrivals(), green: new Arrivals() };
  for (const [liteTopic, came] of Object.entries(own)) {
    const consumer = await clients.liteConsumer(group, topic, (message) => {
      came.add(message);
      all.add(message);
    });
    await consumer.subscribeLite(liteTopic);
    await consumer.subscribeLite('blue');
  }
  await sendInTurn(clients, topic);
  await all.wait(LITE_TOPICS.length * EACH);
  await sleep(QUIET_MS);
  expectOrder(all.bodies, ...LITE_TOPICS);
  const shared = Object.entries(own).map(([liteTopic, { bodies }]) => {
    const owned = bodies.filter((body) => !body.startsWith('blue-'));
    expectOrder(owned, liteTopic);
    return bodies.length - owned.length;
  });
  return `each got its own; of the shared lite topic they got ${shared.join(' and ')}`;
}

/** The listener fails for red-0: the later red messages come after its last attempt. */
export async function liteDeadLetter(clients, topic, group) {
  const came = new Arrivals();
  const consumer = await clients.liteConsumer(group, topic, (message) => {
    if (came.add(message).body === 'red-0') throw new Error('poisoned');
  });
  await consumer.subscribeLite('red');
  const producer = await clients.producer(topic);
  const poisonId = await send(producer, topic, 'red', 0);
  await came.wait(1);
  for (const number of [1, 2]) await send(producer, topic, 'red', number);
  // This client does not know customized backoff, and so gives up after the first attempt.
  const expected = ['red-0', 'red-1', 'red-2'];
  await came.wait(expected.length);
  expectBodies(came.bodies, expected);
  await expectDeadLetter(clients, group, poisonId);
  return '1 attempt, then the dead-letter topic and the rest of its lite topic';
}

/**
 * The listener gives red back once: it comes again later, from where it was and as the same
 * attempt, while another lite topic goes on.
 */
export async function liteSuspend(clients, topic, group) {
  const producer = await clients.producer(topic);
  for (const number of [0, 1]) await send(producer, topic, 'red', number);
  const came = new Arrivals();
  const consumer = await clients.liteConsumer(group, topic, (message) => {
    const first = came.all.length === 0;
    came.add(message);
    return first ? ConsumeResultSuspend.of(SUSPENDED_MS) : ConsumeResult.SUCCESS;
  });
  await consumer.subscribeLite('red');
  await consumer.subscribeLite('green');
  await came.wait(1);
  await send(producer, topic, 'green', 0);
  await came.wait(4);
  expectBodies(came.bodies, ['red-0', 'green-0', 'red-0', 'red-1']);
  const awayMs = came.all[2].atMs - came.all[0].atMs;
  const inTime = awayMs >= SUSPENDED_MS && awayMs <= SUSPENDED_MS + LATEST_MS;
  expect(inTime, `came again after ${awayMs} ms`);
  expect(`${came.attempts}` === '1,1,1,1', `attempts ${came.attempts}`);
  return `came again after ${awayMs} ms, in order, still as attempt 1`;
}

/** A member of this group may have two subscriptions. */
export async function liteQuota(clients, topic, group) {
  const consumer = await clients.liteConsumer(group, topic, () => {});
  await consumer.subscribeLite('red');
  await consumer.subscribeLite('green');
  await expectRefused(consumer.subscribeLite('blue'), ({ code }) => code === OWN_QUOTA_CODE);
  await consumer.unsubscribeLite('red');
  await consumer.subscribeLite('blue');
  return 'the third was refused by the client, until there was one less';
}

/** This topic may have two lite topics. */
export async function liteTopicQuota(clients, topic) {
  const producer = await clients.producer(topic);
  await send(producer, topic, 'red', 0);
  await send(producer, topic, 'green', 0);
  const byServer = ({ code }) => code === LITE_TOPIC_QUOTA_EXCEEDED;
  await expectRefused(send(producer, topic, 'blue', 0), byServer);
  await send(producer, topic, 'red', 1);
  return 'the third was refused, the others go on';
}

/** In this group a lite topic belongs to the member that subscribed to it last. */
export async function liteExclusive(clients, topic, group) {
  const [ofOne, ofTwo] = [new Arrivals(), new Arrivals()];
  const one = await clients.liteConsumer(group, topic, (message) => { ofOne.add(message); });
  const two = await clients.liteConsumer(group, topic, (message) => { ofTwo.add(message); });
  await one.subscribeLite('red');
  await one.subscribeLite('green');
  const producer = await clients.producer(topic);
  await send(producer, topic, 'red', 0);
  await ofOne.wait(1);
  await two.subscribeLite('red');
  await send(producer, topic, 'red', 1);
  await ofTwo.wait(1);
  // The client does not heed that it is told, and asks for red again with that.
  await sleep(SYNCED_MS);
  await send(producer, topic, 'red', 2);
  await send(producer, topic, 'green', 0);
  await ofOne.wait(2);
  await ofTwo.wait(2);
  expectBodies(ofOne.bodies, ['red-0', 'green-0']);
  expectBodies(ofTwo.bodies, ['red-1', 'red-2']);
  return 'the former owner did not get it back, and kept the other lite topic';
}

/** Blank names do not get out of the client, and long ones only with a message. */
export async function liteIllegalName(clients, topic, group) {
  const producer = await clients.producer(topic);
  const longest = 'x'.repeat(NAME_LENGTH_MAX);
  await send(producer, topic, longest, 0);
  const tooLong = `${longest}x`;
  const byServer = ({ code }) => code === ILLEGAL_LITE_TOPIC;
  await expectRefused(send(producer, topic, tooLong, 0), byServer);
  const consumer = await clients.liteConsumer(group, topic, () => {});
  for (const name of [tooLong, ' ', '']) {
    const byClient = ({ message }) => /length|blank/.test(message);
    await expectRefused(consumer.subscribeLite(name), byClient);
  }
  return 'the longest legal name passed, longer and blank ones were refused';
}

/** Sends to all lite topics in turn. */
async function sendInTurn(clients, topic) {
  const producer = await clients.producer(topic);
  for (let i = 0; i < EACH; i++) {
    for (const liteTopic of LITE_TOPICS) await send(producer, topic, liteTopic, i);
  }
}

/** Returns the message id. */
async function send(producer, topic, liteTopic, number) {
  const { messageId } = await producer.send(
    newMessage(topic, `${liteTopic}-${number}`, { liteTopic }),
  );
  return messageId;
}

async function expectRefused(act, isReason) {
  try {
    await act;
  } catch (error) {
    expect(isReason(error), `refused for another reason: ${error.message}`);
    return;
  }
  throw new Error('not refused');
}

/** Fails unless the messages of these lite topics came, once and in order, and no others. */
function expectOrder(bodies, ...liteTopics) {
  expect(bodies.length === liteTopics.length * EACH, `${bodies.length} came: ${bodies}`);
  for (const liteTopic of liteTopics) {
    const own = bodies.filter((body) => body.startsWith(`${liteTopic}-`));
    expect(`${own}` === `${numbered(liteTopic, EACH)}`, `came as ${own}`);
  }
}
