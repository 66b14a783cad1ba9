// An application that works steadily until its stdin ends, and then says what it saw: one JSON line
// of how much was done and of every error that came out of the driver.
// usage: NODE_PATH=… node steady.cjs URI WORKERS
"use strict";

const { MongoClient } = require("mongodb");

const [uri, workers] = process.argv.slice(2);
const client = new MongoClient(uri, { heartbeatFrequencyMS: 500, appName: "steady" });
const shop = client.db("shop");
const errors = [];
let done = 0;
let going = true;

const kinds = [
  // A cursor of several batches: no driver sends getMore again.
  async () => shop.collection("orders").find({}, { batchSize: 10 }).limit(45).toArray(),
  async (n) => shop.collection("orders").updateOne({ n: n % 50 }, { $set: { n } }, { upsert: true }),
  // What is sent by hand is sent once, and so are writes of many documents.
  async () => client.db("admin").command({ ping: 1 }),
  async (n) => shop.collection("many").deleteMany({ n }),
  async (n) =>
    client.withSession((session) =>
      session.withTransaction(async () => {
        await shop.collection("stock").insertOne({ n }, { session });
        await shop.collection("moves").insertOne({ n }, { session });
      }),
    ),
];

async function work(worker) {
  for (let n = worker; going; n += 1) {
    try {
      await kinds[n % kinds.length](n);
    } catch (error) {
      errors.push(`kind ${n % kinds.length}: ${error.name}: ${error.message}`);
    }
    done += 1;
  }
}

async function main() {
  process.stdin.on("end", () => (going = false)).resume();
  await Promise.all(Array.from({ length: Number(workers) }, (_, worker) => work(worker)));
  await client.close();
  console.log(JSON.stringify({ done, errors }));
}

main();
