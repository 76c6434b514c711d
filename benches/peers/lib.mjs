// What the peers in JavaScript share: the measures, the worker's process, the clock. A peer file says only how its
// system enqueues and how it works.
//
// A peer is an object:
//   name, settings           its package, and the settings that matter for speed, in words
//   producer()               → { reset(), one(data), bulk(list), prepared(), left(), close() }
//   worker({ concurrency, handle, expected })
//                            → { recorded, close() }: `recorded` resolves when `expected` jobs are known to be
//                            recorded as done, not merely run
import { fork } from "node:child_process";
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";

const CHUNK = 1000;
const CALLERS = 50;
const SLOTS = 10;
const IDLE_SAMPLES = 200;
const RATE = 1000;
const RATE_SAMPLES = 5000;

/** Milliseconds of the system's monotonic clock, which all processes of one machine share; `Date.now` is too coarse. */
export const now = () => Number(process.hrtime.bigint()) / 1e6;

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const log = (text) => process.stderr.write(`${text}\n`);

export const env = (name) => {
  if (!process.env[name]) throw new Error(`${name} is not set: benches/peers/run sets it, or give one of your own`);
  return process.env[name];
};

const versionOf = (name) =>
  JSON.parse(readFileSync(new URL(`./node_modules/${name}/package.json`, import.meta.url), "utf8")).version;

/** Rejects where a promise would never settle: a system that loses a job must not hang the comparison. */
async function within(seconds, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not done after ${seconds} s`)), seconds * 1000);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

const quantile = (values, share) => {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)];
};

const perSecond = (jobs, ms) => Math.round((jobs / ms) * 1000);
const millis = (value) => Math.round(value * 1000) / 1000;

const payloads = (count) => Array.from({ length: count }, (_, n) => ({ n }));

async function inChunks(producer, jobs) {
  for (let start = 0; start < jobs.length; start += CHUNK) await producer.bulk(jobs.slice(start, start + CHUNK));
}

async function concurrently(producer, jobs) {
  let next = 0;
  const caller = async () => {
    while (next < jobs.length) await producer.one(jobs[next++]);
  };
  await Promise.all(Array.from({ length: CALLERS }, caller));
}

async function oneByOne(producer, jobs) {
  for (const job of jobs) await producer.one(job);
}

/** Times an enqueue of `count` jobs into an empty queue, after a tenth as many to warm up. */
async function enqueueRate(producer, enqueue, count) {
  await producer.reset();
  await enqueue(producer, payloads(Math.ceil(count / 10)));
  const jobs = payloads(count);
  const start = now();
  await enqueue(producer, jobs);
  return perSecond(count, now() - start);
}

/** Starts this same file again as the worker: users run workers in processes of their own, and so does this. */
async function startWorker(order) {
  const child = fork(process.argv[1], {
    env: { ...process.env, PEER_WORKER: JSON.stringify(order) },
    // Standard output is for the figures alone.
    stdio: ["ignore", 2, 2, "ipc"],
  });
  const inbox = [];
  const waiting = [];
  const settle = (message) => (waiting.length > 0 ? waiting.shift()(message) : inbox.push(message));
  child.on("message", settle);
  child.on("exit", (code) => settle({ error: `the worker's process ended with code ${code}` }));
  const answer = async (seconds, what) => {
    const message = await within(
      seconds,
      what,
      inbox.length > 0 ? Promise.resolve(inbox.shift()) : new Promise((resolve) => waiting.push(resolve)),
    );
    if (message.error) throw new Error(`${what}: ${message.error}`);
    return message;
  };
  const stop = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.send({ stop: true });
    await within(20, "stopping the worker", gone).catch(() => child.kill("SIGKILL"));
  };
  return { answer, stop };
}

/** The worker's process. */
async function work(peer, order) {
  const stopped = new Promise((resolve) => {
    process.on("message", (message) => message.stop && resolve());
    // The measuring process is gone: nobody is left to work for.
    process.on("disconnect", () => process.exit(1));
  });
  let worker;
  if (order.drain) {
    const { warmUp, jobs } = order.drain;
    let handled = 0;
    let start;
    const handle = () => {
      // The clock starts in full flow, so that neither start-up nor a cold runtime is charged to anyone.
      if (handled === warmUp) start = now();
      handled += 1;
    };
    worker = await peer.worker({ concurrency: SLOTS, handle, expected: warmUp + jobs });
    await worker.recorded;
    process.send({ ms: now() - start, handled });
  } else {
    const taken = [];
    const handle = (data) => {
      const took = now() - data.t;
      if (data.ask) process.send({ took });
      else if (data.counts && taken.push(took) === order.pickup) process.send({ taken });
    };
    worker = await peer.worker({ concurrency: SLOTS, handle, expected: Infinity });
    process.send({ ready: true });
  }
  await stopped;
  await worker.close();
  process.exit(0);
}

