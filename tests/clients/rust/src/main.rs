//! What the Rust driver sees of a deployment: one JSON line per step, for comparison.
//! usage: scenario URI

use std::sync::{Arc, Mutex};

use mongodb::bson::{doc, Bson, Document};
use mongodb::error::{Error, ErrorKind, Result};
use mongodb::event::command::CommandEvent;
use mongodb::event::EventHandler;
use mongodb::options::{ClientOptions, WriteConcern};
use mongodb::sync::{Client, Collection, Database};

type Log = Arc<Mutex<Vec<Bson>>>;

fn emit(step: &str, saw: Bson) {
    let line = Bson::Document(doc! { "step": step, "saw": saw });
    println!("{}", line.into_canonical_extjson());
}

fn told(error: &Error) -> Bson {
    let mut labels: Vec<String> = error.labels().iter().cloned().collect();
    labels.sort();
    let kind = match error.kind.as_ref() {
        ErrorKind::Command(command) => format!("{} {}", command.code, command.message),
        other => format!("{other}"),
    };
    Bson::Document(doc! { "error": kind, "labels": labels })
}

struct Scenario {
    options: ClientOptions,
    log: Log,
    client: Client,
    db: Database,
    c: Collection<Document>,
}

impl Scenario {
    fn new(uri: &str) -> Result<Self> {
        let log: Log = Log::default();
        let mut options = ClientOptions::parse(uri).run()?;
        let seen = log.clone();
        options.command_event_handler = Some(EventHandler::callback(move |event| match event {
            CommandEvent::Succeeded(event) => seen
                .lock()
                .unwrap()
                .push(Bson::Array(vec![event.command_name.into(), event.reply.into()])),
            CommandEvent::Failed(event) => seen
                .lock()
                .unwrap()
                .push(Bson::Array(vec![event.command_name.into(), told(&event.failure)])),
            _ => (),
        }));
        let client = Client::with_options(options.clone())?;
        let db = client.database("app");
        let c = db.collection("r");
        Ok(Self { options, log, client, db, c })
    }

    fn take(&self) -> Vec<Bson> {
        std::mem::take(&mut self.log.lock().unwrap())
    }

    fn step<T: Into<Bson>>(&self, name: &str, run: impl FnOnce() -> Result<T>) {
        self.take();
        let saw = run().map(Into::into).unwrap_or_else(|error| told(&error));
        emit(name, Bson::Document(doc! { "result": saw, "commands": self.take() }));
    }

    fn all(&self, filter: Document, size: u32) -> Result<Vec<Document>> {
        self.c.find(filter).sort(doc! { "_id": 1 }).batch_size(size).run()?.collect()
    }

    fn run(&self) {
        let admin = self.client.database("admin");
        self.step("hello", || admin.run_command(doc! { "hello": 1 }).run());
        self.step("isMaster", || self.db.run_command(doc! { "isMaster": 1 }).run());
        self.step("who", || {
            admin.run_command(doc! { "connectionStatus": 1, "showPrivileges": true }).run()
        });
        self.step("drop", || {
            for name in ["r", "rtx", "rw0"] {
                let _ = self.db.collection::<Document>(name).drop().run();
            }
            self.take();
            Ok(Bson::Null)
        });
        self.step("insertMany", || {
            let docs: Vec<Document> = (1..=200).map(|n| doc! { "_id": n, "a": n % 7 }).collect();
            Ok(self.c.insert_many(docs).run()?.inserted_ids.len() as i64)
        });
        for size in [1, 7, 50, 1000] {
            self.step(&format!("batches of {size}"), || self.all(doc! {}, size));
        }
        self.step("aggregate", || {
            let group = doc! { "$group": { "_id": "$a", "n": { "$sum": 1 } } };
            let stages = vec![group, doc! { "$sort": { "_id": 1 } }];
            self.c.aggregate(stages).run()?.collect::<Result<Vec<Document>>>()
        });
        self.step("update", || {
            let done = self.c.update_many(doc! { "a": 2 }, doc! { "$inc": { "b": 1 } }).run()?;
            Ok(vec![done.matched_count as i64, done.modified_count as i64])
        });
        self.step("findOneAndUpdate", || {
            self.c.find_one_and_update(doc! { "_id": 2 }, doc! { "$set": { "z": 1 } }).run()
        });
        self.step("deleteOne", || {
            Ok(self.c.delete_one(doc! { "_id": 200 }).run()?.deleted_count as i64)
        });
        self.step("duplicateKey", || Ok(self.c.insert_one(doc! { "_id": 1 }).run()?.inserted_id));
        self.step("unknownCommand", || self.db.run_command(doc! { "noSuchCommand": 1 }).run());
        self.step("badOperator", || self.all(doc! { "a": { "$noSuchOperator": 1 } }, 10));
        self.step("unknownCursor", || {
            self.db.run_command(doc! { "getMore": 12345678901_i64, "collection": "r" }).run()
        });
        self.step("unacknowledged", || {
            let mut options = self.options.clone();
            options.command_event_handler = None;
            options.max_pool_size = Some(1);
            let client = Client::with_options(options)?;
            let c = client.database("app").collection::<Document>("rw0");
            for n in 0..20 {
                c.insert_one(doc! { "_id": n }).write_concern(WriteConcern::nodes(0)).run()?;
            }
            let _ = c.insert_one(doc! { "_id": 1 }).write_concern(WriteConcern::nodes(0)).run();
            Ok(c.count_documents(doc! {}).run()? as i64)
        });
        let tx = self.db.collection::<Document>("rtx");
        self.step("transaction", || {
            self.db.create_collection("rtx").run()?;
            let mut session = self.client.start_session().run()?;
            session.start_transaction().run()?;
            tx.insert_one(doc! { "_id": 1 }).session(&mut session).run()?;
            let outside = tx.count_documents(doc! {}).run()? as i64;
            session.commit_transaction().run()?;
            session.start_transaction().run()?;
            tx.insert_one(doc! { "_id": 2 }).session(&mut session).run()?;
            session.abort_transaction().run()?;
            Ok(vec![outside, tx.count_documents(doc! {}).run()? as i64])
        });
        self.step("transactionFailedInside", || {
            let mut session = self.client.start_session().run()?;
            session.start_transaction().run()?;
            let inserted = tx.insert_one(doc! { "_id": 1 }).session(&mut session).run();
            // Otherwise the driver does so in its own time.
            let _ = session.abort_transaction().run();
            Ok(inserted?.inserted_id)
        });
        self.step("startSession", || admin.run_command(doc! { "startSession": 1 }).run());
        self.step("badSessionList", || {
            admin.run_command(doc! { "killSessions": [{ "id": 1 }] }).run()
        });
        self.step("large", || {
            self.c.insert_one(doc! { "_id": "large", "s": "y".repeat(10_000_000) }).run()?;
            let found = self.c.find_one(doc! { "_id": "large" }).run()?.unwrap_or_default();
            self.take();
            Ok(found.get_str("s").map(str::len).unwrap_or_default() as i64)
        });
    }
}

fn main() -> Result<()> {
    let uri = std::env::args().nth(1).expect("a URI");
    Scenario::new(&uri)?.run();
    Ok(())
}
