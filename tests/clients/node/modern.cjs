// Steps of the Node driver's scenario with what drivers and servers got since 4.2.
"use strict";

const strict = { serverApi: { version: "1", strict: true, deprecationErrors: true } };

// Results by the numbers of writes are maps, which EJSON cannot show.
function shown(found) {
  if (found === null || typeof found !== "object") return found ?? null;
  return Object.fromEntries(
    Object.entries(found).map(([name, value]) => [name, value instanceof Map ? [...value] : value]),
  );
}

exports.modern = ({ connect, told, failing, forget }) => {
  const outcome = async (promise) => {
    try {
      return await promise;
    } catch (error) {
      const { writeErrors, partialResult } = error;
      return [told(error), writeErrors ? [...writeErrors.keys()] : null, shown(partialResult)];
    }
  };
  const into = (name, document) => ({ namespace: `app.${name}`, name: "insertOne", document });

  async function withClient(options, run) {
    const client = connect(options);
    try {
      return await run(client);
    } finally {
      await client.close();
    }
  }

  async function changes(stream, number) {
    const seen = [];
    while (seen.length < number) {
      const change = await stream.tryNext();
      if (change) seen.push([change.operationType, change.documentKey]);
    }
    return seen;
  }

  return {
    async clean({ db }) {
      for (const name of ["nm", "nm2", "nm3", "nwatched"]) await db.dropCollection(name).catch(() => {});
    },
    bulkWrite: async ({ client }) =>
      shown(await client.bulkWrite(
        [
          into("nm", { _id: 1, a: 1 }),
          into("nm2", { _id: 1 }),
          { namespace: "app.nm", name: "updateOne", filter: { _id: 1 }, update: { $set: { b: 1 } } },
          { namespace: "app.nm", name: "replaceOne", filter: { _id: 9 }, replacement: { a: 9 }, upsert: true },
          { namespace: "app.nm2", name: "deleteMany", filter: { a: 77 } },
        ],
        { verboseResults: true },
      )),
    bulkWriteErrors: async ({ client }) => {
      const writes = [10, 11, 12, 10, 11, 12].map((n) => into("nm", { _id: n }));
      return [
        await outcome(client.bulkWrite(writes)),
        await outcome(client.bulkWrite(writes, { ordered: false, verboseResults: true })),
      ];
    },
    async bulkWriteCursor({ client }) {
      const writes = Array.from({ length: 200 }, (_, n) => ({
        namespace: "app.nm3", name: "updateOne", filter: { _id: `${n}${"x".repeat(100_000)}` },
        update: { $set: { a: 1 } }, upsert: true,
      }));
      const names = new Set();
      const note = (event) => names.add(event.commandName);
      client.on("commandSucceeded", note);
      const found = await client.bulkWrite(writes, { verboseResults: true });
      client.off("commandSucceeded", note);
      forget();
      return [found.upsertedCount, found.updateResults.size, [...names].sort()];
    },
    bulkWriteUnacknowledged: () =>
      withClient({ maxPoolSize: 1 }, async (client) => {
        const writes = [20, 21, 22].map((n) => into("nm2", { _id: n }));
        await client.bulkWrite(writes, { ordered: false, writeConcern: { w: 0 } });
        return client.db("app").collection("nm2").countDocuments({});
      }),
    bulkWriteInTransaction: ({ client, db }) =>
      client.withSession(async (session) => {
        await session.withTransaction(() => client.bulkWrite([into("nm", { _id: "t" })], { session }));
        session.startTransaction();
        const again = await outcome(client.bulkWrite([into("nm", { _id: "t" })], { session }));
        await outcome(session.abortTransaction());
        return [again, await db.collection("nm").countDocuments({ _id: "t" })];
      }),
    stableApi: () =>
      withClient(strict, async (client) => {
        const c = client.db("app").collection("nm");
        await c.insertMany(Array.from({ length: 20 }, (_, n) => ({ _id: `s${n}` })));
        const seen = (await c.find({}, { batchSize: 5 }).toArray()).length;
        await client.withSession(async (session) => {
          await session.withTransaction(() => c.insertOne({ _id: "api" }, { session }));
          session.startTransaction();
          await c.insertOne({ _id: "gone" }, { session });
          await session.abortTransaction();
        });
        return [seen, await c.countDocuments({ _id: { $in: ["api", "gone"] } })];
      }),
    outsideStableApi: () =>
      withClient(strict, async (client) => {
        const admin = client.db("admin");
        const seen = [];
        for (const command of [
          { startSession: 1 }, { killSessions: [] }, { killAllSessions: [] },
          { refreshSessions: [] }, { endSessions: [] }, { connectionStatus: 1 }, { isMaster: 1 },
        ]) seen.push(await outcome(admin.command(command)));
        return seen;
      }),
    snapshotSession: async ({ client, db }) => {
      const session = client.startSession({ snapshot: true });
      const c = db.collection("nm");
      try {
        const first = await outcome(c.countDocuments({ _id: "late" }, { session }));
        await c.insertOne({ _id: "late" });
        return [first, await outcome(c.countDocuments({ _id: "late" }, { session }))];
      } finally {
        await session.endSession();
      }
    },
    causalConsistency: ({ client, db }) =>
      client.withSession((one) =>
        withClient({}, async (other) => {
          const writeConcern = { w: "majority" };
          await db.collection("nm").insertOne({ _id: "caused" }, { session: one, writeConcern });
          return other.withSession(async (two) => {
            two.advanceClusterTime(one.clusterTime);
            two.advanceOperationTime(one.operationTime);
            const options = { session: two, readConcern: { level: "majority" } };
            return other.db("app").collection("nm").findOne({ _id: "caused" }, options);
          });
        }),
      ),
    async changeStream({ db }) {
      const c = db.collection("nwatched");
      const stream = c.watch([], { maxAwaitTimeMS: 200 });
      try {
        // The driver opens it when it is first read from.
        await stream.tryNext();
        await c.insertOne({ _id: 1 });
        await c.updateOne({ _id: 1 }, { $set: { a: 1 } });
        return await changes(stream, 2);
      } finally {
        await stream.close();
        // Their tokens and times are no others'.
        forget();
      }
    },
    unknownCommit: (context) =>
      failing(
        context,
        { failCommands: ["commitTransaction"], errorCode: 91, errorLabels: ["RetryableWriteError"] },
        (c, client) =>
          client.withSession((session) =>
            session.withTransaction(() => c.insertOne({ _id: "f5" }, { session })),
          ),
      ),
    conflictInTransaction: (context) =>
      failing(
        context,
        { failCommands: ["insert"], errorCode: 112, errorLabels: ["TransientTransactionError"] },
        (c, client) =>
          client.withSession((session) =>
            session.withTransaction(() => c.insertOne({ _id: "f6" }, { session })),
          ),
      ),
    tooBusy: (context) =>
      failing(
        context,
        {
          failCommands: ["find"], errorCode: 462,
          errorLabels: ["SystemOverloadedError", "RetryableError"],
        },
        (c) => outcome(c.findOne({ _id: 1 })),
      ),
  };
};
