// A Windlass worker for Node.js 20 or newer, in one file and without dependencies: copy it, or import it where it lies.
// The protocol is in docs/WORKERS.md.
//
//   import { work } from "./windlass-worker.mjs";
//
//   const worker = await work({
//     url: "http://127.0.0.1:3000", token: process.env.WINDLASS_TOKEN, name: "resizer", slots: 4,
//     kinds: [{
//       name: "images.resize",
//       description: "Makes an image smaller. Run twice, it writes the same file twice.",
//       args_schema: { type: "object", required: ["url"], properties: { url: { type: "string" } } },
//       async run(job) {
//         await job.progress(1, 2, "Loading");
//         await job.log(`from ${job.args.url}`);
//         job.signal.throwIfAborted();          // asked to stop, or the lease is lost
//         return { bytes: 12 };
//       },
//     }],
//   });
//   process.once("SIGTERM", () => worker.stop());
//   await worker.ended;

/** An error that says how it counts: a code of the table in docs/WORKERS.md, and whether another try may help. */
export class JobError extends Error {
  constructor(code, message, { retryable } = {}) {
    super(message);
    this.code = code;
    this.retryable = retryable;
  }
}

/** An answer that refuses a call: `problem` is what it says (RFC 9457). */
export class Refused extends Error {
  constructor(problem) {
    super(problem.detail ?? problem.title ?? "refused");
    this.problem = problem;
  }
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Begins a worker, which fetches and runs jobs until it is told to stop. Fails when the server does not take it. */
export async function work({ url, token, name, slots = 1, host, version, kinds, warn = console.warn }) {
  const base = url.replace(/\/+$/, "");
  const runs = new Map(kinds.map((kind) => [kind.name, kind.run]));
  const declared = kinds.map(({ run, ...kind }) => kind);
  let id, heartbeatMs;
  const held = new Map();
  const closing = new AbortController();

  async function call(method, path, body, signal) {
    const answer = await fetch(`${base}/api/workers${path}`, {
      method,
      signal,
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await answer.text();
    let said = {};
    try {
      said = text ? JSON.parse(text) : {};
    } catch {
      // A proxy in between may answer in words of its own.
      said = { status: answer.status, title: text.slice(0, 200) };
    }
    if (answer.ok) return said;
    throw new Refused({ status: answer.status, ...said });
  }

  async function begin() {
    const told = { name, slots, kinds: declared };
    if (host) told.host = host;
    if (version) told.version = version;
    const begun = await call("POST", "", told);
    id = begun.id;
    heartbeatMs = begun.heartbeat_ms;
  }

  /** What can't be settled by asking again is thrown; what can is asked until the lease must have ended. */
  async function insist(path, body) {
    const until = Date.now() + heartbeatMs * 3;
    for (let wait = 200; ; wait = Math.min(wait * 2, 5000)) {
      try {
        return await call("POST", path, body);
      } catch (error) {
        const final = error instanceof Refused && error.problem.status < 500 && error.problem.status !== 429;
        if (final || Date.now() + wait > until) throw error;
        await pause(wait);
      }
    }
  }

  async function run(assigned) {
    const { id: job, epoch } = assigned;
    const stop = new AbortController();
    const one = { epoch, stop, wishes: { cancel: false, pause: false } };
    held.set(job, one);
    const path = `/${id}/jobs/${job}`;
    const say = async (what, body) => {
      const wishes = await insist(`${path}/${what}`, { epoch, ...body });
      heard(one, wishes);
    };
    const context = {
      ...assigned,
      signal: stop.signal,
      /** Whether to stop at the next checkpoint, and to `release` there. */
      get pausing() {
        return one.wishes.pause || closing.signal.aborted;
      },
      progress: (done, total, message) => say("progress", { done, total, message }),
      step: (message) => say("progress", { message }),
      log: (message, level = "info") => say("logs", { lines: [{ level, message: String(message) }] }),
      save: (checkpoint) => say("checkpoint", { checkpoint }),
      /** Stops here: paused or cancelled if that was asked for; otherwise the job goes on in another worker. */
      release: (checkpoint) => {
        throw new Released(checkpoint);
      },
    };
    try {
      const result = (await runs.get(assigned.type)(context)) ?? null;
      await insist(`${path}/complete`, { epoch, result });
    } catch (error) {
      await failed(path, one, error).catch((why) => warn(`windlass: job ${job}: ${why.message}`));
    } finally {
      held.delete(job);
    }
  }

  async function failed(path, { epoch, stop, lost }, error) {
    // Whatever would be said about it is not taken any more.
    if (lost || (error instanceof Refused && error.problem.code === "lease_lost")) return;
    if (error instanceof Released) return insist(`${path}/release`, { epoch, checkpoint: error.checkpoint });
    if (stop.signal.aborted) return insist(`${path}/release`, { epoch });
    const { code, retryable } = error instanceof JobError ? error : { code: "INTERNAL" };
    const message = String(error?.message || error || "unknown error");
    return insist(`${path}/fail`, { epoch, code, retryable, message, stack: error?.stack });
  }

  function heard(one, wishes) {
    one.wishes = wishes;
    if (wishes.cancel) one.stop.abort(new Error("asked to stop"));
  }

  /** Renews the leases, and hears at once what people want of the attempts. */
  async function beat() {
    while (!closing.signal.aborted || held.size > 0) {
      const began = Date.now();
      try {
        const jobs = [...held].map(([job, one]) => ({ id: job, epoch: one.epoch }));
        const told = [...held.values()].some((one) => one.wishes.cancel || one.wishes.pause);
        const wait = told || closing.signal.aborted ? 0 : Math.max(1, Math.floor(heartbeatMs / 1000));
        const beaten = await call("POST", `/${id}/heartbeat`, { jobs, wait: Math.min(wait, 25) });
        for (const wishes of beaten.held) {
          const one = held.get(wishes.id);
          if (one?.epoch === wishes.epoch) heard(one, { cancel: wishes.cancel, pause: wishes.pause });
        }
        for (const lease of beaten.lost) {
          const one = held.get(lease.id);
          if (one?.epoch !== lease.epoch) continue;
          one.lost = true;
          one.stop.abort(new Error("the lease is lost"));
        }
      } catch (error) {
        warn(`windlass: heartbeat: ${error.message}`);
        if (error instanceof Refused && error.problem.status === 404 && held.size === 0) {
          await begin().catch((why) => warn(`windlass: ${why.message}`));
        }
      }
      // An answer that came early is no reason to ask all the time.
      const short = held.size > 0 ? 500 : 1000;
      await pause(Math.max(0, short - (Date.now() - began)));
    }
  }

  async function fetchJobs() {
    let wait = 500;
    while (!closing.signal.aborted) {
      const free = slots - held.size;
      if (free <= 0) {
        await pause(50);
        continue;
      }
      try {
        const { jobs } = await call("POST", `/${id}/fetch`, { max: Math.min(free, 100), wait: 20 }, closing.signal);
        for (const job of jobs) run(job);
        wait = 500;
      } catch (error) {
        if (closing.signal.aborted) return;
        warn(`windlass: fetch: ${error.message}`);
        await pause(wait);
        wait = Math.min(wait * 2, 30_000);
      }
    }
  }

  await begin();
  const ended = Promise.all([fetchJobs(), beat()])
    .then(() => call("DELETE", `/${id}`))
    .catch((error) => warn(`windlass: ${error.message}`));
  return {
    get id() {
      return id;
    },
    /** Takes no new job; those that run end first, or at their next checkpoint. */
    stop: () => closing.abort(),
    /** Resolves when it has stopped. */
    ended,
  };
}

class Released extends Error {
  constructor(checkpoint) {
    super("released");
    this.checkpoint = checkpoint;
  }
}
