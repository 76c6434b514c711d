// BullMQ, on Redis.
import { Queue, Worker } from "bullmq";
import { env, run, tally } from "./lib.mjs";

const QUEUE = "peers";
const options = () => ({ connection: { url: env("REDIS_URL") }, prefix: "windlass-peers" });

await run({
  name: "bullmq",
  settings: "one connection for all callers; worker with concurrency 10; completed jobs kept",

  async producer() {
    const queue = new Queue(QUEUE, options());
    await queue.waitUntilReady();
    return {
      reset: () => queue.obliterate({ force: true }),
      one: (data) => queue.add("noop", data),
      bulk: (list) => queue.addBulk(list.map((data) => ({ name: "noop", data }))),
      prepared: async () => {},
      left: async () => Object.values(await queue.getJobCounts("wait", "active", "delayed", "failed")).reduce((a, b) => a + b),
      close: () => queue.close(),
    };
  },

  async worker({ concurrency, handle, expected }) {
    const { recorded, add } = tally(expected);
    const worker = new Worker(QUEUE, async (job) => handle(job.data), {
      ...options(),
      autorun: false,
      concurrency,
      // Completed jobs are kept, as by default: removing them at once (removeOnComplete) makes it no faster.
    });
    // Told once Redis has acknowledged the job's end.
    worker.on("completed", add);
    worker.on("error", (error) => process.stderr.write(`${error.stack}\n`));
    await worker.waitUntilReady();
    worker.run();
    return { recorded, close: () => worker.close() };
  },
});
