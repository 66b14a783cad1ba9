// What the Node driver sees of a deployment: one JSON line per step, for comparison.
// usage: NODE_PATH=… node scenario.cjs URI [light|modern]
"use strict";

const { MongoClient, BSON, UUID, Long, ObjectId, Decimal128, Timestamp } = require("mongodb");
const { EJSON } = BSON;
const { modern } = require("./modern.cjs");

const uri = process.argv[2];
const leftOut = new Set((process.env.LEAVING_OUT ?? "").split(","));
const commands = [];
const heartbeats = new Set();

function emit(step, saw) {
  console.log(EJSON.stringify({ step, saw }, { relaxed: false }));
}

function told(error) {
  return {
    error: error.name,
    code: error.code ?? null,
    codeName: error.codeName ?? null,
    text: error.message,
    labels: error.errorLabels ? [...error.errorLabels].sort() : [],
    response: error.errorResponse ?? null,
    result: error.result ? { insertedCount: error.result.insertedCount } : null,
  };
}

function connect(options = {}) {
  const { uri: other, ...rest } = options;
  return new MongoClient(other ?? uri, rest);
}

// What a client of its own sees while its commands fail as `data` says, once.
async function failing({ client: admin }, data, run) {
  const fail = { configureFailPoint: "failCommand", mode: { times: 1 } };
  await admin.db("admin").command({ ...fail, data: { appName: "failing", ...data } });
  const client = connect({ appName: "failing", heartbeatFrequencyMS: 500 });
  try {
    return await run(client.db("app").collection("n"), client);
  } finally {
    await client.close();
    await admin.db("admin").command({ ...fail, mode: "off" });
  }
}

