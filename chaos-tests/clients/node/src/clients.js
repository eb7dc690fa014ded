// The official client's objects, made the same way everywhere in this driver.

import {
  ConsumeResult, LitePushConsumerImpl, Producer, PushConsumer, SimpleConsumer, getDefaultLogger,
} from 'rocketmq-client-nodejs';

import { within } from './waiting.js';

// Long poll of a simple consumer. Shorter than the client's 30 s, so that a check that waits for
// "nothing more" ends soon; brokers may refuse polls under 5 s.
const AWAIT_MS = 5_000;

// The client itself waits without limit for the settings that the server sends at start.
const STARTUP_MS_MAX = 30_000;

// The client's own logger, less `close`: a client closes it at shutdown and then logs once more,
// which ends as an error on stderr.
const logger = Object.assign(getDefaultLogger(), { close: undefined });

export class Clients {
  #endpoints;
  #started = [];

  constructor(endpoints) {
    this.#endpoints = endpoints;
  }

  producer(...topics) {
    return this.#start(new Producer({ endpoints: this.#endpoints, topics, logger }));
  }

  /** Can send transactional messages too, about which the server may ask `check`. */
  transactionProducer(topic, check) {
    const checker = { check: async (message) => check(message) };
    const endpoints = this.#endpoints;
    return this.#start(new Producer({ endpoints, topics: [topic], checker, logger }));
  }

  /** `filter` is tags, or a FilterExpression. */
  simpleConsumer(group, topic, filter = '*') {
    return this.#start(new SimpleConsumer({
      ...this.#subscription(group, topic, filter),
      awaitDuration: AWAIT_MS,
    }));
  }

  /** An error of `onMessage` means that the message could not be consumed. */
  pushConsumer(group, topic, onMessage, filter = '*') {
    const consume = (message) => {
      onMessage(message);
      return ConsumeResult.SUCCESS;
    };
    return this.#start(new PushConsumer({
      ...this.#subscription(group, topic, filter),
      messageListener: { consume },
    }));
  }

  /**
   * Gets nothing until it subscribes to lite topics of the topic. An error of `onMessage` means
   * that the message could not be consumed; it may return another result than success.
   */
  liteConsumer(consumerGroup, bindTopic, onMessage) {
    const consume = (message) => {
      const result = onMessage(message);
      return result instanceof ConsumeResult ? result : ConsumeResult.SUCCESS;
    };
    return this.#start(new LitePushConsumerImpl({
      endpoints: this.#endpoints,
      // The client has no default for it here.
      namespace: '',
      consumerGroup,
      bindTopic,
      messageListener: { consume },
      logger,
    }));
  }

  async close() {
    await Promise.allSettled(this.#started.map((client) => client.shutdown()));
  }

  #subscription(consumerGroup, topic, filter) {
    const subscriptions = new Map([[topic, filter]]);
    return { endpoints: this.#endpoints, consumerGroup, subscriptions, logger };
  }

  async #start(client) {
    await within(STARTUP_MS_MAX, client.startup(), 'startup');
    this.#started.push(client);
    return client;
  }
}

export function newMessage(topic, body, more = {}) {
  return { topic, body: Buffer.from(body), ...more };
}

export function text(message) {
  return message.body.toString();
}
