// The checks of `interop`, in the order they run. Each returns a sentence on what it saw.
//
// A check throws when it fails. Bodies are unique by check, because several checks share a topic.

import { newMessage } from './clients.js';
import {
  Tally, collect, expect, numbered, receiveAndAck, receiveOne, sendAll, sendConcurrently, watch,
} from './exchange.js';
import { sleep, within } from './waiting.js';

const INVALID_RECEIPT_HANDLE = 40013;
const TOPIC_NOT_FOUND = 40402;
const BODY_BYTES_MAX = 4 * 1024 * 1024;

// The shortest invisible duration that brokers have to accept.
const INVISIBLE_MS_MIN = 10_000;
const RECEIVE_MS = 30_000;
const LATE_MS = 3_000;

async function sendSync({ topic }, clients) {
  const producer = await clients.producer(topic);
  const receipt = await producer.send(newMessage(topic, 'send-sync'));
  expect(receipt.messageId, 'no message id');
  return `message id ${receipt.messageId}`;
}

async function sendAsync({ topic }, clients) {
  const bodies = numbered('send-async', 10);
  const ids = await sendConcurrently(await clients.producer(topic), topic, bodies, bodies.length);
  expect(new Set(ids).size === bodies.length, `message ids are not distinct: ${ids}`);
  return `${ids.length} sends under way at once`;
}

async function pushConsume({ topic: base, group }, clients) {
  const topic = `${base}-push`;
  const wanted = numbered('push', 20);
  const tally = new Tally(wanted);
  await clients.pushConsumer(`${group}-push`, topic, (message) => tally.add(message));
  await sendAll(await clients.producer(topic), topic, wanted);
  await Promise.race([tally.finished, sleep(RECEIVE_MS)]);
  await sleep(LATE_MS);
  tally.expectEachOnce();
  return '20 of 20, each once';
}

async function simpleConsumeAck({ topic, group }, clients) {
  const wanted = numbered('simple', 20);
  const consumer = await clients.simpleConsumer(group, topic);
  await sendAll(await clients.producer(topic), topic, wanted);
  const tally = await collect(consumer, wanted, RECEIVE_MS, INVISIBLE_MS_MIN);
  await watch(consumer, tally, INVISIBLE_MS_MIN + LATE_MS, INVISIBLE_MS_MIN);
  tally.expectEachOnce();
  return '20 of 20 acked, none came again';
}

async function redelivery({ topic: base, group }, clients) {
  const topic = `${base}-redeliver`;
  const consumer = await clients.simpleConsumer(`${group}-redeliver`, topic);
  const [id] = await sendAll(await clients.producer(topic), topic, ['redelivery']);
  const first = await receiveOne(consumer, id, RECEIVE_MS, INVISIBLE_MS_MIN);
  const received = Date.now();
  const again = await receiveOne(consumer, id, RECEIVE_MS, INVISIBLE_MS_MIN);
  const invisibleMs = Date.now() - received;
  await consumer.ack(again);
  const attempts = [first.deliveryAttempt, again.deliveryAttempt];
  expect(attempts[0] === 1 && attempts[1] === 2, `delivery attempts ${attempts}`);
  expect(invisibleMs > INVISIBLE_MS_MIN - 1_000, `came again after ${invisibleMs} ms`);
  return `attempt 2 after ${invisibleMs} ms, same message id`;
}

async function changeInvisible({ topic: base, group }, clients) {
  const topic = `${base}-invisible`;
  const consumer = await clients.simpleConsumer(`${group}-invisible`, topic);
  const [id] = await sendAll(await clients.producer(topic), topic, ['change-invisible']);
  const message = await receiveOne(consumer, id, RECEIVE_MS, 30_000);
  const stale = Object.create(message, { receiptHandle: { value: message.receiptHandle } });
  const changed = Date.now();
  await consumer.changeInvisibleDuration(message, INVISIBLE_MS_MIN);
  const refusal = await refusalOf(consumer.ack(stale), 'an ack with a stale receipt handle');
  expect(refusal.code === INVALID_RECEIPT_HANDLE, `stale receipt handle gave ${refusal.message}`);
  const again = await receiveOne(consumer, id, RECEIVE_MS, 30_000);
  const invisibleMs = Date.now() - changed;
  await consumer.ack(again);
  expect(
    invisibleMs > INVISIBLE_MS_MIN - 1_000 && invisibleMs < 25_000,
    `came again ${invisibleMs} ms after a change to ${INVISIBLE_MS_MIN} ms`,
  );
  return `came again ${invisibleMs} ms after the change; stale receipt handle refused`;
}

async function tagFilter({ topic: base, group }, clients) {
  const topic = `${base}-tag`;
  const consumer = await clients.simpleConsumer(`${group}-tag`, topic, 'a || b');
  const producer = await clients.producer(topic);
  for (let i = 0; i < 5; i++) {
    for (const tag of ['a', 'b', 'c']) {
      await producer.send(newMessage(topic, `tag-${tag}-${i}`, { tag }));
    }
  }
  const wanted = [...numbered('tag-a', 5), ...numbered('tag-b', 5)];
  const tally = await collect(consumer, wanted, RECEIVE_MS);
  await watch(consumer, tally, LATE_MS);
  tally.expectEachOnce();
  expect(tally.others === 0, 'received a message that the filter excludes');
  return '10 of 10 with tag a or b, none with c';
}

