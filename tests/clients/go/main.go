// What the Go driver sees of a deployment: one JSON line per step, for comparison.
// usage: scenario URI, or for an application that just works: scenario steady URI WORKERS
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
)

type m = bson.M
type d = bson.D

// log collects the commands and topology events that the driver's own monitoring tells.
type log struct {
	mutex    sync.Mutex
	commands [][2]any
	servers  map[string]map[string]any
	pings    map[string]bool
}

func (l *log) add(name string, reply any) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.commands = append(l.commands, [2]any{name, reply})
}

func (l *log) take() [][2]any {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	taken := l.commands
	l.commands = nil
	return taken
}

func extended(value any) any {
	data, err := bson.MarshalExtJSON(m{"v": value}, true, false)
	if err != nil {
		return fmt.Sprint(value)
	}
	var wrapped map[string]json.RawMessage
	if err := json.Unmarshal(data, &wrapped); err != nil {
		return fmt.Sprint(value)
	}
	return wrapped["v"]
}

func emit(step string, saw any) {
	line, err := json.Marshal(map[string]any{"step": step, "saw": saw})
	if err != nil {
		panic(err)
	}
	fmt.Println(string(line))
}

func told(err error) any {
	result := map[string]any{"error": fmt.Sprintf("%T", err), "text": err.Error()}
	var server mongo.ServerError
	if errors.As(err, &server) {
		labels := []string{}
		for _, label := range []string{"TransientTransactionError", "RetryableWriteError",
			"UnknownTransactionCommitResult", "NetworkError"} {
			if server.HasErrorLabel(label) {
				labels = append(labels, label)
			}
		}
		result["labels"] = labels
	}
	var command mongo.CommandError
	if errors.As(err, &command) {
		result["code"], result["name"] = command.Code, command.Name
		result["raw"] = json.RawMessage("null")
		if command.Raw != nil {
			result["raw"] = extended(command.Raw)
		}
	}
	return result
}

type scenario struct {
	ctx    context.Context
	uri    string
	log    *log
	client *mongo.Client
	db     *mongo.Database
	c      *mongo.Collection
}

func (s *scenario) step(name string, run func() (any, error)) {
	s.log.take()
	saw, err := run()
	if err != nil {
		saw = told(err)
	} else if _, raw := saw.(json.RawMessage); !raw {
		saw = extended(saw)
	}
	commands := []any{}
	for _, command := range s.log.take() {
		commands = append(commands, []any{command[0], extended(command[1])})
	}
	emit(name, map[string]any{"result": saw, "commands": commands})
}

func (s *scenario) command(database string, command any) (any, error) {
	raw, err := s.client.Database(database).RunCommand(s.ctx, command).Raw()
	return raw, err
}

func (s *scenario) all(c *mongo.Collection, ctx context.Context, filter any,
	opts ...options.Lister[options.FindOptions]) ([]bson.Raw, error) {
	cursor, err := c.Find(ctx, filter, opts...)
	if err != nil {
		return nil, err
	}
	found := []bson.Raw{}
	return found, cursor.All(ctx, &found)
}

// failing tells what a client of its own sees while its commands fail as data says, once.
func (s *scenario) failing(data d, run func(*mongo.Collection) (any, error)) (any, error) {
	client, err := mongo.Connect(options.Client().ApplyURI(s.uri).SetAppName("failing").
		SetHeartbeatInterval(500 * time.Millisecond))
	if err != nil {
		return nil, err
	}
	defer client.Disconnect(s.ctx)
	if err := client.Ping(s.ctx, nil); err != nil {
		return nil, err
	}
	data = append(data, bson.E{"appName", "failing"})
	fail := d{{"configureFailPoint", "failCommand"}, {"mode", d{{"times", 1}}}, {"data", data}}
	if _, err := s.command("admin", fail); err != nil {
		return nil, err
	}
	defer s.command("admin", d{{"configureFailPoint", "failCommand"}, {"mode", "off"}})
	return run(client.Database("app").Collection("g"))
}

