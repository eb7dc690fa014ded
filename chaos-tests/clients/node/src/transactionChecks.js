// The checks of transactional messages.

import { createRequire } from 'node:module';

import { Arrivals, expectBodies } from './arrivals.js';
import { newMessage, text } from './clients.js';
import { expect } from './exchange.js';

// The package does not export what a checker has to answer with.
const { TransactionResolution } = createRequire(import.meta.url)(
  'rocketmq-client-nodejs/proto/apache/rocketmq/v2/definition_pb.js',
);

const { COMMIT, ROLLBACK } = TransactionResolution;
export const UNKNOWN = TransactionResolution.TRANSACTION_RESOLUTION_UNSPECIFIED;

// Several check-backs would have come by then.
const QUIET_MS = 4_000;

export async function transaction(clients, topic, group) {
  const asked = [];
  const producer = await clients.transactionProducer(topic, (message) => {
    asked.push(text(message));
    return UNKNOWN;
  });
  const consumer = await clients.simpleConsumer(group, topic);
  await (await begin(producer, topic, 'committed')).commit();
  await (await begin(producer, topic, 'rolled-back')).rollback();
  const came = new Arrivals();
  await came.receive(consumer, 1);
  await came.receiveFor(consumer, QUIET_MS);
  expectBodies(came.bodies, ['committed']);
  expect(asked.length === 0, `asked about ended transactions: ${asked}`);
  return 'only the committed one came, and nobody asked';
}

/** No transaction is ended here: the server asks. About one it must ask twice. */
export async function transactionCheck(clients, topic, group) {
  const asked = { commit: 0, rollback: 0, unknown: 0 };
  const producer = await clients.transactionProducer(topic, (message) => {
    const body = text(message);
    asked[body] += 1;
    if (body === 'commit' || (body === 'unknown' && asked.unknown > 1)) return COMMIT;
    return body === 'rollback' ? ROLLBACK : UNKNOWN;
  });
  const consumer = await clients.simpleConsumer(group, topic);
  for (const body of Object.keys(asked)) await begin(producer, topic, body);
  const came = new Arrivals();
  await came.receive(consumer, 2);
  await came.receiveFor(consumer, QUIET_MS);
  expectBodies(came.bodies.sort(), ['commit', 'unknown']);
  const seen = `asked ${JSON.stringify(asked)}`;
  expect(asked.commit > 0 && asked.rollback > 0 && asked.unknown > 1, seen);
  return `${seen}; committed ones came`;
}

/** Sends a half message; returns its transaction. */
export async function begin(producer, topic, body) {
  const begun = producer.beginTransaction();
  await producer.send(newMessage(topic, body), begun);
  return begun;
}
