// pg-boss, on Postgres.
import pg from "pg";
import { PgBoss } from "pg-boss";
import { env, run, tally } from "./lib.mjs";

const SCHEMA = "windlass_peers_boss";
const QUEUE = "peers";
// As many as the other peers on Postgres have.
const CONNECTIONS = 20;
// A backlog is drained fastest by ten workers with large batches, each of which runs its batch one by one. But a
// notification wakes them all, and nine find nothing: single jobs are picked up sooner by one worker that runs up to ten
// at once. Each measure gets what suits it.
const FOR_BACKLOG = { localConcurrency: 10, batchSize: 100 };
const FOR_LATENCY = { localConcurrency: 1, batchSize: 10 };

function connect(more) {
  const boss = new PgBoss({
    connectionString: env("DATABASE_URL"),
    schema: SCHEMA,
    max: CONNECTIONS,
    // A caller that waits long for a connection is a slow figure, not none at all.
    connectionTimeoutMillis: 100_000,
    ...more,
  });
  boss.on("error", (error) => process.stderr.write(`${error.stack}\n`));
  return boss;
}

await run({
  name: "pg-boss",
  settings:
    "pool of 20 connections for all callers; LISTEN/NOTIFY; drain: 10 workers that fetch 100 jobs at a time and go on at once while batches are full; pick-up: one worker that fetches up to 10 and runs them at once",

  async producer() {
    const pool = new pg.Pool({ connectionString: env("DATABASE_URL"), max: 2 });
    let boss;
    const stop = () => boss?.stop({ graceful: false });
    return {
      async reset() {
        await stop();
        await pool.query(`DROP SCHEMA IF EXISTS ${SCHEMA} CASCADE`);
        // Maintenance and cron belong to the worker's process.
        boss = connect({ supervise: false, schedule: false });
        await boss.start();
        await boss.createQueue(QUEUE, { notify: true });
      },
      one: (data) => boss.send(QUEUE, data),
      bulk: (list) => boss.insert(QUEUE, list.map((data) => ({ data }))),
      // What autovacuum does within a minute in a running system.
      prepared: () => pool.query("ANALYZE"),
      left: async () =>
        (await pool.query(`SELECT count(*)::int AS n FROM ${SCHEMA}.job WHERE name = $1 AND state <> 'completed'`, [QUEUE]))
          .rows[0].n,
      async close() {
        await stop();
        await pool.end();
      },
    };
  },

  async worker({ handle, expected }) {
    const boss = connect({ useListenNotify: true });
    await boss.start();
    const { recorded: handled, add } = tally(expected);
    await boss.work(
      QUEUE,
      {
        ...(expected === Infinity ? FOR_LATENCY : FOR_BACKLOG),
        burstWhenBatchFull: true,
        // The shortest that it allows: polling is what remains when a notification is missed.
        pollingIntervalSeconds: 0.5,
        notifyPollingIntervalSeconds: 0.5,
      },
      async (jobs) => {
        for (const job of jobs) {
          handle(job.data);
          add();
        }
      },
    );
    // It reports no completion, but stopping its workers waits until they have written theirs.
    const recorded = handled.then(() => boss.offWork(QUEUE, { wait: true }));
    return { recorded, close: () => boss.stop({ graceful: true, timeout: 5000 }) };
  },
});
