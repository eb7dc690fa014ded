// Reads the dead-letter topic of a group, as an ordinary topic.

import { ARRIVAL_MS, INVISIBLE_MS } from './arrivals.js';
import { receiveOne } from './exchange.js';
import { sleep } from './waiting.js';

/** Fails unless the message comes from there. */
export async function expectDeadLetter(clients, group, messageId) {
  const consumer = await startWhenItExists(clients, `${group}-reader`, `%DLQ%${group}`);
  await consumer.ack(await receiveOne(consumer, messageId, ARRIVAL_MS, INVISIBLE_MS));
}

/** The topic is made with its first message. */
async function startWhenItExists(clients, group, topic) {
  const deadline = Date.now() + ARRIVAL_MS;
  for (;;) {
    try {
      return await clients.simpleConsumer(group, topic);
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await sleep(500);
    }
  }
}
