// A Windlass worker for Node.js 20.3 or newer, in one file and without dependencies: copy it, or import it where it lies.
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

/** Waits, or not any longer once the signal says so. */
const pause = (ms, signal) =>
  new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const timer = setTimeout(done, ms);
    function done() {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    }
    signal?.addEventListener("abort", done, { once: true });
  });

/** Whatever somebody throws, in words. */
function inWords(error) {
  try {
    return String(error?.message || error || "").trim() || "an error without words";
  } catch {
    return "an error without words";
  }
}

function stackOf(error) {
  return typeof error?.stack === "string" ? error.stack : undefined;
}

/** Whether the server could not be reached, or did not answer; otherwise what was to be sent is not what can be. */
function isAway(error) {
  return error?.name === "TimeoutError" || error?.name === "AbortError" || error?.message === "fetch failed";
}

/** Why a call did not succeed, with what the network said. */
function whyOf(error) {
  const cause = error?.cause?.code ?? error?.cause?.message;
  return cause ? `${inWords(error)} (${cause})` : inWords(error);
}

/** A call that has no answer after so long has none. */
const PATIENCE_MS = 10_000;

/** Begins a worker, which fetches and runs jobs until it is told to stop. Fails when the server does not take it. */
export async function work({ url, token, name, slots = 1, host, version, kinds, warn = console.warn }) {
  const base = url.replace(/\/+$/, "");
  const runs = new Map(kinds.map((kind) => [kind.name, kind.run]));
  const declared = kinds.map(({ run, ...kind }) => kind);
  let id, leaseMs, heartbeatMs;
  /** The attempts that run here, by job. */
  const held = new Map();
  const closing = new AbortController();
  /** Ends a heartbeat that waits: one with all the attempts that run by now is due. */
  let anew = new AbortController();
  /** Whether the last heartbeat failed; and what ends the pause after a fetch that failed, once one is heard again. */
  let away = false;
  let back = new AbortController();

  /** `body` is JSON. */
  async function call(method, path, body, { wait = 0, signal } = {}) {
    const late = AbortSignal.timeout(wait * 1000 + PATIENCE_MS);
    const answer = await fetch(`${base}/api/workers${path}`, {
      method,
      signal: signal ? AbortSignal.any([signal, late]) : late,
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      body,
    });
    const text = await answer.text();
    let said = {};
    try {
      said = text ? JSON.parse(text) : {};
    } catch {
      // A proxy in between may answer in words of its own.
      said = { title: text.slice(0, 200) };
    }
    if (answer.ok) return said;
    throw new Refused({ ...said, status: answer.status });
  }

  async function begin() {
    const told = { name, slots, kinds: declared };
    if (host) told.host = host;
    if (version) told.version = version;
    const begun = await call("POST", "", JSON.stringify(told));
    id = begun.id;
    leaseMs = begun.lease_ms;
    heartbeatMs = begun.heartbeat_ms;
  }

  /** What can't be settled by asking again is thrown; what can is asked until the lease must have ended. */
  async function insist(path, told) {
    const body = JSON.stringify(told);
    const until = Date.now() + leaseMs;
    for (let wait = 200; ; wait = Math.min(wait * 2, 5000)) {
      try {
        return await call("POST", path, body);
      } catch (error) {
        const final = error instanceof Refused ? error.problem.status < 500 && error.problem.status !== 429 : !isAway(error);
        if (final || Date.now() + wait > until) throw error;
        await pause(wait);
      }
    }
  }

  /** The attempt's lease is gone: it ends, and what it would still say is not taken. */
  function lose(one, why) {
    one.lost = true;
    one.stop.abort(new Error(why));
  }

  async function run(assigned) {
    const { id: job, epoch } = assigned;
    const stop = new AbortController();
    const one = { job, epoch, stop, confirmed: Date.now(), wishes: { cancel: false, pause: false } };
    // The same job once more: its lease ran out here, without this worker hearing of it.
    const before = held.get(job);
    if (before) lose(before, "the lease is lost");
    held.set(job, one);
    anew.abort();
    const path = `/${id}/jobs/${job}`;
    // What it says is sent in that order, and before its end.
    let said = Promise.resolve();
    const say = (what, body) => {
      const saying = said.then(() => insist(`${path}/${what}`, { epoch, ...body })).then((wishes) => heard(one, wishes));
      // Whoever does not wait for it does not hear that it failed, either.
      said = saying.catch(() => {});
      return saying;
    };
    // Lines that come within a moment of each other are sent together.
    const lines = [];
    let flushing;
    const flush = () => {
      flushing = undefined;
      let sent = said;
      while (lines.length > 0) sent = say("logs", { lines: lines.splice(0, 1000) });
      return sent;
    };
    // A lease that the server can't confirm any more is lost.
    const watch = setInterval(() => {
      if (Date.now() - one.confirmed > leaseMs) lose(one, "the lease could not be kept");
    }, 1000);
    const context = {
      ...assigned,
      signal: stop.signal,
      /** Whether to stop at the next checkpoint, and to `release` there. */
      get pausing() {
        return one.wishes.pause || closing.signal.aborted;
      },
      progress: (done, total, message) => say("progress", { done, total, message }),
      step: (message) => say("progress", { message }),
      log: (message, level = "info") => {
        lines.push({ level, message: String(message) });
        flushing ??= pause(100).then(flush);
        flushing.catch(() => {});
        return flushing;
      },
      save: (checkpoint) => say("checkpoint", { checkpoint }),
      /** Stops here: paused or cancelled if that was asked for; otherwise the job goes on in another worker. */
      release: (checkpoint) => {
        throw new Released(checkpoint);
      },
    };
    let end;
    try {
      const result = (await runs.get(assigned.type)(context)) ?? null;
      end = ["complete", { epoch, result }];
    } catch (error) {
      end = unfinished(one, error);
    }
    try {
      await flush().catch(() => {});
      await said;
      if (!one.lost && end) await tell(path, epoch, end);
    } catch (error) {
      // Its lease runs out, and it is run again.
      warn(`windlass: job ${job}: its end could not be told: ${error.message}`);
    } finally {
      clearInterval(watch);
      if (held.get(job) === one) held.delete(job);
    }
  }

  /** Tells the end of an attempt. One that the server does not take for what it says would come again and again: it fails. */
  async function tell(path, epoch, [what, body]) {
    try {
      await insist(`${path}/${what}`, body);
    } catch (error) {
      const { status, code } = error instanceof Refused ? error.problem : {};
      const unsaid = error instanceof Refused ? [400, 409, 413].includes(status) && code !== "lease_lost" : !isAway(error);
      if (!unsaid) throw error;
      const message = `The worker could not tell how it ended (${what}): ${error.message}`.slice(0, 1000);
      await insist(`${path}/fail`, { epoch, code: "INTERNAL", retryable: false, message });
    }
  }

  /** How an attempt ends that has thrown. */
  function unfinished({ epoch, stop }, error) {
    if (error instanceof Refused && error.problem.code === "lease_lost") return undefined;
    if (error instanceof Released) return ["release", { epoch, checkpoint: error.checkpoint }];
    if (stop.signal.aborted) return ["release", { epoch }];
    const { code, retryable } = error instanceof JobError ? error : { code: "INTERNAL" };
    return ["fail", { epoch, code, retryable, message: inWords(error), stack: stackOf(error) }];
  }

  function heard(one, wishes) {
    one.wishes = { cancel: wishes.cancel, pause: wishes.pause };
    if (wishes.cancel) one.stop.abort(new Error("asked to stop"));
  }

  /** Renews the leases, and hears at once what people want of the attempts. */
  async function beat() {
    while (!closing.signal.aborted || held.size > 0) {
      const began = Date.now();
      const named = [...held.values()];
      let rest = named.length > 0 ? 500 : 1000;
      const told = named.some((one) => one.wishes.cancel || one.wishes.pause);
      const wait = told || closing.signal.aborted ? 0 : Math.min(25, Math.max(1, Math.floor(heartbeatMs / 1000)));
      anew = new AbortController();
      const signal = wait ? AbortSignal.any([closing.signal, anew.signal]) : undefined;
      try {
        const jobs = named.map((one) => ({ id: one.job, epoch: one.epoch }));
        const body = JSON.stringify({ jobs, wait });
        // Told to stop it does not wait any longer, and beats once more for what still runs.
        const beaten = await call("POST", `/${id}/heartbeat`, body, { wait, signal });
        if (away) back.abort();
        away = false;
        const holds = new Map(beaten.held.map((lease) => [`${lease.id} ${lease.epoch}`, lease]));
        for (const one of named) {
          const lease = holds.get(`${one.job} ${one.epoch}`);
          if (!lease) lose(one, "the lease is lost");
          else {
            one.confirmed = began;
            heard(one, lease);
          }
        }
      } catch (error) {
        if (signal?.aborted && !(error instanceof Refused)) {
          await pause(20);
          continue;
        }
        warn(`windlass: heartbeat: ${whyOf(error)}`);
        away = true;
        rest = 1000;
        if (error instanceof Refused && error.problem.status === 404) {
          // The server has forgotten this worker, and its leases have run out.
          for (const one of held.values()) lose(one, "the lease is lost");
          if (!closing.signal.aborted) await begin().catch((why) => warn(`windlass: ${why.message}`));
        } else if (error instanceof Refused && error.problem.status < 500) {
          rest = heartbeatMs;
        }
      }
      // An answer that came early is no reason to ask all the time.
      await pause(Math.max(0, rest - (Date.now() - began)), held.size > 0 ? undefined : closing.signal);
    }
  }

  async function fetchJobs() {
    let wait = 500;
    while (!closing.signal.aborted) {
      const free = slots - held.size;
      if (free <= 0) {
        await pause(50, closing.signal);
        continue;
      }
      try {
        const wish = JSON.stringify({ max: Math.min(free, 100), wait: 20 });
        const { jobs } = await call("POST", `/${id}/fetch`, wish, { wait: 20, signal: closing.signal });
        for (const job of jobs) void run(job);
        wait = 500;
      } catch (error) {
        if (closing.signal.aborted) return;
        warn(`windlass: fetch: ${whyOf(error)}`);
        // Not longer than until a heartbeat is heard again: the server was away, and may have jobs by now.
        back = new AbortController();
        await pause(wait, AbortSignal.any([closing.signal, back.signal]));
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
