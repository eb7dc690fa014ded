// `produce`: an open loop of sends; every outcome goes to the log.

import { EventEmitter, once } from 'node:events';

import { Clients, newMessage } from './clients.js';
import { JsonLines, errorText } from './records.js';
import { report, sleep, stopOnSignal, within } from './waiting.js';

const FIRST_SEND_RETRY_MS = 500;
const DRAIN_MS_MAX = 60_000;
const CLOSE_MS_MAX = 10_000;

export async function run(options) {
  const stop = stopOnSignal();
  // The client throws from its own timers and streams when a connection breaks.
  process.on('uncaughtException', (error) => console.error('uncaught:', errorText(error)));
  const clients = new Clients(options.endpoint);
  const producer = await clients.producer(options.topic);
  const load = new Load(producer, options.topic, options.log, Number(options.concurrency));
  while (!stop.aborted && load.ok === 0) {
    await load.send();
    await load.drain();
    if (load.ok === 0) await sleep(FIRST_SEND_RETRY_MS, stop);
  }
  if (load.ok > 0) {
    console.log('READY');
    await sendAtRate(load, Number(options.rate), Number(options.seconds), stop);
  }
  await within(DRAIN_MS_MAX, load.drain(), 'draining').catch(report);
  console.log(JSON.stringify(load.summary()));
  await within(CLOSE_MS_MAX, clients.close(), 'shutdown').catch(report);
  return 0;
}

/** Sends on schedule, whatever became of the sends before. */
async function sendAtRate(load, rate, seconds, stop) {
  const begin = performance.now();
  for (let i = 0; i < rate * seconds && !stop.aborted; i++) {
    const aheadMs = begin + (i * 1000) / rate - performance.now();
    if (aheadMs > 0) await sleep(aheadMs, stop);
    await load.send();
  }
}

/** Sends messages with increasing numbers and keeps account of the outcomes. */
class Load extends EventEmitter {
  #producer;
  #topic;
  #log;
  #outstandingMax;
  #sent = 0;
  #failed = 0;
  #lastOkMs;
  #gapMsMax = 0;
  ok = 0;

  constructor(producer, topic, logPath, outstandingMax) {
    super();
    this.#producer = producer;
    this.#topic = topic;
    this.#log = new JsonLines(logPath);
    this.#outstandingMax = outstandingMax;
  }

  /** Starts one send; waits only while too many are outstanding. */
  async send() {
    while (this.#outstanding() >= this.#outstandingMax) await once(this, 'outcome');
    const v = `P${process.pid}-${this.#sent}`;
    this.#sent += 1;
    const startedMs = Date.now();
    this.#producer.send(newMessage(this.#topic, v)).then(
      ({ messageId }) => this.#finish(startedMs, v, { ok: true, id: messageId }),
      (error) => this.#finish(startedMs, v, { ok: false, err: errorText(error) }),
    );
  }

  /** Waits until no send is outstanding. */
  async drain() {
    while (this.#outstanding() > 0) await once(this, 'outcome');
  }

  summary() {
    const { ok } = this;
    return { sent: this.#sent, ok, failed: this.#failed, max_gap_ms: this.#gapMsMax };
  }

  #finish(startedMs, v, outcome) {
    const endedMs = Date.now();
    this.#log.write({ t_ms: startedMs, end_ms: endedMs, v, ...outcome });
    if (outcome.ok) {
      this.ok += 1;
      this.#gapMsMax = Math.max(this.#gapMsMax, endedMs - (this.#lastOkMs ?? endedMs));
      this.#lastOkMs = endedMs;
    } else {
      this.#failed += 1;
    }
    this.emit('outcome');
  }

  #outstanding() {
    return this.#sent - this.ok - this.#failed;
  }
}
