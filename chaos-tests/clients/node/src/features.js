// Runs the checks of message types, filters, retries and lite topics, all at once: they wait most
// of the time.
//
// Each has a topic and a group of its own, named after it, and is given both. Clients are not shut
// down: the process ends soon, and a push consumer takes long to stop.

import { Clients } from './clients.js';
import { delay, recall } from './delayChecks.js';
import {
  fifoBlocked, fifoDeadLetter, fifoOrderPush, fifoOrderSimple,
} from './fifoChecks.js';
import { sqlFilterPush, sqlFilterSimple, sqlMalformed } from './filterChecks.js';
import { printOutcome, selected } from './interop.js';
import {
  liteDeadLetter, liteExclusive, liteIllegalName, liteMembers, litePush, liteQuota,
  liteSubscriptions, liteSuspend, liteTopicQuota,
} from './liteChecks.js';
import { priority } from './priorityChecks.js';
import { retryBackoff } from './retryChecks.js';
import { transaction, transactionCheck } from './transactionChecks.js';
import { mixed, wrongType } from './typeChecks.js';

const CHECKS = {
  fifo_order_simple: fifoOrderSimple,
  fifo_order_push: fifoOrderPush,
  fifo_blocked: fifoBlocked,
  fifo_dead_letter: fifoDeadLetter,
  delay,
  recall,
  transaction,
  transaction_check: transactionCheck,
  sql_filter_simple: sqlFilterSimple,
  sql_filter_push: sqlFilterPush,
  sql_malformed: sqlMalformed,
  retry_backoff: retryBackoff,
  wrong_type: wrongType,
  mixed,
  priority,
  lite_push: litePush,
  lite_subscriptions: liteSubscriptions,
  lite_members: liteMembers,
  lite_dead_letter: liteDeadLetter,
  lite_suspend: liteSuspend,
  lite_quota: liteQuota,
  lite_topic_quota: liteTopicQuota,
  lite_exclusive: liteExclusive,
  lite_illegal_name: liteIllegalName,
};

export async function run(options) {
  const names = selected(CHECKS, options.only);
  if (!names) return 2;
  const outcomes = await Promise.all(names.map((name) => {
    const suffix = name.replaceAll('_', '-');
    const [topic, group] = [`${options.topic}-${suffix}`, `${options.group}-${suffix}`];
    return printOutcome(name, () => CHECKS[name](new Clients(options.endpoint), topic, group));
  }));
  return outcomes.every((ok) => ok) ? 0 : 1;
}
