// The official Go driver as load. Python tells it on stdin what to do, one JSON order a line; each
// order has one answer, a JSON line and, after a run, the latencies as little-endian float64.
//
// One driver client a name, with as many connections as goroutines: each sends an operation,
// waits for its end and sends the next, as in benchmarks/load.py.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

const (
	database  = "mongo_session_proxy_benchmark"
	documents = 1000
	batch     = 100
	wanted    = 350
	patience  = 30 * time.Second
)

type order struct {
	Order       string
	Name        string
	URI         string
	Workload    string
	Connections int
	Warm        float64
	Seconds     float64
}

type answer struct {
	Error     string `json:"error,omitempty"`
	Latencies int    `json:"latencies"`
}

// worker is one goroutine's share: done is called after each message that was answered.
type worker struct {
	client  *mongo.Client
	session *mongo.Session
	number  int
	place   int
	last    time.Time
	begin   time.Time
	end     time.Time
	counted []float64
}

func (w *worker) done() {
	now := time.Now()
	if !now.Before(w.begin) && now.Before(w.end) {
		w.counted = append(w.counted, now.Sub(w.last).Seconds())
	}
	w.last = now
}

func (w *worker) things() *mongo.Collection {
	return w.client.Database(database).Collection("things")
}

// varied and collections are as in benchmarks/messages.py: strings of 4 to 67 bytes, names of
// several lengths.
var collections = []string{"users", "orders", "events", "invoices", "customers", "shipments",
	"audit_log", "line_items"}

func varied(n int) string {
	return fmt.Sprintf("%04d%s", n, strings.Repeat("k", n*37%64))
}

func find(ctx context.Context, w *worker) error {
	w.place++
	_, err := w.things().FindOne(ctx, bson.D{{Key: "_id", Value: w.place % documents}}).Raw()
	w.done()
	return err
}

func findVaried(ctx context.Context, w *worker) error {
	w.place++
	n := w.place % documents
	_, err := w.client.Database(database).Collection(collections[n%len(collections)]).
		FindOne(ctx, bson.D{{Key: "_id", Value: varied(n)}}).Raw()
	w.done()
	return err
}

func insert(ctx context.Context, w *worker) error {
	_, err := w.client.Database(database).Collection("inserted").
		InsertOne(ctx, bson.D{{Key: "data", Value: strings.Repeat("y", 260)}})
	w.done()
	return err
}

func transaction(ctx context.Context, w *worker) error {
	if w.session == nil {
		session, err := w.client.StartSession()
		if err != nil {
			return err
		}
		w.session = session
	}
	mine := bson.D{{Key: "_id", Value: w.number}}
	change := bson.D{{Key: "$inc", Value: bson.D{{Key: "n", Value: 1}}}}
	return mongo.WithSession(ctx, w.session, func(ctx context.Context) error {
		if err := w.session.StartTransaction(); err != nil {
			return err
		}
		for range 2 {
			if _, err := w.things().UpdateOne(ctx, mine, change); err != nil {
				return err
			}
			w.done()
		}
		if _, err := w.things().FindOne(ctx, mine).Raw(); err != nil {
			return err
		}
		w.done()
		err := w.session.CommitTransaction(ctx)
		w.done()
		return err
	})
}

func getMore(ctx context.Context, w *worker) error {
	cursor, err := w.things().Find(ctx, bson.D{},
		options.Find().SetBatchSize(batch).SetLimit(wanted))
	if err != nil {
		return err
	}
	w.done()
	for cursor.RemainingBatchLength() > 0 {
		for range cursor.RemainingBatchLength() {
			cursor.Next(ctx)
		}
		// Asks for the next batch, where there is one.
		if cursor.ID() != 0 && cursor.Next(ctx) {
			w.done()
		}
	}
	if err := cursor.Err(); err != nil {
		return err
	}
	return cursor.Close(ctx)
}

var workloads = map[string]func(context.Context, *worker) error{
	"find":        find,
	"find-varied": findVaried,
	"insert":      insert,
	"transaction": transaction,
	"getMore":     getMore,
}