func (s *scenario) run() {
	s.step("topology", func() (any, error) {
		if err := s.client.Ping(s.ctx, nil); err != nil {
			return nil, err
		}
		deadline := time.Now().Add(120 * time.Second)
		for {
			s.log.mutex.Lock()
			servers := []any{}
			known := true
			for _, server := range s.log.servers {
				servers = append(servers, server)
				known = known && server["kind"] != "Unknown"
			}
			s.log.mutex.Unlock()
			if known && len(servers) > 0 || time.Now().After(deadline) {
				sort.Slice(servers, func(i, j int) bool {
					return servers[i].(map[string]any)["address"].(string) <
						servers[j].(map[string]any)["address"].(string)
				})
				return servers, nil
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	s.step("hello", func() (any, error) { return s.command("admin", d{{"hello", 1}}) })
	s.step("isMaster", func() (any, error) { return s.command("test", d{{"isMaster", 1}}) })
	s.step("who", func() (any, error) {
		return s.command("admin", d{{"connectionStatus", 1}, {"showPrivileges", true}})
	})
	s.step("drop", func() (any, error) {
		for _, name := range []string{"g", "gtx", "gw0"} {
			_ = s.db.Collection(name).Drop(s.ctx)
		}
		s.log.take()
		return nil, nil
	})
	s.step("insertOne", func() (any, error) {
		result, err := s.c.InsertOne(s.ctx, d{{"_id", 1}, {"a", 1}, {"s", "åß漢😀"}})
		if err != nil {
			return nil, err
		}
		return result.InsertedID, nil
	})
	s.step("insertMany", func() (any, error) {
		docs := []any{}
		for n := 2; n <= 200; n++ {
			docs = append(docs, d{{"_id", n}, {"a", n % 7}})
		}
		result, err := s.c.InsertMany(s.ctx, docs)
		if err != nil {
			return nil, err
		}
		return len(result.InsertedIDs), nil
	})
	for _, size := range []int32{1, 7, 50, 1000} {
		s.step(fmt.Sprint("batches of ", size), func() (any, error) {
			return s.all(s.c, s.ctx, d{}, options.Find().SetBatchSize(size).SetSort(d{{"_id", 1}}))
		})
	}
	s.step("changed batch size", func() (any, error) {
		cursor, err := s.c.Find(s.ctx, d{}, options.Find().SetBatchSize(2).SetSort(d{{"_id", 1}}))
		if err != nil {
			return nil, err
		}
		defer cursor.Close(s.ctx)
		for n := 0; n < 60; n++ {
			cursor.Next(s.ctx)
			cursor.SetBatchSize(int32(n + 1))
		}
		return cursor.Current, cursor.Err()
	})
	s.step("sort skip limit", func() (any, error) {
		return s.all(s.c, s.ctx, d{{"a", 3}},
			options.Find().SetSort(d{{"_id", -1}}).SetSkip(2).SetLimit(5))
	})
	s.step("aggregate", func() (any, error) {
		cursor, err := s.c.Aggregate(s.ctx, mongo.Pipeline{
			{{"$group", d{{"_id", "$a"}, {"n", d{{"$sum", 1}}}}}}, {{"$sort", d{{"_id", 1}}}}})
		if err != nil {
			return nil, err
		}
		found := []bson.Raw{}
		return found, cursor.All(s.ctx, &found)
	})
	s.step("counts", func() (any, error) {
		one, err := s.c.CountDocuments(s.ctx, d{{"a", 1}})
		if err != nil {
			return nil, err
		}
		all, err := s.c.EstimatedDocumentCount(s.ctx)
		return []int64{one, all}, err
	})
	s.step("update", func() (any, error) {
		return s.c.UpdateMany(s.ctx, d{{"a", 2}}, d{{"$inc", d{{"b", 1}}}})
	})
	s.step("upsert", func() (any, error) {
		return s.c.ReplaceOne(s.ctx, d{{"_id", 9000}}, d{{"b", 1}}, options.Replace().SetUpsert(true))
	})
	s.step("delete", func() (any, error) { return s.c.DeleteOne(s.ctx, d{{"_id", 9000}}) })
	s.step("find and update", func() (any, error) {
		return s.c.FindOneAndUpdate(s.ctx, d{{"_id", 2}}, d{{"$set", d{{"z", 1}}}}).Raw()
	})
	s.step("bulk", func() (any, error) {
		_, err := s.c.BulkWrite(s.ctx, []mongo.WriteModel{
			mongo.NewInsertOneModel().SetDocument(d{{"_id", 1000}}),
			mongo.NewUpdateOneModel().SetFilter(d{{"_id", 1000}}).SetUpdate(d{{"$set", d{{"x", 1}}}}),
			mongo.NewInsertOneModel().SetDocument(d{{"_id", 1000}}),
			mongo.NewDeleteOneModel().SetFilter(d{{"_id", 1000}}),
		})
		return nil, err
	})
	s.step("bulk unordered", func() (any, error) {
		_, err := s.c.BulkWrite(s.ctx, []mongo.WriteModel{
			mongo.NewInsertOneModel().SetDocument(d{{"_id", 1001}}),
			mongo.NewInsertOneModel().SetDocument(d{{"_id", 1001}}),
			mongo.NewDeleteManyModel().SetFilter(d{{"_id", d{{"$gte", 1000}}}}),
		}, options.BulkWrite().SetOrdered(false))
		return nil, err
	})
	s.step("duplicate key", func() (any, error) { return s.c.InsertOne(s.ctx, d{{"_id", 1}}) })
	s.step("unknown command", func() (any, error) {
		return s.command("app", d{{"noSuchCommand", 1}})
	})
	s.step("bad operator", func() (any, error) {
		return s.all(s.c, s.ctx, d{{"a", d{{"$noSuchOperator", 1}}}})
	})
	s.step("killed cursor", func() (any, error) {
		cursor, err := s.c.Find(s.ctx, d{}, options.Find().SetBatchSize(2).SetSort(d{{"_id", 1}}))
		if err != nil {
			return nil, err
		}
		defer cursor.Close(s.ctx)
		cursor.Next(s.ctx)
		cursor.Next(s.ctx)
		if _, err := s.command("app", d{{"killCursors", "g"}, {"cursors", bson.A{cursor.ID()}}}); err != nil {
			return nil, err
		}
		return cursor.Next(s.ctx), cursor.Err()
	})
	s.step("unknown cursor", func() (any, error) {
		return s.command("app", d{{"getMore", int64(12345678901)}, {"collection", "g"}})
	})
	s.step("unacknowledged", func() (any, error) {
		client, err := mongo.Connect(options.Client().ApplyURI(s.uri).SetMaxPoolSize(1))
		if err != nil {
			return nil, err
		}
		defer client.Disconnect(s.ctx)
		acknowledged := client.Database("app").Collection("gw0")
		w0 := client.Database("app").Collection("gw0",
			options.Collection().SetWriteConcern(writeconcern.Unacknowledged()))
		for n := 0; n < 20; n++ {
			if _, err := w0.InsertOne(s.ctx, d{{"_id", n}}); err != nil {
				return nil, err
			}
		}
		_, _ = w0.InsertOne(s.ctx, d{{"_id", 1}})
		_, _ = w0.DeleteOne(s.ctx, d{{"_id", 3}})
		return acknowledged.CountDocuments(s.ctx, d{})
	})
	s.step("write concern error", func() (any, error) {
		c := s.db.Collection("g", options.Collection().SetWriteConcern(&writeconcern.WriteConcern{W: 9}))
		return c.InsertOne(s.ctx, d{{"_id", "w9"}})
	})
	s.step("transaction", func() (any, error) {
		if err := s.db.CreateCollection(s.ctx, "gtx"); err != nil {
			return nil, err
		}
		tx := s.db.Collection("gtx")
		session, err := s.client.StartSession()
		if err != nil {
			return nil, err
		}
		defer session.EndSession(s.ctx)
		var inside, outside []bson.Raw
		err = mongo.WithSession(s.ctx, session, func(ctx context.Context) error {
			if err := session.StartTransaction(); err != nil {
				return err
			}
			if _, err := tx.InsertOne(ctx, d{{"_id", 1}}); err != nil {
				return err
			}
			if inside, err = s.all(tx, ctx, d{}); err != nil {
				return err
			}
			if outside, err = s.all(tx, s.ctx, d{}); err != nil {
				return err
			}
			return session.CommitTransaction(ctx)
		})
		return []any{inside, outside}, err
	})
	s.step("transaction aborted", func() (any, error) {
		tx := s.db.Collection("gtx")
		session, err := s.client.StartSession()
		if err != nil {
			return nil, err
		}
		defer session.EndSession(s.ctx)
		err = mongo.WithSession(s.ctx, session, func(ctx context.Context) error {
			_ = session.StartTransaction(options.Transaction().SetReadConcern(readconcern.Snapshot()))
			if _, err := tx.InsertOne(ctx, d{{"_id", 2}}); err != nil {
				return err
			}
			return session.AbortTransaction(ctx)
		})
		if err != nil {
			return nil, err
		}
		return s.all(tx, s.ctx, d{})
	})
	s.step("transaction failed inside", func() (any, error) {
		tx := s.db.Collection("gtx")
		session, err := s.client.StartSession()
		if err != nil {
			return nil, err
		}
		defer session.EndSession(s.ctx)
		return session.WithTransaction(s.ctx, func(ctx context.Context) (any, error) {
			return tx.InsertOne(ctx, d{{"_id", 1}})
		})
	})
	s.step("transaction retried", func() (any, error) {
		tx := s.db.Collection("gtx")
		session, err := s.client.StartSession()
		if err != nil {
			return nil, err
		}
		defer session.EndSession(s.ctx)
		attempts := 0
		return session.WithTransaction(s.ctx, func(ctx context.Context) (any, error) {
			attempts++
			if _, err := tx.InsertOne(ctx, d{{"_id", fmt.Sprint("try ", attempts)}}); err != nil {
				return nil, err
			}
			if attempts < 3 {
				return nil, mongo.CommandError{Labels: []string{"TransientTransactionError"}}
			}
			return attempts, nil
		})
	})
	s.step("retried write", func() (any, error) {
		id := bson.Binary{Subtype: 4, Data: make([]byte, 16)}
		object := bson.NewObjectID()
		copy(id.Data, object[:])
		command := d{{"insert", "g"}, {"documents", bson.A{d{{"_id", "retry"}}}},
			{"lsid", d{{"id", id}}}, {"txnNumber", int64(1)}}
		if _, err := s.command("app", command); err != nil {
			return nil, err
		}
		return s.command("app", command)
	})
	s.step("hang up on write", func() (any, error) {
		return s.failing(d{{"failCommands", bson.A{"insert"}}, {"closeConnection", true}},
			func(c *mongo.Collection) (any, error) { return c.InsertOne(s.ctx, d{{"_id", "f1"}}) })
	})
	s.step("not primary", func() (any, error) {
		return s.failing(d{{"failCommands", bson.A{"insert"}}, {"errorCode", 10107},
			{"errorLabels", bson.A{"RetryableWriteError"}}},
			func(c *mongo.Collection) (any, error) { return c.InsertOne(s.ctx, d{{"_id", "f2"}}) })
	})
	s.step("hang up on read", func() (any, error) {
		return s.failing(d{{"failCommands", bson.A{"find"}}, {"closeConnection", true}},
			func(c *mongo.Collection) (any, error) { return c.FindOne(s.ctx, d{{"_id", 1}}).Raw() })
	})
	s.step("write concern failed", func() (any, error) {
		return s.failing(d{{"failCommands", bson.A{"insert"}},
			{"writeConcernError", d{{"code", 64}, {"errmsg", "waiting timed out"}}}},
			func(c *mongo.Collection) (any, error) { return c.InsertOne(s.ctx, d{{"_id", "f3"}}) })
	})
	s.step("refresh and end", func() (any, error) {
		session, err := s.client.StartSession()
		if err != nil {
			return nil, err
		}
		defer session.EndSession(s.ctx)
		id := bson.A{session.ID()}
		if _, err := s.command("admin", d{{"refreshSessions", id}}); err != nil {
			return nil, err
		}
		return s.command("admin", d{{"endSessions", id}})
	})
	s.step("start session", func() (any, error) { return s.command("admin", d{{"startSession", 1}}) })
	s.step("bad session list", func() (any, error) {
		return s.command("admin", d{{"killSessions", bson.A{d{{"id", 1}}}}})
	})
	s.step("large", func() (any, error) {
		_, err := s.c.InsertOne(s.ctx, d{{"_id", "large"}, {"s", strings.Repeat("y", 10_000_000)}})
		if err != nil {
			return nil, err
		}
		raw, err := s.c.FindOne(s.ctx, d{{"_id", "large"}}).Raw()
		s.log.take()
		return len(raw), err
	})
	s.step("wrong password", func() (any, error) {
		client, err := mongo.Connect(options.Client().ApplyURI(s.uri).
			SetAuth(options.Credential{Username: "alice", Password: "wrong", AuthSource: "app"}))
		if err != nil {
			return nil, err
		}
		defer client.Disconnect(s.ctx)
		return nil, client.Ping(s.ctx, nil)
	})
	s.step("parallel", func() (any, error) {
		var group sync.WaitGroup
		wrong := make(chan string, 1000)
		for n := 2; n < 102; n++ {
			group.Add(1)
			go func() {
				defer group.Done()
				raw, err := s.c.FindOne(s.ctx, d{{"_id", n}}).Raw()
				if err != nil || raw.Lookup("_id").AsInt64() != int64(n) {
					wrong <- fmt.Sprint(n, raw, err)
				}
			}()
		}
		group.Wait()
		close(wrong)
		found := []string{}
		for text := range wrong {
			found = append(found, text)
		}
		s.log.take()
		return found, nil
	})
	s.step("heartbeats", func() (any, error) {
		s.log.mutex.Lock()
		defer s.log.mutex.Unlock()
		hosts := []string{}
		for host := range s.log.pings {
			hosts = append(hosts, host)
		}
		sort.Strings(hosts)
		return hosts, nil
	})
}

func main() {
	l := &log{servers: map[string]map[string]any{}, pings: map[string]bool{}}
	commands := &event.CommandMonitor{
		Succeeded: func(_ context.Context, e *event.CommandSucceededEvent) {
			l.add(e.CommandName, e.Reply)
		},
		Failed: func(_ context.Context, e *event.CommandFailedEvent) {
			l.add(e.CommandName, e.Failure.Error())
		},
	}
	servers := &event.ServerMonitor{
		ServerDescriptionChanged: func(e *event.ServerDescriptionChangedEvent) {
			l.mutex.Lock()
			defer l.mutex.Unlock()
			n := e.NewDescription
			l.servers[string(n.Addr)] = map[string]any{
				"address": string(n.Addr), "kind": n.Kind, "hosts": n.Hosts, "passives": n.Passives,
				"primary": string(n.Primary), "me": string(n.CanonicalAddr), "set": n.SetName,
			}
		},
		ServerClosed: func(e *event.ServerClosedEvent) {
			l.mutex.Lock()
			defer l.mutex.Unlock()
			delete(l.servers, string(e.Address))
		},
		ServerHeartbeatStarted: func(e *event.ServerHeartbeatStartedEvent) {
			host, _, _ := strings.Cut(e.ConnectionID, "[")
			l.mutex.Lock()
			defer l.mutex.Unlock()
			l.pings[host] = true
		},
	}
	if len(os.Args) == 4 && os.Args[1] == "steady" {
		workers, err := strconv.Atoi(os.Args[3])
		if err != nil {
			panic(err)
		}
		steady(os.Args[2], workers)
		return
	}
	uri := os.Args[1]
	client, err := mongo.Connect(options.Client().ApplyURI(uri).SetMonitor(commands).
		SetServerMonitor(servers))
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	db := client.Database("app")
	s := &scenario{ctx: ctx, uri: uri, log: l, client: client, db: db, c: db.Collection("g")}
	s.run()
	l.take()
	if err := client.Disconnect(ctx); err != nil {
		panic(err)
	}
	closed := []any{}
	for _, command := range l.take() {
		closed = append(closed, []any{command[0], extended(command[1])})
	}
	emit("closed", closed)
}