async function drain(producer, jobs) {
  const warmUp = Math.ceil(jobs / 20);
  await producer.reset();
  await inChunks(producer, payloads(warmUp + jobs));
  await producer.prepared();
  const worker = await startWorker({ drain: { warmUp, jobs } });
  try {
    const { ms, handled } = await worker.answer(600, "draining");
    if (handled !== warmUp + jobs) throw new Error(`${warmUp + jobs} jobs enqueued, ${handled} run`);
    const left = await producer.left();
    if (left !== 0) throw new Error(`${left} jobs left after the drain`);
    return perSecond(jobs, ms);
  } finally {
    await worker.stop();
  }
}

async function pickupIdle(producer, samples) {
  await producer.reset();
  const worker = await startWorker({ pickup: 0 });
  try {
    await worker.answer(60, "starting the worker");
    const took = [];
    for (let sample = -20; sample < samples; sample += 1) {
      // A pause of uneven length: the system is at rest again, and no timer of its own falls into step with this one.
      await sleep(20 + Math.random() * 20);
      await producer.one({ t: now(), ask: true });
      const answer = await worker.answer(60, "waiting for a job to be picked up");
      if (sample >= 0) took.push(answer.took);
    }
    return {
      pickup_idle_p50_ms: millis(quantile(took, 0.5)),
      pickup_idle_p99_ms: millis(quantile(took, 0.99)),
    };
  } finally {
    await worker.stop();
  }
}

async function pickupAtRate(producer, samples) {
  await producer.reset();
  const worker = await startWorker({ pickup: samples });
  try {
    await worker.answer(60, "starting the worker");
    await sleep(200);
    // A fifth more at the front warms up and is not counted. Jobs leave when they are due, whether or not earlier ones
    // were acknowledged: a system that falls behind shows it in its figure instead of slowing its producer down.
    const warmUp = Math.ceil(samples / 5);
    const total = warmUp + samples;
    const calls = [];
    const start = now();
    for (let sent = 0; sent < total; ) {
      const due = Math.min(total, Math.floor(((now() - start) / 1000) * RATE));
      for (; sent < due; sent += 1) calls.push(producer.one({ t: now(), counts: sent >= warmUp }));
      await sleep(1);
    }
    await within(120, "enqueueing at a steady rate", Promise.all(calls));
    const acknowledged = now() - start;
    const { taken } = await worker.answer(120, `picking up ${RATE} jobs a second`);
    return {
      pickup_1000_p99_ms: millis(quantile(taken, 0.99)),
      pickup_1000_offered: perSecond(total, acknowledged),
    };
  } finally {
    await worker.stop();
  }
}

export async function run(peer) {
  if (process.env.PEER_WORKER) {
    return work(peer, JSON.parse(process.env.PEER_WORKER)).catch((error) => {
      process.send({ error: error.stack });
      setTimeout(() => process.exit(1), 100);
    });
  }
  const { values } = parseArgs({ options: { jobs: { type: "string", default: "20000" } } });
  const jobs = Number(values.jobs);
  if (!Number.isInteger(jobs) || jobs < 100) throw new Error(`--jobs ${values.jobs}: a whole number from 100 up`);

  const results = {};
  const notes = [];
  const producer = await peer.producer();
  const measure = async (keys, take) => {
    try {
      const taken = await take();
      Object.assign(results, typeof taken === "object" ? taken : { [keys[0]]: taken });
    } catch (error) {
      // One figure that cannot be had does not cost the others.
      for (const key of keys) results[key] = null;
      notes.push(`${keys[0]}: ${error.message}`);
      log(`${peer.name}: ${keys[0]}: ${error.stack}`);
    }
    for (const key of keys) log(`${peer.name}: ${key} ${results[key]}`);
  };
  // One by one is slow where each waits for the disk: fewer are enough for a steady figure.
  await measure(["enqueue_one"], () => enqueueRate(producer, oneByOne, Math.ceil(jobs / 10)));
  await measure(["enqueue_concurrent_50"], () => enqueueRate(producer, concurrently, Math.ceil(jobs / 2)));
  await measure(["enqueue_bulk"], () => enqueueRate(producer, inChunks, jobs));
  await measure(["drain_10"], () => drain(producer, jobs));
  await measure(["pickup_idle_p50_ms", "pickup_idle_p99_ms"], () =>
    pickupIdle(producer, Math.min(IDLE_SAMPLES, jobs)),
  );
  await measure(["pickup_1000_p99_ms"], () => pickupAtRate(producer, Math.min(RATE_SAMPLES, jobs)));
  await producer.reset();
  await producer.close();
  const answer = { peer: peer.name, version: versionOf(peer.name), settings: peer.settings, jobs, results };
  if (notes.length > 0) answer.notes = notes;
  process.stdout.write(`${JSON.stringify(answer)}\n`, () => process.exit(0));
}

/** Counts jobs that are recorded as done. */
export function tally(expected) {
  let count = 0;
  let reached;
  const recorded = new Promise((resolve) => {
    reached = resolve;
  });
  return {
    recorded,
    add() {
      count += 1;
      if (count === expected) reached();
    },
  };
}
