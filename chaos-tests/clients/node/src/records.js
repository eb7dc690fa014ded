// What `produce` and `consume` write.

import fs from 'node:fs';

const ERROR_TEXT_MAX = 500;

/** Appends one JSON object per line, written at once. */
export class JsonLines {
  #file;

  constructor(path) {
    this.#file = fs.openSync(path, 'a');
  }

  write(fields) {
    fs.writeSync(this.#file, `${JSON.stringify(fields)}\n`);
  }
}

export function errorText(error) {
  return `${error.name}: ${error.message}`.slice(0, ERROR_TEXT_MAX);
}