async function twoGroups({ topic2: topic, group, group2 }, clients) {
  const wanted = numbered('two-groups', 20);
  const consumers = [];
  for (const each of [group, group2]) consumers.push(await clients.simpleConsumer(each, topic));
  await sendAll(await clients.producer(topic), topic, wanted);
  for (const consumer of consumers) {
    const tally = await collect(consumer, wanted, RECEIVE_MS);
    tally.expectEachOnce();
  }
  return 'each group received 20 of 20';
}

async function sharedGroup({ topic: base, group }, clients) {
  const topic = `${base}-shared`;
  const wanted = numbered('shared', 60);
  const consumers = [];
  for (let i = 0; i < 2; i++) {
    consumers.push(await clients.simpleConsumer(`${group}-shared`, topic));
  }
  await sendAll(await clients.producer(topic), topic, wanted);
  const union = new Tally(wanted);
  const deadline = Date.now() + RECEIVE_MS;
  const take = async (consumer) => {
    let taken = 0;
    while (!union.complete() && Date.now() < deadline) {
      // Small batches, so that neither can take everything in one receive.
      const messages = await receiveAndAck(consumer, RECEIVE_MS, 4);
      for (const message of messages) union.add(message);
      taken += messages.length;
    }
    return taken;
  };
  const shares = await Promise.all(consumers.map(take));
  union.expectEachOnce();
  expect(shares.every((share) => share > 0), `one consumer got nothing: ${shares}`);
  return `shares ${shares.join(' + ')}, no overlap`;
}

async function unknownTopic({ topic }, clients) {
  const producer = await clients.producer();
  const unknown = newMessage(`${topic}-unknown`, 'unknown-topic');
  const refusal = await refusalOf(producer.send(unknown), 'a send to an unknown topic');
  expect(refusal.code === TOPIC_NOT_FOUND, `unexpected refusal ${refusal.message}`);
  await producer.send(newMessage(topic, 'after-unknown-topic'));
  return `code ${refusal.code}; the producer goes on`;
}

async function bodyTooLarge({ topic }, clients) {
  const producer = await clients.producer(topic);
  const body = Buffer.alloc(BODY_BYTES_MAX + 1);
  const refusal = await refusalOf(producer.send(newMessage(topic, body)), 'a body of 4 MiB + 1');
  return `refused by ${refusal.code ? 'the server' : 'the client itself'}: ${refusal.message}`;
}

async function propertiesAndKeys({ topic, group }, clients) {
  const sent = newMessage(topic, Buffer.from(Array.from({ length: 256 }, (_, i) => i)), {
    tag: 'tag-é',
    keys: ['key-1', 'key-2'],
    properties: new Map([['colour', 'dark blue'], ['größe', '☃']]),
  });
  const consumer = await clients.simpleConsumer(group, topic);
  const producer = await clients.producer(topic);
  const { messageId } = await producer.send(sent);
  const received = await receiveOne(consumer, messageId, RECEIVE_MS, 30_000);
  await consumer.ack(received);
  const comparable = ({ body, tag, keys, properties }) =>
    JSON.stringify([body.toString('hex'), tag, keys, [...properties].sort()]);
  expect(
    comparable(sent) === comparable(received),
    `sent ${comparable(sent)}, received ${comparable(received)}`,
  );
  expect(!received.corrupted, 'body digest does not match');
  return 'tag, keys, properties and body unchanged, same message id';
}

async function bulk({ topic: base, group, count }, clients) {
  const topic = `${base}-bulk`;
  const wanted = numbered('bulk', Number(count)).map((body) => body.padEnd(256, '.'));
  const tally = new Tally(wanted);
  await clients.pushConsumer(`${group}-bulk`, topic, (message) => tally.add(message));
  const producer = await clients.producer(topic);
  const started = Date.now();
  await sendConcurrently(producer, topic, wanted, 64);
  const sent = Date.now();
  const receiveMsMax = RECEIVE_MS + wanted.length * 10;
  await within(receiveMsMax, tally.finished, 'receiving').catch(() => tally.expectEachOnce());
  const received = Date.now();
  await sleep(LATE_MS);
  tally.expectEachOnce();
  const rate = (ms) => `${Math.round((wanted.length * 1000) / ms)}/s`;
  return `${wanted.length} messages, 0 lost, 0 duplicates, sent ${rate(sent - started)}, ` +
    `sent and received ${rate(received - started)}`;
}

/** The error that `promise` rejects with. */
async function refusalOf(promise, what) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error(`${what} was accepted`);
}

export const CHECKS = {
  send_sync: sendSync,
  send_async: sendAsync,
  push_consume: pushConsume,
  simple_consume_ack: simpleConsumeAck,
  redelivery,
  change_invisible: changeInvisible,
  tag_filter: tagFilter,
  two_groups: twoGroups,
  shared_group: sharedGroup,
  unknown_topic: unknownTopic,
  body_too_large: bodyTooLarge,
  properties_and_keys: propertiesAndKeys,
  bulk,
};