type load struct {
	client  *mongo.Client
	work    func(context.Context, *worker) error
	workers []*worker
}

func open(o order) (*load, error) {
	connections := uint64(o.Connections)
	client, err := mongo.Connect(options.Client().ApplyURI(o.URI).
		SetMaxPoolSize(connections).SetMinPoolSize(connections).SetAppName("benchmark").
		SetServerSelectionTimeout(patience))
	if err != nil {
		return nil, err
	}
	l := &load{client: client, work: workloads[o.Workload]}
	if l.work == nil {
		return nil, fmt.Errorf("no workload %q", o.Workload)
	}
	for n := range o.Connections {
		l.workers = append(l.workers, &worker{client: client, number: n, place: n * 17})
	}
	// Once through: what is measured is known to work.
	_, err = l.run(0, 0)
	return l, err
}

func (l *load) run(warm, seconds float64) ([]float64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	now := time.Now()
	begin := now.Add(time.Duration(warm * 1e9))
	end := begin.Add(time.Duration(seconds * 1e9))
	errors := make(chan error, len(l.workers))
	var group sync.WaitGroup
	for _, w := range l.workers {
		group.Add(1)
		go func() {
			defer group.Done()
			w.begin, w.end, w.last = begin, end, time.Now()
			w.counted = w.counted[:0]
			for {
				if err := l.work(ctx, w); err != nil {
					errors <- err
					return
				}
				if !time.Now().Before(end) {
					return
				}
			}
		}()
	}
	group.Wait()
	select {
	case err := <-errors:
		return nil, err
	default:
	}
	var all []float64
	for _, w := range l.workers {
		all = append(all, w.counted...)
	}
	return all, nil
}

func (l *load) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, w := range l.workers {
		if w.session != nil {
			w.session.EndSession(ctx)
		}
	}
	return l.client.Disconnect(ctx)
}

// seed makes the collections anew that the workloads read; clear drops them and what was inserted.
func seed(uri string, clear bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client, err := mongo.Connect(options.Client().ApplyURI(uri).SetServerSelectionTimeout(patience))
	if err != nil {
		return err
	}
	defer client.Disconnect(ctx)
	db := client.Database(database)
	if err := db.Drop(ctx); err != nil || clear {
		return err
	}
	var things []any
	many := map[string][]any{}
	for n := range documents {
		// Some 300 bytes with the rest of the reply, as in find-300B; and 30 to 800 bytes.
		things = append(things, bson.D{{Key: "_id", Value: n}, {Key: "n", Value: 7},
			{Key: "name", Value: strings.Repeat("x", 40)}, {Key: "data", Value: strings.Repeat("y", 40)}})
		name := collections[n%len(collections)]
		many[name] = append(many[name], bson.D{{Key: "_id", Value: varied(n)},
			{Key: "data", Value: strings.Repeat("y", n*71%770)}})
	}
	many["things"] = things
	for name, documents := range many {
		if _, err := db.Collection(name).InsertMany(ctx, documents); err != nil {
			return err
		}
	}
	return nil
}

func main() {
	// As the Python clients, which do not collect garbage while they count.
	debug.SetGCPercent(400)
	loads := map[string]*load{}
	out := bufio.NewWriter(os.Stdout)
	orders := json.NewDecoder(os.Stdin)
	for {
		var o order
		if orders.Decode(&o) != nil {
			return
		}
		var counted []float64
		var err error
		switch o.Order {
		case "seed", "clear":
			err = seed(o.URI, o.Order == "clear")
		case "open":
			loads[o.Name], err = open(o)
		case "run":
			counted, err = loads[o.Name].run(o.Warm, o.Seconds)
		case "close":
			err = loads[o.Name].close()
			delete(loads, o.Name)
		}
		a := answer{Latencies: len(counted)}
		if err != nil {
			a.Error = err.Error()
		}
		line, _ := json.Marshal(a)
		out.Write(append(line, '\n'))
		binary.Write(out, binary.LittleEndian, counted)
		out.Flush()
	}
}
