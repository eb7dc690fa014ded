// Command line of the Node.js driver: `interop`, `features`, `produce` and `consume`.

import { parseArgs } from 'node:util';

import * as consume from './consume.js';
import * as features from './features.js';
import * as interop from './interop.js';
import * as produce from './produce.js';

const VERBS = {
  interop: {
    run: interop.run,
    required: ['endpoint', 'topic', 'topic2', 'group', 'group2'],
    defaults: { count: '10000', only: '' },
  },
  features: {
    run: features.run,
    required: ['endpoint', 'topic', 'group'],
    defaults: { only: '' },
  },
  produce: {
    run: produce.run,
    required: ['endpoint', 'topic', 'rate', 'seconds', 'log'],
    defaults: { concurrency: '1024' },
  },
  consume: {
    run: consume.run,
    required: ['endpoint', 'topic', 'group', 'mode', 'log'],
    defaults: {},
  },
};

function parse([name, ...args]) {
  const verb = VERBS[name];
  if (!verb) throw new Error(`usage: ${Object.keys(VERBS).join(' | ')}`);
  const names = [...verb.required, ...Object.keys(verb.defaults)];
  const options = Object.fromEntries(names.map((option) => [option, { type: 'string' }]));
  const { values } = parseArgs({ args, options });
  const missing = verb.required.filter((option) => !(option in values));
  if (missing.length > 0) throw new Error(`missing --${missing.join(', --')}`);
  return () => verb.run({ ...verb.defaults, ...values });
}

let run;
try {
  run = parse(process.argv.slice(2));
} catch (error) {
  console.error(error.message);
  process.exit(2);
}
const exitCode = await run().catch((error) => {
  console.error(error);
  return 1;
});
// Timers and connections of the client would keep the process alive.
process.exit(exitCode);