const steps = {
  async topology({ client }) {
    await client.db("admin").command({ ping: 1 });
    const topology = client.topology.description;
    return {
      type: topology.type,
      set: topology.setName,
      servers: [...topology.servers.values()].map((s) => ({
        address: s.address,
        type: s.type,
        me: s.me,
        hosts: s.hosts,
        passives: s.passives,
        primary: s.primary,
        wire: s.maxWireVersion,
        sessions: s.logicalSessionTimeoutMinutes,
        limits: [s.maxBsonObjectSize, s.maxMessageSizeBytes, s.maxWriteBatchSize],
      })),
    };
  },
  hello: ({ db }) => db.admin().command({ hello: 1 }),
  isMaster: ({ db }) => db.command({ isMaster: 1 }),
  buildInfo: async ({ db }) => Object.keys(await db.admin().command({ buildInfo: 1 })).sort(),
  who: ({ db }) => db.admin().command({ connectionStatus: 1, showPrivileges: true }),
  async drop({ db }) {
    for (const name of ["n", "ntx", "nw0"]) await db.collection(name).drop().catch(() => {});
    commands.length = 0;
  },
  insertOne: ({ c }) => c.insertOne({ _id: 1, a: 1, s: "åß漢😀" }),
  insertMany: async ({ c }) =>
    (await c.insertMany(Array.from({ length: 200 }, (_, n) => ({ _id: n + 2, a: n % 7 }))))
      .insertedCount,
  async batches({ c }) {
    const seen = [];
    for (const batchSize of [7, 1, 50])
      seen.push((await c.find({}, { batchSize }).sort({ _id: 1 }).toArray()).map((d) => d._id));
    return seen;
  },
  sortSkipLimit: ({ c }) => c.find({ a: 3 }).sort({ _id: -1 }).skip(2).limit(5).toArray(),
  aggregate: ({ c }) =>
    c
      .aggregate([{ $group: { _id: "$a", n: { $sum: 1 } } }, { $sort: { _id: 1 } }])
      .toArray(),
  counts: async ({ c }) => [
    await c.countDocuments({ a: 1 }),
    await c.estimatedDocumentCount(),
    (await c.distinct("a")).sort(),
  ],
  async writes({ c }) {
    return [
      await c.updateOne({ _id: 1 }, { $set: { b: 1 } }),
      await c.updateMany({ a: 2 }, { $inc: { b: 2 } }),
      await c.replaceOne({ _id: 9000 }, { b: 3 }, { upsert: true }),
      await c.deleteOne({ _id: 9000 }),
      await c.findOneAndUpdate({ _id: 2 }, { $set: { z: 1 } }, { returnDocument: "after" }),
      await c.findOneAndDelete({ _id: 3 }),
    ];
  },
  async bulk({ c }) {
    return c.bulkWrite([
      { insertOne: { document: { _id: 1000 } } },
      { updateOne: { filter: { _id: 1000 }, update: { $set: { x: 1 } } } },
      { insertOne: { document: { _id: 1000 } } },
      { deleteOne: { filter: { _id: 1000 } } },
    ]);
  },
  bulkUnordered: ({ c }) =>
    c.bulkWrite(
      [
        { insertOne: { document: { _id: 1001 } } },
        { insertOne: { document: { _id: 1001 } } },
        { deleteMany: { filter: { _id: { $gte: 1000 } } } },
      ],
      { ordered: false },
    ),
  duplicateKey: ({ c }) => c.insertOne({ _id: 1 }),
  unknownCommand: ({ db }) => db.command({ noSuchCommand: 1 }),
  badOperator: ({ c }) => c.find({ a: { $noSuchOperator: 1 } }).toArray(),
  async killedCursor({ db, c }) {
    const cursor = c.find({}, { batchSize: 2 }).sort({ _id: 1 });
    try {
      const seen = [(await cursor.next())._id, (await cursor.next())._id];
      emit("killed", [seen, await db.command({ killCursors: "n", cursors: [cursor.id] })]);
      return await cursor.next();
    } finally {
      await cursor.close();
    }
  },
  unknownCursor: ({ db }) =>
    db.command({ getMore: Long.fromString("12345678901"), collection: "n" }),
  async unacknowledged() {
    const client = connect({ maxPoolSize: 1 });
    try {
      const w0 = client.db("app").collection("nw0");
      const options = { writeConcern: { w: 0 } };
      for (let n = 0; n < 20; n++) await w0.insertOne({ _id: n }, options);
      await w0.insertOne({ _id: 1 }, options);
      await w0.deleteOne({ _id: 3 }, options);
      return [await w0.countDocuments({}), await w0.findOne({ _id: 3 })];
    } finally {
      await client.close();
    }
  },
  writeConcernError: ({ c }) =>
    c.insertOne({ _id: "w9" }, { writeConcern: { w: 9, wtimeoutMS: 50 } }),
  async transactionCommit({ client, db }) {
    await db.createCollection("ntx");
    const tx = db.collection("ntx");
    return client.withSession(async (session) => {
      session.startTransaction();
      await tx.insertOne({ _id: 1 }, { session });
      const inside = await tx.find({}, { session }).toArray();
      const outside = await tx.find({}).toArray();
      await session.commitTransaction();
      return [inside, outside, await tx.find({}).toArray()];
    });
  },
  async transactionAbort({ client, db }) {
    const tx = db.collection("ntx");
    return client.withSession(async (session) => {
      session.startTransaction({ readConcern: { level: "snapshot" } });
      await tx.insertOne({ _id: 2 }, { session });
      await session.abortTransaction();
      return tx.find({}).toArray();
    });
  },
  async transactionErrorInside({ client, db }) {
    const tx = db.collection("ntx");
    return client.withSession((session) =>
      session.withTransaction(async () => {
        await tx.insertOne({ _id: 3 }, { session });
        await tx.insertOne({ _id: 1 }, { session });
      }),
    );
  },
  async transactionRetried({ client, db }) {
    const tx = db.collection("ntx");
    let attempts = 0;
    await client.withSession((session) =>
      session.withTransaction(async () => {
        attempts += 1;
        await tx.insertOne({ _id: `try ${attempts}` }, { session });
        if (attempts < 3) {
          await client.db("admin").command(
            { abortTransaction: 1, lsid: session.id, txnNumber: new Long(session.txnNumber), autocommit: false },
          );
          await tx.insertOne({ _id: `more ${attempts}` }, { session });
        }
      }),
    );
    return [attempts, await tx.find({}).toArray()];
  },
  async retriedWrite() {
    const client = connect();
    const command = { insert: "n", documents: [{ _id: "retry" }], txnNumber: Long.fromNumber(1) };
    try {
      return await client.withSession(async (session) => [
        await client.db("app").command(command, { session }),
        await client.db("app").command(command, { session }),
      ]);
    } finally {
      await client.close();
    }
  },
  hangUpOnWrite: (context) =>
    failing(context, { failCommands: ["insert"], closeConnection: true }, (c) =>
      c.insertOne({ _id: "f1" }),
    ),
  notPrimary: (context) =>
    failing(
      context,
      { failCommands: ["insert"], errorCode: 10107, errorLabels: ["RetryableWriteError"] },
      (c) => c.insertOne({ _id: "f2" }),
    ),
  hangUpOnRead: (context) =>
    failing(context, { failCommands: ["find"], closeConnection: true }, (c) =>
      c.findOne({ _id: 1 }),
    ),
  writeConcernFailed: (context) =>
    failing(
      context,
      { failCommands: ["insert"], writeConcernError: { code: 64, errmsg: "waiting timed out" } },
      (c) => c.insertOne({ _id: "f3" }),
    ),
  hangUpOnCommit: (context) =>
    failing(context, { failCommands: ["commitTransaction"], closeConnection: true }, (c, client) =>
      client.withSession((session) =>
        session.withTransaction(() => c.insertOne({ _id: "f4" }, { session })),
      ),
    ),
  async sessionCommands({ client, db, c }) {
    return client.withSession(async (session) => {
      await c.findOne({}, { session });
      return [
        await db.admin().command({ refreshSessions: [session.id] }),
        await db.admin().command({ endSessions: [session.id] }),
      ];
    });
  },
  startSession: ({ db }) => db.admin().command({ startSession: 1 }),
  killSessions: ({ db }) => db.admin().command({ killSessions: [{ id: new UUID() }] }),
  badSessionList: ({ db }) => db.admin().command({ killSessions: [{ id: 1 }] }),
  types: async ({ c }) => {
    await c.insertOne({
      _id: "types",
      types: [1, Long.fromNumber(1), 1.5, null, true, new ObjectId("0".repeat(24)),
        Decimal128.fromString("NaN"), new Timestamp({ t: 1, i: 2 }), /a/i, [], {}],
    });
    return c.findOne({ _id: "types" });
  },
  async large({ c }) {
    await c.insertOne({ _id: "large", s: "y".repeat(10_000_000) });
    const found = await c.findOne({ _id: "large" });
    await c.deleteOne({ _id: "large" });
    commands.length = 0;
    return found.s.length;
  },
  async wrongPassword() {
    const client = connect({ auth: { username: "alice", password: "wrong" }, authSource: "app" });
    try {
      return await client.db("app").command({ ping: 1 });
    } finally {
      await client.close();
    }
  },
  async parallel({ c }) {
    const found = await Promise.all(
      Array.from({ length: 100 }, async (_, n) => (await c.findOne({ _id: n + 10 }))._id === n + 10),
    );
    commands.length = 0;
    return found.every(Boolean);
  },
  async list({ client, db }) {
    return [
      (await client.db("admin").admin().listDatabases({ nameOnly: true })).databases
        .map((d) => d.name)
        .includes("app"),
      (await db.listCollections({ name: /^n/ }).toArray()).map((x) => x.name).sort(),
      await db.collection("n").createIndex({ a: 1 }),
      (await db.collection("n").indexes()).map((x) => x.name),
    ];
  },
  heartbeats: async () => [...heartbeats].sort(),
};

async function main() {
  const client = connect({ monitorCommands: true });
  client.on("commandSucceeded", (event) => commands.push([event.commandName, event.reply]));
  client.on("commandFailed", (event) => commands.push([event.commandName, event.failure.message]));
  client.on("serverHeartbeatStarted", (event) => heartbeats.add(event.connectionId));
  client.on("serverHeartbeatFailed", (event) => heartbeats.add(`failed ${event.failure}`));
  const db = client.db("app");
  const context = { client, db, c: db.collection("n") };
  const forget = () => (commands.length = 0);
  const chosen =
    process.argv[3] === "modern" ? modern({ connect, told, failing, forget }) : steps;
  for (const [name, run] of Object.entries(chosen)) {
    if (leftOut.has(name)) continue;
    commands.length = 0;
    let saw;
    try {
      saw = (await run(context)) ?? null;
    } catch (error) {
      saw = told(error);
    }
    emit(name, { result: saw, commands: commands.splice(0) });
  }
  await client.close();
  emit("closed", commands);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
