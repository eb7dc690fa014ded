// The check of the group's retry policy: 3 attempts.
//
// Not here: the time between them, since this client does not know customized backoff.

import { Arrivals } from './arrivals.js';
import { newMessage } from './clients.js';
import { expectDeadLetter } from './deadLetters.js';
import { expect } from './exchange.js';

export async function retryBackoff(clients, topic, group) {
  const came = new Arrivals();
  await clients.pushConsumer(group, topic, (message) => {
    came.add(message);
    throw new Error('poisoned');
  });
  const producer = await clients.producer(topic);
  const { messageId } = await producer.send(newMessage(topic, 'poison'));
  await came.wait(3);
  await expectDeadLetter(clients, group, messageId);
  expect(`${came.attempts}` === '1,2,3', `attempts ${came.attempts}`);
  return `attempts ${came.attempts}, then the dead-letter topic`;
}
