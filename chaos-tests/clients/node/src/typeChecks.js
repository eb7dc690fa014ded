// The checks of topic types.

import { Arrivals, expectBodies } from './arrivals.js';
import { newMessage } from './clients.js';
import { expect } from './exchange.js';
import { UNKNOWN, begin } from './transactionChecks.js';

const MESSAGE_PROPERTY_CONFLICT_WITH_TYPE = 40014;
const TYPES = ['delay', 'fifo', 'normal', 'transaction'];

/** Each topic refuses the three types that it does not have. */
export async function wrongType(clients, topic) {
  let refused = 0;
  for (const topicType of TYPES) {
    const ownTopic = `${topic}-${topicType}`;
    const producer = await clients.transactionProducer(ownTopic, () => UNKNOWN);
    await sendOfType(producer, ownTopic, topicType);
    for (const type of TYPES.filter((other) => other !== topicType)) {
      await expectRefused(producer, ownTopic, type);
      refused += 1;
    }
  }
  return `${refused} of ${refused} refused`;
}

export async function mixed(clients, topic, group) {
  const producer = await clients.transactionProducer(topic, () => UNKNOWN);
  const consumer = await clients.simpleConsumer(group, topic);
  for (const type of TYPES) await sendOfType(producer, topic, type);
  const came = new Arrivals();
  await came.receive(consumer, TYPES.length);
  expectBodies(came.bodies.sort(), TYPES);
  return 'all four came';
}

/** Sends a message of this type; its body is the type. */
async function sendOfType(producer, topic, type) {
  if (type === 'transaction') {
    await (await begin(producer, topic, type)).commit();
    return;
  }
  const more = {
    normal: {},
    fifo: { messageGroup: 'group' },
    delay: { deliveryTimestamp: new Date(Date.now() + 1_000) },
  };
  await producer.send(newMessage(topic, type, more[type]));
}

/** By the client, which has the types from the route, or by the server. */
async function expectRefused(producer, topic, type) {
  try {
    await sendOfType(producer, topic, type);
  } catch (error) {
    const byClient = error.message.includes('not match with topic accept message types');
    expect(
      byClient || error.code === MESSAGE_PROPERTY_CONFLICT_WITH_TYPE,
      `refused for another reason: ${error.message}`,
    );
    return;
  }
  throw new Error(`${topic} took a message of type ${type}`);
}
