// What mongosh sees of a deployment: one JSON line per step, for comparison.

const app = db.getSiblingDB("app");
const admin = db.getSiblingDB("admin");
const c = app.s;

function emit(step, saw) {
  console.log(EJSON.stringify({ step, saw: saw === undefined ? null : saw }, { relaxed: false }));
}

const leftOut = new Set((process.env.LEAVING_OUT ?? "").split(","));

function step(name, run) {
  if (leftOut.has(name)) return;
  let saw;
  try {
    saw = run();
  } catch (error) {
    saw = { error: error.name, code: error.code ?? null, codeName: error.codeName ?? null, text: error.message };
  }
  emit(name, saw);
}

step("hello", () => db.hello());
step("version", () => [db.version(), db.getName(), db.serverBuildInfo().version]);
step("status", () => admin.runCommand({ connectionStatus: 1, showPrivileges: true }));
["s", "stx"].forEach((name) => {
  try {
    app.getCollection(name).drop();
  } catch {
    // Not every server forgives the drop of what is not there.
  }
});
step("insertOne", () => c.insertOne({ _id: 1, a: 1, s: "åß漢😀" }));
step("insertMany", () => {
  c.insertMany(Array.from({ length: 150 }, (_, n) => ({ _id: n + 2, a: n % 7 })));
  return c.countDocuments({});
});
step("find", () => c.find({ a: 3 }).sort({ _id: 1 }).batchSize(5).toArray());
step("iterate", () => {
  const seen = [];
  c.find().sort({ _id: 1 }).batchSize(11).forEach((d) => seen.push(d._id));
  return seen;
});
step("aggregate", () =>
  c.aggregate([{ $group: { _id: "$a", n: { $sum: 1 } } }, { $sort: { _id: 1 } }]).toArray());
step("update", () => c.updateMany({ a: 2 }, { $inc: { b: 1 } }));
step("bulk", () => c.bulkWrite([
  { insertOne: { document: { _id: 1000 } } },
  { updateOne: { filter: { _id: 1000 }, update: { $set: { x: 1 } } } },
  { deleteOne: { filter: { _id: 1000 } } },
]));
step("findAndModify", () => c.findAndModify({ query: { _id: 1 }, update: { $set: { z: 1 } } }));
step("duplicateKey", () => c.insertOne({ _id: 1 }));
step("unknownCommand", () => app.runCommand({ noSuchCommand: 1 }));
step("unknownCursor", () => app.runCommand({ getMore: Long("99"), collection: "s" }));
step("index", () => [c.createIndex({ a: 1 }), c.getIndexes()]);
step("collections", () => app.getCollectionNames().filter((name) => name.startsWith("s")).sort());
step("collectionInfos", () => app.getCollectionInfos({ name: "s" }).map((info) => info.name));
step("transaction", () => {
  app.createCollection("stx");
  const session = db.getMongo().startSession();
  const tx = session.getDatabase("app").stx;
  session.startTransaction();
  tx.insertOne({ t: 1, _id: 1 });
  const outside = app.stx.find().toArray();
  session.commitTransaction();
  session.startTransaction();
  tx.insertOne({ t: 2, _id: 2 });
  session.abortTransaction();
  session.endSession();
  return [outside, app.stx.find().toArray()];
});
step("transactionFailedInside", () => {
  const session = db.getMongo().startSession();
  const tx = session.getDatabase("app").stx;
  session.startTransaction();
  try {
    tx.insertOne({ _id: 1 });
  } finally {
    session.endSession();
  }
});
step("rsStatus", () => Object.keys(rs.status()).sort());
step("dbStats", () => app.stats().ok);
step("serverStatus", () => "ok" in db.serverStatus());
step("explain", () => Object.keys(c.find({ a: 1 }).explain()).sort());
step("refreshSessions", () => admin.runCommand({ refreshSessions: [{ id: UUID() }] }));
step("startSession", () => admin.runCommand({ startSession: 1 }));
step("killOther", () => admin.runCommand({ killSessions: [{ id: UUID() }] }));
step("badSessionList", () => admin.runCommand({ killSessions: [{ id: 1 }] }));
step("killOwn", () => admin.runCommand({ killSessions: [] }));
step("after", () => c.countDocuments({}));
